"""Patience for the tests of this folder."""

import pytest
from playwright.sync_api import expect


@pytest.fixture(autouse=True)
def patience(page):
    """A shared machine with two cores is slow now and then."""
    expect.set_options(timeout=60_000)
    page.set_default_timeout(60_000)
