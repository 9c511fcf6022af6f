"""How runs end: whoever sees a status finds the log's last event, whatever wrote the two."""

import json
import os
import subprocess
import sys

import pytest

from engine import home as homes
from engine.errors import RunError
from engine.host import limits, processes, settings
from engine.jobs import jobs
from engine.jobs.supervisor import Supervisor
from engine.recipe import load_preset
from engine.runs import checkpoint, ending, events, queue, runs

GONE = {"pid": os.getpid(), "born": 1.0}
"""A process of another boot."""


@pytest.fixture
def home(own_home, monkeypatch):
    monkeypatch.setattr(jobs, "supervise", lambda home: None)  # the test is the supervisor
    return own_home


@pytest.fixture
def run(home):
    """A run whose worker stopped unexpectedly after its first event."""
    made = runs.create(load_preset("sample"), home)
    queue.add(home, made.id)
    queue.claim(home, ["cpu"], 1, lambda *_: queue.Handle("local", GONE))
    log = events.EventLog(made.path / "events.jsonl")
    made.update(status="running", started=1.0, events_from=log.size, **GONE)
    log.write("phase", phase="model", text="Starting TensorFlow", done=0, total=None)
    (made.path / "worker.log").touch()
    return made


@pytest.fixture
def seen(monkeypatch):
    """What a reader finds at the moment a status is written: list of (status, last event)."""
    found, replace = [], os.replace

    def call(source, target, **named):
        if os.path.basename(target) == "status.json":
            with open(source, encoding="utf-8") as file:
                status = json.load(file)["status"]
            log = os.path.join(os.path.dirname(target), "events.jsonl")
            found.append((status, (events.read(log)[0] or [None])[-1]))
        return replace(source, target, **named)

    monkeypatch.setattr(os, "replace", call)
    return found


def at(run, step=3):
    """Gives a run a checkpoint."""
    checkpoint.Checkpoints(run.path).save({"stage": 0, "step": step}, {})


def ask(run, what):
    (run.path / what).touch()


def out_of_memory(run, supervisor):
    supervisor.ended[run.id] = limits.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("before", "status", "words"),
    [
        (lambda run, _: None, "interrupted", "worker stopped unexpectedly"),
        (lambda run, _: ask(run, "stop"), "stopped", "no model"),
        (lambda run, _: ask(run, "pause"), "paused", "resumed from its last checkpoint"),
        (lambda run, _: ask(run, "kill"), "failed", "killed by a user"),
        (out_of_memory, "failed", "memory ran out"),
    ],
)
def test_the_supervisor_writes_the_last_event_and_then_the_status(
    home, run, seen, before, status, words
):
    supervisor = Supervisor(home)
    before(run, supervisor)
    supervisor.look()
    assert run.status == status and not queue.slots(home)
    assert [given for given, _ in seen] == [status]
    last = seen[0][1]
    assert (last["event"], last["status"]) == ("end", status) and words in last["text"]
    assert last["error"] == run.error and run.ended


def test_a_run_that_is_resumed_by_itself_says_so_before_it_is_interrupted(home, run, seen):
    settings.change(home, auto_resume=True, min_free_mb=0)
    supervisor = Supervisor(home)
    supervisor.launch = lambda *_: None
    supervisor.look()
    assert [status for status, _ in seen] == ["interrupted", "queued"]
    assert seen[0][1]["event"] == "end"
    assert "resumed automatically" in run.events()[0][-2]["text"]
    assert run.state["tries"] == 0 and run.state["tried_at"] == -1


def test_a_stop_that_was_not_answered_says_why_the_run_waits_again(home, run, seen):
    at(run)
    ask(run, "stop")
    supervisor = Supervisor(home)
    supervisor.launch = lambda *_: None
    supervisor.look()
    assert [status for status, _ in seen] == ["queued"]
    assert "finishes from its checkpoint" in seen[0][1]["text"]


def test_cancelled_while_it_waits(home, seen):
    run = runs.create(load_preset("sample"), home)
    queue.add(home, run.id)
    seen.clear()
    jobs.stop(run)
    assert run.status == "stopped"
    [(status, last)] = seen
    assert (status, last["event"], last["status"]) == ("stopped", "end", "stopped")


@pytest.mark.parametrize("quicker", [False, True])
def test_killed_by_a_user_it_ends_once_whoever_is_quicker(home, run, seen, monkeypatch, quicker):
    if quicker:  # the supervisor sees the end of the process first
        monkeypatch.setattr(processes, "end", lambda who: Supervisor(home).look())
    jobs.kill(run)
    assert run.status == "failed" and "killed by a user" in run.error
    assert [e["status"] for e in run.events()[0] if e["event"] == "end"] == ["failed"]
    assert [(status, last["event"]) for status, last in seen] == [("failed", "end")]


def test_nobody_ends_a_run_whose_worker_still_works_on_it(home, run, seen, monkeypatch):
    monkeypatch.setattr(ending, "BUSY", 0)
    code = (
        "import sys, filelock\n"
        "with filelock.FileLock(sys.argv[1]): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, run.path / "worker.lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        worker.stdout.readline()  # it has the lock
        with pytest.raises(RunError, match="still works on run"):
            jobs.kill(run)
        supervisor = Supervisor(home)
        supervisor.look()
        assert seen == []
        worker.stdin.close()
    supervisor.look()
    assert run.status == "failed" and len(seen) == 1


# -- a worker that died between the two ---------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        {"status": "finished", "kept_stage": "frozen"},
        {"status": "stopped", "kept_stage": "frozen"},
        {"status": "paused", "error": "the disk is full"},
        {"status": "failed", "error": "memory ran out", "proposed_batch_size": 8},
    ],
)
def test_its_last_event_is_its_last_word(home, run, said):
    at(run)
    ask(run, "stop")  # which it had answered
    (run.path / "inference.tflite").touch()
    fields = dict.fromkeys(ending.STATE) | said
    log = events.EventLog(run.path / "events.jsonl")
    log.write("end", text="It ended.", seconds=1.0, **fields)
    before = run.events()[0]
    Supervisor(home).look()
    state = homes.read_json(run.path / "status.json")
    assert {name: state[name] for name in fields} == fields
    assert state["ended"] == before[-1]["t"]
    assert run.events()[0] == before and not queue.busy(home)
    kept = bool(checkpoint.Checkpoints(run.path).listed())
    assert kept == (said["status"] in ("paused", "failed"))


def test_the_last_word_of_an_earlier_worker_says_nothing_of_this_one(home, run):
    log = events.EventLog(run.path / "events.jsonl")
    log.write("end", status="paused", text="Paused.", seconds=1.0)
    for begins in (log.size, None):
        run.update(status="running", events_from=begins)
        Supervisor(home).settle(run.id)
        assert run.status == "interrupted"


def test_a_paused_run_keeps_its_checkpoints_though_its_model_is_written(home, run):
    at(run)
    (run.path / "inference.tflite").touch()
    ending.end(run, "paused", "Too many images can no longer be read.")
    assert checkpoint.Checkpoints(run.path).listed()
    ending.end(run, "finished", "Finished.")
    assert not checkpoint.Checkpoints(run.path).listed()
