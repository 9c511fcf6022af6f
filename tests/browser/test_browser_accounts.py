"""Signing in and out, the end of a session while a page is open, and refused uploads."""

import os

import pytest
from playwright.sync_api import expect

from engine import home as homes
from engine.accounts import users
from engine.host import settings
from tests.support.browser import chromium, server
from tests.support.gate import PASSWORD, people

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not chromium(), reason="no Chromium"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    found = homes.home(tmp_path_factory.mktemp("accounts") / "home")
    people(found)
    settings.change(found, upload_session_mb=4)
    return found


@pytest.fixture(scope="module")
def address(home, tmp_path_factory):
    with server(home, tmp_path_factory.mktemp("log") / "log") as (found, _):
        yield found


def sign_in(page, name, password=PASSWORD):
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_signing_in_and_out_on_a_phone(page, address, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/runs?run=a")
    expect(page.get_by_label("Name")).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    sign_in(page, "vera", "wrong")
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    expect(page.get_by_label("Name")).to_have_value("vera")
    expect(page.get_by_label("Password")).to_be_focused()
    sign_in(page, "vera")
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    assert page.url.startswith(f"{address}/runs")
    page.get_by_role("button", name="Open sidebar").or_(
        page.get_by_test_id("stExpandSidebarButton")
    ).first.click()
    expect(page.get_by_text("vera · viewer")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    page.go_back()  # shows no page of before
    expect(page.get_by_label("Password")).to_be_visible()


def test_each_role_finds_what_it_may_use(page, address):
    refusal = page.get_by_text("the role trainer is needed; vera has the role viewer")
    users_list = page.get_by_text("Users", exact=True)
    for name in ("vera", "tom", "ada"):
        page.context.clear_cookies()
        page.goto(f"{address}/train")
        sign_in(page, name)
        expect(page.get_by_role("heading", name="Train", exact=True)).to_be_visible()
        if name == "vera":
            expect(refusal).to_be_visible()
        else:  # what follows the refusal's place
            expect(page.get_by_role("button", name="Start training")).to_be_visible()
            expect(page.get_by_text("has the role viewer")).to_have_count(0)
        page.goto(f"{address}/runs")
        expect(page.get_by_text("No runs yet.")).to_be_visible()
        if name == "ada":
            expect(users_list).to_be_visible()
        else:
            expect(page.get_by_text(f"{name} · ")).to_be_visible()
            expect(users_list).to_have_count(0)


def test_a_page_whose_user_is_removed_shows_the_sign_in_page(page, home, address):
    users.add(home, "eve", "viewer", PASSWORD)
    page.goto(f"{address}/runs")
    sign_in(page, "eve")
    expect(page.get_by_text("eve · viewer")).to_be_visible()
    users.remove(home, "eve")
    expect(page.get_by_label("Password")).to_be_visible()  # without a click
    assert page.url == f"{address}/sign-in?next=%2Fruns"


def test_a_refused_upload_is_explained_and_a_page_that_is_left_holds_none(page, address, tmp_path):
    small, large = tmp_path / "small.zip", tmp_path / "large.zip"
    small.write_bytes(os.urandom(3_000_000))
    large.write_bytes(os.urandom(5_000_000))
    page.goto(f"{address}/runs")
    sign_in(page, "ada")
    page.get_by_text("Import a run or a model from elsewhere").click()
    field = page.locator("input[type=file]").first
    field.set_input_files(large)
    expect(page.get_by_test_id("stToast")).to_contain_text("One page may hold 4.0 MB of uploads")
    with page.expect_response("**/upload_file/**") as answered:
        field.set_input_files(small)
    assert answered.value.status == 204
    expect(page.get_by_role("button", name="Import", exact=True)).to_be_enabled()
    page.get_by_role("link", name="Dataset").click()
    expect(page.get_by_role("heading", name="Dataset", exact=True)).to_be_visible()
    page.get_by_role("link", name="Runs").click()
    page.get_by_text("Import a run or a model from elsewhere").click()
    with page.expect_response("**/upload_file/**") as answered:
        page.locator("input[type=file]").first.set_input_files(small)
    assert answered.value.status == 204
