"""The queue as a user meets it, in Chromium: several runs, one host, nothing lost."""

import re

import pytest
from playwright.sync_api import expect

from engine import GraftError
from engine import home as homes
from engine.jobs import jobs
from engine.runs import queue, runs

# Fixtures: what Chromium is started with, and patience.
from tests.support.browser import TRAINING, chromium, server, title

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not chromium(), reason="needs a browser: apt-get install chromium"),
]


@pytest.fixture
def home(tmp_path):
    """A home of the story's own, in which nothing runs when it is over."""
    folder = homes.home(tmp_path / "home")
    yield folder
    for run in reversed(jobs.active(folder)):  # the waiting ones first, or they would start
        try:
            jobs.kill(run)
        except GraftError:  # it has ended by itself
            pass


def offer(page, address, name, epochs):
    """Opens Train with a recipe that is ready to start, whatever else runs."""
    page.goto(
        f"{address}/train?preset=sample&set=name={name}"
        f"&set=stages.0.epochs={epochs}&set=stages.1.epochs={epochs}"
    )
    expect(title(page, "Train")).to_be_visible()


def shown(page, name):
    """Waits until the page shows the run of a name, and returns its id from the address."""
    expect(page.get_by_role("heading", name=re.compile(f"^{name} · "), level=3)).to_be_visible()
    page.wait_for_url(re.compile(r"run="))
    return re.search(r"run=([\w.-]+)", page.url)[1]


def test_runs_wait_are_reordered_cancelled_paused_and_resumed(home, tmp_path, page):
    with server(home, tmp_path / "server.log") as (address, _):
        offer(page, address, "first", 1000)
        page.get_by_role("button", name="Start training").click()
        first = shown(page, "first")
        expect(page.get_by_text(re.compile("step [1-9][0-9]* of"))).to_be_visible(timeout=TRAINING)

        # Two more, from the same tab; a double click queues one run.
        for place, name in ((1, "second"), (2, "third")):
            offer(page, address, name, 900 + place)
            page.get_by_role("button", name="New run").click()
            page.get_by_role("button", name="Add to the queue").dblclick()
            shown(page, name)
            expect(page.get_by_text(f"Place {place} of {place} in the queue")).to_be_visible()
        assert len(queue.waiting(home)) == 2

        # On Runs the third goes first, and the second is not wanted any more.
        page.get_by_role("link", name="Runs", exact=True).click()
        expect(page.get_by_role("heading", name="Queue")).to_be_visible()
        second, third = queue.waiting(home)
        expect(page.get_by_text("2. third")).to_be_visible()
        page.locator(f".st-key-first_{third} button").first.click()
        expect(page.get_by_text("1. third")).to_be_visible()
        assert queue.waiting(home) == [third, second]
        page.locator(f".st-key-cancel_{second} button").first.click()
        expect(page.get_by_text(re.compile("2[.] second"))).to_have_count(0)
        assert runs.get_run(home, second).status == "stopped"

        # Paused, the first makes room for the third.
        page.goto(f"{address}/train?run={first}")
        page.get_by_role("button", name="Pause").click()
        resume = page.get_by_role("button", name=re.compile("Resume from step [1-9]"))
        expect(resume).to_be_visible(timeout=TRAINING)
        expect(page.get_by_text("the device is free")).to_be_visible()
        rail = page.get_by_test_id("stSidebar")
        expect(rail.get_by_text(re.compile("(Starting|Running): third"))).to_be_visible()

        # Resumed, it waits for the third; when that is stopped, it goes on.
        resume.click()
        expect(page.get_by_text("Place 1 of 1 in the queue")).to_be_visible()
        page.goto(f"{address}/train?run={third}")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("Stopped early.")).to_be_visible(timeout=TRAINING)
        page.goto(f"{address}/train?run={first}")
        expect(page.get_by_text(re.compile("Resumed at step [1-9]"))).to_be_visible(
            timeout=TRAINING
        )
        expect(page.get_by_text("Traceback")).to_have_count(0)
