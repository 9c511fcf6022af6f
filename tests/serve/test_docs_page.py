"""The page /docs in Chromium: its headers must allow what the page itself needs."""

import pytest
from playwright.sync_api import expect

from engine.serve import keys
from tests.support.browser import chromium
from tests.support.pictures import encode, picture
from tests.support.serve import Fake, served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not chromium(), reason="needs a browser: apt-get install chromium"),
]


@pytest.mark.parametrize("needs_key", [False, True])
def test_the_form_classifies_in_a_browser_which_asks_for_the_key(needs_key, tmp_path, browser):
    key = keys.create(tmp_path, "laptop", list(keys.SCOPES))
    known = keys.Keys(tmp_path) if needs_key else None
    person = {"http_credentials": {"username": "me", "password": key}} if needs_key else {}
    with served(Fake(tmp_path), keys=known) as (port, _), browser.new_context(**person) as context:
        page, problems = context.new_page(), []
        page.on("console", lambda message: problems.append(message.text))
        page.goto(f"http://127.0.0.1:{port}/")
        expect(page.get_by_role("heading", name="Graft: fake")).to_be_visible()
        assert page.locator("body").evaluate("e => getComputedStyle(e).maxWidth") == "800px"
        image = {"name": "a.png", "mimeType": "image/png", "buffer": encode(picture())}
        page.get_by_label("Images").set_input_files(image)
        page.get_by_role("button", name="Classify").click()
        expect(page.locator("body")).to_contain_text('"label":"red"')
        # Chromium asks for an icon, and says so of the first request without a key.
        assert [each for each in problems if "status of 40" not in each] == []
