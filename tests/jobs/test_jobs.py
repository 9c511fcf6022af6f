"""Workers: started, watched, stopped, killed, found dead."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from engine.errors import RunError
from engine.host import processes
from engine.jobs import jobs
from engine.recipe import load_preset
from engine.runs import events, runs, trash
from tests.faults import harness

LONG = ["stages.0.epochs=500", "stages.1.epochs=500"]


def until(condition, run):
    """Waits for something the run's worker does; pytest's own limit ends a hang."""
    while not condition():
        assert run.status in runs.ACTIVE, f"{run.error}\n{run.log_tail()}"
        jobs.wait(run, 0.2)


def training(run):
    return any(e["event"] == "batch" for e in run.events()[0])


def test_stop_keeps_the_best_so_far_in_mid_epoch(graft_home):
    run = jobs.start(load_preset("sample", LONG), graft_home)
    assert run.status == "queued" and run in jobs.active(graft_home)
    until(lambda: training(run), run)
    jobs.stop(run)
    jobs.wait(run)
    assert run.status == "stopped" and run.finished
    assert run.evaluation["test"]["n"] > 0 and run.kept_stage == "frozen"
    assert run.stages()[-1]["reason"] == "stopped"
    assert run not in jobs.active(graft_home)
    harness.until(lambda: not harness.workers(graft_home))
    with pytest.raises(RunError, match="nothing to stop"):
        jobs.stop(run)


def test_stop_before_training_leaves_no_model_and_says_so(graft_home):
    waits = jobs.start(load_preset("sample", LONG), graft_home)
    begun = jobs.start(load_preset("sample", LONG), graft_home)
    jobs.stop(waits)
    until(lambda: begun.events()[0], begun)
    jobs.stop(begun)
    for run in (waits, begun):
        jobs.wait(run)
        assert run.status == "stopped" and not run.finished
        assert "no model" in run.events()[0][-1]["text"]
    harness.until(lambda: not harness.workers(graft_home))


@pytest.fixture
def killed_run(graft_home):
    """A run that outlived the process that started it, and whose worker was killed."""
    code = (
        "import sys; from pathlib import Path; from engine import jobs; "
        "from engine.recipe import load_preset;"
        f"print(jobs.start(load_preset('sample', {LONG}), Path(sys.argv[1])).id)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code, str(graft_home)], capture_output=True, text=True
    )
    run = runs.get_run(graft_home, started.stdout.strip())
    assert run in jobs.active(graft_home)
    until(lambda: training(run), run)
    until(lambda: any(e["event"] == "epoch" for e in run.events()[0]), run)
    os.killpg(run.state["pid"], signal.SIGKILL)
    jobs.wait(run)
    return run


def test_a_run_outlives_what_started_it_and_a_killed_worker_is_found_interrupted_with_its_log(
    killed_run, graft_home
):
    assert killed_run.status == "interrupted" and "worker stopped unexpectedly" in killed_run.error
    assert killed_run.log_tail() is not None and killed_run.ended
    assert killed_run not in jobs.active(graft_home)
    # Half a line, as a kill in mid-write leaves it, hurts neither a reader nor the next writer.
    path = killed_run.path / "events.jsonl"
    whole = killed_run.events()[0]
    with open(path, "ab") as file:
        file.write(b'{"t": 1, "eve')
    assert killed_run.events()[0] == whole
    events.EventLog(path).write("note", text="on we go")
    assert [e["event"] for e in killed_run.events()[0][-1:]] == ["note"]
    trash.delete(killed_run)
    assert killed_run not in runs.list_runs(graft_home)


def test_kill_ends_the_process_and_an_active_run_is_not_deleted(graft_home):
    run = jobs.start(load_preset("sample", LONG), graft_home)
    until(lambda: run.status != "queued", run)
    pid = run.state["pid"]
    with pytest.raises(RunError, match="stop it before"):
        trash.delete(run)
    jobs.kill(run)
    assert run.status == "failed" and "killed by a user" in run.error
    jobs.active(graft_home)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_another_process_with_the_same_number_is_left_alone(graft_home):
    run = runs.create(load_preset("sample"), graft_home)
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        run.update(status="running", pid=other.pid, born=processes.born(other.pid) - 100)
        assert run.status == "interrupted"
        processes.end(run.state)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    trash.delete(run)


def test_unknown_runs_get_a_sentence(graft_home):
    for identity in ("none", "../..", ".", "", "a/b"):
        with pytest.raises(RunError, match="no run"):
            runs.get_run(graft_home, identity)


def test_events_hold_no_number_that_json_has_not(tmp_path):
    import numpy as np

    log = events.EventLog(tmp_path / "e.jsonl")
    log.write("batch", loss=float("nan"), rate=np.float32(0.1), rows=[np.int64(3), float("inf")])
    line = json.loads((tmp_path / "e.jsonl").read_text())
    assert (line["loss"], line["rate"], line["rows"]) == (None, 0.1, [3, None])
