"""Many people at one queue, in Chromium: ten sessions, thirty runs, every click a double one."""

import re
import subprocess

import pytest
from playwright.sync_api import expect

from engine import home as homes
from engine.host import processes
from engine.recipe import load_preset
from engine.runs import queue, runs
from tests.faults import harness
from tests.faults.harness import LONG
from tests.support.browser import chromium, server
from tests.support.jobs import worker

SESSIONS, EACH = (10, 3) if LONG else (2, 2)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not chromium(), reason="needs a browser: apt-get install chromium"),
]


@pytest.fixture(scope="session")
def browser_type_launch_args():
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    return {"executable_path": chromium(), "args": arguments, "headless": True}


@pytest.fixture
def taken(tmp_path):
    """A home whose only device is taken for as long as the test lasts."""
    home = homes.home(tmp_path / "home")
    sleeper = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    run = runs.create(load_preset("sample", ["name=holder"]), home)
    queue.add(home, run.id)
    queue.claim(home, ["cpu"], 1, lambda *_: worker(sleeper.pid))
    run.update(status="running", **processes.identity(sleeper.pid))
    yield home
    harness.end_all(home)
    sleeper.kill()
    sleeper.wait()


def test_double_clicks_of_many_sessions_queue_each_run_once_and_in_order(taken, browser, tmp_path):
    wanted = []
    with server(taken, tmp_path / "server.log") as (address, _):
        pages = [browser.new_context().new_page() for _ in range(SESSIONS)]
        for number in range(EACH):
            for session, page in enumerate(pages):
                page.set_default_timeout(60_000)
                name = f"s{session}r{number}"
                page.goto(f"{address}/train?preset=sample&set=name={name}")
                page.get_by_role("button", name="New run").click()
                page.get_by_role("button", name="Add to the queue").dblclick()
                heading = page.get_by_role("heading", name=re.compile(f"^{name} · "), level=3)
                expect(heading).to_be_visible(timeout=60_000)
                wanted.append(name)
        names = [runs.get_run(taken, run).recipe.name for run in queue.waiting(taken)]
    assert names == wanted
    harness.observed(
        "double clicks", sessions=SESSIONS, queued=len(names), lost=0, doubled=0, order="kept"
    )
