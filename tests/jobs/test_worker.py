"""Whether a worker may execute a run, before it does anything."""

import threading

import pytest

from engine import roots
from engine.host import processes
from engine.jobs import worker
from engine.recipe import load_preset
from engine.runs import queue, runs


@pytest.fixture
def run(own_home):
    made = runs.create(load_preset("sample"), own_home)
    queue.add(own_home, made.id)
    return made


def claimed(run, who):
    queue.claim(run.home, ["cpu"], 1, lambda *_: queue.Handle("local", who))


@pytest.mark.parametrize("who", [None, {"pid": 1, "born": 1.0}])
def test_a_worker_whose_run_is_not_given_to_it_does_nothing(run, who, capsys):
    if who:
        claimed(run, who)
    assert worker.main(str(run.path)) == 3
    assert run.status == "queued" and run.events()[0] == []
    assert "no place in the queue" in capsys.readouterr().err


@pytest.mark.parametrize("status", ["failed", "stopped", "finished"])
def test_a_worker_whose_run_was_ended_before_it_began_does_nothing(run, status, capsys):
    claimed(run, processes.identity())
    run.update(status=status)  # it was killed, say
    assert worker.main(str(run.path)) == 3
    assert run.status == status and run.events()[0] == []
    assert "another process has ended it" in capsys.readouterr().err


def test_a_worker_reads_what_the_page_that_started_its_run_may_read(run, tmp_path, monkeypatch):
    wanted, seen = {"home": str(run.home), "below": [str(tmp_path / "photos")]}, []
    run.update(status="starting", reads=wanted)
    claimed(run, processes.identity())

    def execute(*_):
        seen.append(roots.recorded())
        return {"status": "failed", "error": "not now", "text": "not now"}

    monkeypatch.setattr(worker, "_execute", execute)
    monkeypatch.setattr(worker, "_beat", lambda path: None)
    monkeypatch.setattr(worker.limits, "limit_memory", lambda most: None)  # of this process
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker.jobs, "supervise", lambda home: None)
    try:
        assert worker.main(str(run.path)) == 1
    finally:
        roots.restore(None)
    assert seen == [wanted]


def test_a_worker_waits_until_its_place_is_written_however_long_that_takes(run):
    found, asked = [], threading.Event()

    def launch(*_):
        """Inside the claim: the worker asks before its place is on the disk."""
        threading.Thread(target=ask).start()
        asked.wait()
        return queue.Handle("local", processes.identity())

    def ask():
        asked.set()
        found.append(queue.holder(run.home, run.id, claimed=True))
        done.set()

    done = threading.Event()
    queue.claim(run.home, ["cpu"], 1, launch)
    done.wait()
    assert found == [queue.Handle("local", processes.identity())]
