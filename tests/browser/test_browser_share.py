"""Share links in Chromium: the sharer's tab, a guest's phone, the wall."""

import re
import shutil
import sqlite3

import pytest
from playwright.sync_api import expect

from engine import actions
from engine import home as homes
from engine.accounts import users
from engine.predict import guests
from engine.runs import runs
from tests.support.browser import chromium, server
from tests.support.gate import App
from tests.support.pictures import picture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not chromium(), reason="needs a browser: apt-get install chromium"),
]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    """The trained run in a home of this module, which gets accounts."""
    home = homes.home(tmp_path_factory.mktemp("share"))
    shutil.copytree(trained_run.path, home / homes.RUNS / trained_run.id)
    return runs.get_run(home, trained_run.id)


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    """The address of a server on that home."""
    with server(run.home, tmp_path_factory.mktemp("log") / "server.log") as (found, _):
        yield found


@pytest.fixture
def phone(browser):
    """A page of a phone, and what its console said."""
    context = browser.new_context(**PHONE)
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def send(phone, path):
    """Chooses a photo on the guest page and waits for what is said about it."""
    phone.locator("input[type=file]").nth(1).set_input_files(str(path))
    expect(phone.locator("#working")).to_be_hidden()


def test_a_link_is_created_used_on_a_phone_shown_on_the_wall_and_revoked(
    address, run, page, phone, context, tmp_path
):
    page.goto(f"{address}/runs?run={run.id}")
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.get_by_role("tab", name="Share", selected=True)).to_be_visible()
    page.get_by_test_id("stCheckbox").filter(has_text="Wall").locator("label").click()
    page.get_by_role("button", name="Create a link").click()
    expect(page.get_by_role("img", name="QR code of the link")).to_be_visible()
    expect(page.get_by_text("Phones cannot open 127.0.0.1")).to_be_visible()
    link = page.get_by_test_id("stCode").inner_text().strip()
    assert link.startswith(f"{address}/s/")
    wall = context.new_page()
    wall.goto(page.get_by_role("link", name="Open the wall").get_attribute("href"))
    expect(wall.get_by_text("Waiting for the first photo")).to_be_visible()
    expect(wall.get_by_role("img", name=f"QR code of {link}")).to_be_visible()

    faults = []
    phone.on("console", lambda said: faults.append(said.text))
    phone.on("pageerror", lambda error: faults.append(str(error)))
    phone.goto(link)
    expect(phone.get_by_role("heading", name=run.recipe.name)).to_be_visible()
    expect(phone.get_by_text("Take a photo")).to_be_visible()
    expect(phone.get_by_text("Your photos are not kept.")).to_be_visible()
    send(phone, run.examples()[0]["path"])
    heading = phone.locator("#heading").inner_text()
    assert heading.removeprefix("perhaps ") in [*run.classes, "none of these"]
    expect(phone.locator("#top li")).to_have_count(3)
    expect(phone.get_by_text("99 photos left")).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not faults  # the policy of the page stops nothing that it needs

    hung = wall.locator("article")
    expect(hung).to_have_count(1)
    expect(hung.locator("h2")).to_contain_text(heading)
    picture(800, 600, seed=5).save(tmp_path / "odd.png")
    send(phone, tmp_path / "odd.png")
    expect(hung).to_have_count(2)
    (tmp_path / "words.jpg").write_text("no image")
    send(phone, tmp_path / "words.jpg")
    expect(phone.get_by_text("It counts as one of this link's photos.")).to_be_visible()

    # The sharer takes one picture down, then ends the link.
    page.get_by_role("button", name="Wall pictures").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".graft-tile img")).to_have_count(2)
    dialog.locator(".graft-tile").first.click()
    dialog.get_by_role("button", name="Take down 1 picture").click()
    expect(hung).to_have_count(1)
    expect(hung.locator("h2")).to_contain_text(heading)
    dialog.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("img", name="QR code of the link")).to_have_count(0)
    ended = re.compile("This link has expired or was revoked")
    expect(wall.get_by_text(ended)).to_be_visible()
    expect(hung).to_have_count(0)
    send(phone, run.examples()[0]["path"])
    expect(phone.get_by_text(ended)).to_be_visible()
    expect(phone.get_by_text("Take a photo")).to_be_hidden()
    expect(phone.get_by_text("photos left")).to_be_hidden()
    phone.reload()
    expect(phone.get_by_text(ended)).to_be_visible()


def test_a_link_that_expires_while_it_is_open_says_so(address, run, phone):
    _, token, _ = actions.share(run, hours=1)
    link, _ = guests.links(address, token)
    phone.goto(link)
    expect(phone.get_by_text("Take a photo")).to_be_visible()
    with sqlite3.connect(run.home / homes.ACCOUNTS) as accounts:  # its hour is over
        accounts.execute("UPDATE shares SET expires = created")
    accounts.close()
    phone.locator("input[type=file]").nth(1).set_input_files(str(run.examples()[0]["path"]))
    expect(phone.get_by_text("expired or was revoked")).to_be_visible()
    expect(phone.get_by_text("Take a photo")).to_be_hidden()
    phone.reload()
    expect(phone.get_by_text("expired or was revoked")).to_be_visible()


def test_a_guest_of_a_home_with_accounts_reaches_the_link_alone(address, run, phone):
    users.add(run.home, "root", "admin", "correct horse battery")
    _, token, _ = actions.share(run, uses=1, collect=True)
    link, _ = guests.links(address, token)
    phone.goto(link)
    expect(phone.get_by_text("Your photos are kept by")).to_be_visible()
    send(phone, run.examples()[0]["path"])
    expect(phone.get_by_text("This photo was kept.")).to_be_visible()
    expect(phone.get_by_text("That was the last photo of this link.")).to_be_visible()
    expect(phone.get_by_text("Take a photo")).to_be_hidden()
    assert len(actions.guest_images(run)) == 1

    for path in ("/", "/test", "/_stcore/metrics", "/thumbs/sample/" + 64 * "0", "/s", "/wall"):
        answer = phone.request.get(f"{address}{path}", max_redirects=0)
        assert answer.status in (303, 401, 404), path
    phone.goto(f"{address}/test")
    expect(phone.get_by_text("Password")).to_be_visible()
    app = App(address)
    assert app.sent_away()
    # Only this page itself may send images with the token.
    for origin in (None, "http://evil.example"):
        assert app.ask("POST", f"/s/{token}/classify", Origin=origin)[0] == 403
