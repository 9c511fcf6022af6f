"""The queue's file: whose place is whose, and files of earlier versions."""

import os
import sqlite3

import pytest

from engine.errors import GraftError, RunError
from engine.jobs import executors, jobs
from engine.jobs.supervisor import Supervisor
from engine.recipe import load_preset
from engine.runs import queue, runs

EARLIER = """
CREATE TABLE waiting (
    run TEXT PRIMARY KEY, place REAL NOT NULL, added REAL NOT NULL
);
CREATE TABLE slots (
    device TEXT NOT NULL, number INTEGER NOT NULL, run TEXT NOT NULL UNIQUE,
    pid INTEGER NOT NULL, born REAL NOT NULL, claimed REAL NOT NULL,
    PRIMARY KEY (device, number)
);
INSERT INTO waiting VALUES ('second', 1.0, 2.0), ('first', 0.0, 1.0);
INSERT INTO slots VALUES ('gpu:0', 1, 'busy', 4711, 943859486337.75, 1795876703.5);
"""
"""Tables as they were before places had handles."""


@pytest.fixture
def home(own_home, monkeypatch):
    monkeypatch.setattr(jobs, "supervise", lambda home: None)  # the test is the supervisor
    return own_home


def earlier(home):
    with sqlite3.connect(home / "queue.db") as connection:
        connection.executescript(EARLIER)
    connection.close()


@pytest.mark.parametrize(
    "first",
    [queue.waiting, queue.slots, queue.busy, lambda home: queue.add(home, "third")],
    ids=["waiting", "slots", "busy", "add"],
)
def test_whatever_opens_a_queue_of_an_earlier_version_keeps_all_that_is_in_it(home, first):
    earlier(home)
    first(home)
    assert queue.waiting(home)[:2] == ["first", "second"]
    handle = queue.Handle("local", {"pid": 4711, "born": 943859486337.75})
    assert queue.slots(home) == [
        {"device": "gpu:0", "number": 1, "run": "busy", "claimed": 1795876703.5, "handle": handle}
    ]
    assert queue.holder(home, "busy") == handle
    assert not queue.release(home, "busy", queue.Handle("local", {"pid": 4711, "born": 1.0}))
    assert not queue.release(home, "busy", queue.Handle("other", handle.token))
    assert queue.release(home, "busy", handle) and not queue.slots(home)


class Elsewhere:
    """An executor of another host, which answers from a dictionary."""

    TOKEN = ("ticket",)

    def __init__(self):
        self.living, self.killed = set(), []

    def launch(self, run, device):
        self.living.add(run.id)
        return {"ticket": run.id}

    def alive(self, token):
        return token["ticket"] in self.living

    def end(self, token):
        self.killed.append(token["ticket"])
        self.living.discard(token["ticket"])

    def mine(self, token):
        return False

    def memory(self, token):
        return 1 if self.alive(token) else None

    def ended(self):
        return []


@pytest.fixture
def elsewhere(monkeypatch):
    executor = Elsewhere()
    monkeypatch.setitem(executors.EXECUTORS, "elsewhere", executor)
    return executor


@pytest.fixture
def run(home, elsewhere):
    """A run that works elsewhere."""
    run = runs.create(load_preset("sample"), home)
    queue.add(home, run.id)
    supervisor = Supervisor(home)

    def launch(identity, device):
        handle = executors.launch(run, device, "elsewhere")
        run.update(status="running", executor=handle.executor, **handle.token)
        return handle

    supervisor.launch = launch
    supervisor.look()
    (run.path / "worker.log").touch()
    return run


def test_a_run_of_another_executor_is_watched_through_it(home, run, elsewhere):
    Supervisor(home).look()
    assert run.status == "running" and queue.holder(home, run.id).token == {"ticket": run.id}
    with pytest.raises(RunError, match="running"):
        jobs.resume(run)
    elsewhere.living.clear()
    Supervisor(home).look()
    assert run.status == "interrupted" and not queue.slots(home)


def test_a_run_of_another_executor_is_killed_through_it(home, run, elsewhere):
    jobs.kill(run)
    assert elsewhere.killed == [run.id]
    assert run.status == "failed" and not queue.slots(home)


def test_a_run_of_an_unknown_executor_is_refused_in_a_sentence(run, monkeypatch):
    monkeypatch.delitem(executors.EXECUTORS, "elsewhere")
    with pytest.raises(GraftError, match="executor 'elsewhere', which this version"):
        jobs.kill(run)


def test_a_process_knows_its_own_handle():
    token = {"pid": os.getpid(), "born": 1.0}
    assert executors.mine(queue.Handle("local", token))
    assert not executors.mine(queue.Handle("local", token | {"pid": os.getppid()}))
