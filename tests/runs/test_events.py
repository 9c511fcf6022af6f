"""Logs of events: how damaged ones are read, what a full disk leaves, what a resume undoes."""

import json
import subprocess
import sys

import numpy as np
import pytest

from engine.charts import training
from engine.home import home
from engine.recipe import load_preset
from engine.runs import events, runs
from engine.runs.history import POINTS, History
from tests.support.browser import STEPS, GrowingRun
from tests.support.events import unknown_fields
from tests.support.home_of_before import unpacked


@pytest.fixture
def log(tmp_path):
    """A log with three notes: its path."""
    path = tmp_path / "events.jsonl"
    writer = events.EventLog(path)
    for number in range(3):
        writer.write("note", text=f"note {number}")
    return path


@pytest.fixture
def growing(tmp_path):
    """A run whose events a test writes."""
    return GrowingRun(home(tmp_path / "home"))


def texts(path):
    return [event["text"] for event in events.read(path)[0]]


# -- reading ------------------------------------------------------------------------------------


def test_a_reader_goes_on_where_it_stopped(log):
    found, offset = events.read(log)
    assert len(found) == 3
    assert events.read(log, offset) == ([], offset)
    events.EventLog(log).write("note", text="more")
    more, end = events.read(log, offset)
    assert [event["text"] for event in more] == ["more"]
    assert end > offset


def test_a_torn_last_line_is_left_for_the_next_call(log):
    whole = log.stat().st_size
    with open(log, "ab") as file:
        file.write(b'{"t": 1, "event": "no')
    assert events.read(log)[1] == whole
    assert events.damage(log) == (0, True)
    events.EventLog(log)
    assert log.stat().st_size == whole
    assert events.damage(log) == (0, False)


@pytest.mark.parametrize(
    "garbage",
    [
        b"nonsense",
        b"\xff\xfe\x00",
        b"\0" * 4096,
        b'{"t": 1, "eve',
        b"[1, 2]",
        b'{"no": "event"}',
        b'{"event": 3}',
        b'{"event": "note"}, {"event": "note"}',
        b"",
    ],
)
def test_a_garbage_line_in_the_middle_is_passed_over_and_told_once(log, garbage):
    lines = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([lines[0], garbage, *lines[1:]]) + b"\n")
    assert texts(log) == [
        "note 0",
        "One line of the run's log cannot be read and is left out.",
        "note 1",
        "note 2",
    ]
    assert events.read(log)[0][1]["event"] == "warning"
    assert events.damage(log) == (1, False)


def test_several_garbage_lines_are_one_warning(log):
    with open(log, "ab") as file:
        file.write(b"a\nb\nc\n")
    assert texts(log)[3:] == ["3 lines of the run's log cannot be read and are left out."]


def test_a_line_torn_in_two_by_garbage_is_not_joined_to_one_event(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"event": "note"\n"text": "made up"}\n{"event": "note", "text": "true"}\n')
    assert [e.get("text") for e in events.read(path)[0]][1:] == ["true"]


def test_a_log_that_is_not_there_has_no_events(tmp_path):
    assert events.read(tmp_path / "none") == ([], 0)
    assert events.damage(tmp_path / "none") == (0, False)


def test_the_quick_way_reads_what_json_reads(growing):
    growing.grow(3 * STEPS)
    path = growing.run.path / "events.jsonl"
    assert growing.run.events()[0] == [json.loads(line) for line in path.read_text().splitlines()]


# -- writing ------------------------------------------------------------------------------------


def test_a_write_that_fails_half_way_leaves_no_half_line(log):
    """The system limits a file's size, so a write fails in the middle, as on a full disk."""
    code = """
import resource, sys
from pathlib import Path
from engine.runs import events
path = Path(sys.argv[1])
log = events.EventLog(path)
before = path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (before + 20, resource.RLIM_INFINITY))
try:
    log.write("note", text="longer than twenty bytes")
except OSError as error:
    print(path.stat().st_size - before, error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.write("note", text="there is room again")
"""
    done = subprocess.run([sys.executable, "-c", code, log], capture_output=True, text=True)
    assert done.stdout.strip() == "0 File too large", done.stdout + done.stderr
    assert texts(log) == ["note 0", "note 1", "note 2", "there is room again"]


# -- resume -------------------------------------------------------------------------------------


def stage_log():
    """Two stages of four steps in epochs of two, as plain lists; the run failed in the second."""
    made = [{"event": "start", "total_steps": 8}, {"event": "note", "text": "n"}]
    step = 0
    for stage in (0, 1):
        made.append({"event": "stage_start", "stage": stage, "name": f"s{stage}", "step": step})
        for epoch in (0, 1):
            for _ in range(2):
                step += 1
                fields = {"stage": stage, "epoch": epoch, "step": step}
                made.append({"event": "batch", "loss": 1 / step, **fields})
            made.append({"event": "epoch", "val_loss": 2 / step, "loss": 1 / step, **fields})
        if stage == 0:
            made.append(
                {"event": "stage_end", "stage": 0, "name": "s0", "step": step, "helped": True}
            )
    return [*made, {"event": "end", "status": "failed", "text": "killed"}]


def resume(stage, step):
    return {"event": "resume", "stage": stage, "epoch": 0, "step": step, "text": "Resumed."}


def shown(history):
    """All that charts and pages read of a History."""
    names = ("start", "stages", "batches", "epochs", "notes", "end", "latest", "last_step")
    return {name: getattr(history, name) for name in names}


@pytest.mark.parametrize(("stage", "step"), [(None, 0), (0, 1), (0, 2), (0, 4), (1, 4), (1, 6)])
def test_history_after_a_resume_is_that_of_the_events_that_still_hold(stage, step):
    log = [*stage_log(), resume(stage, step)]
    piecewise = History()
    for event in log:
        piecewise.add([event])
    still = [event for event in events.effective(log) if event["event"] != "resume"]
    expected = shown(History(still))
    expected["notes"] = [*expected["notes"], log[-1]]
    assert shown(piecewise) == shown(History(log)) == expected
    assert piecewise.end is None
    assert piecewise.last_step == (step if stage is not None else 0)


def test_a_resume_in_a_stage_undoes_its_end_and_what_comes_after():
    history = History([*stage_log(), resume(0, 3)])
    assert [stage["name"] for stage in history.stages] == ["s0"]
    assert history.stages[0]["last"] is None
    assert "helped" not in history.stages[0]
    assert history.batches["step"] == [1, 2, 3]
    assert history.epochs["step"] == [2]
    assert (history.latest["step"], history.latest["loss"]) == (3, 1 / 3)
    assert [note["event"] for note in history.notes] == ["note", "resume"]
    assert history.start


def test_a_resume_from_the_beginning_keeps_the_notes_only():
    history = History([*stage_log(), resume(None, 0)])
    assert (history.start, history.stages, history.latest) == ({}, [], {})
    assert history.batches["step"] == history.epochs["loss"] == []
    assert [note.get("text") for note in history.notes] == ["n", "Resumed."]


def test_a_run_taken_up_draws_the_curves_of_one_never_broken_off():
    whole = stage_log()[:-1]
    place = next(i for i, e in enumerate(whole) if e["event"] == "batch" and e["step"] == 5)
    broken = [*whole[: place + 4], resume(1, 5), *whole[place + 1 :]]
    for make in (training.loss, training.accuracy, training.learning_rate, training.throughput):
        assert make(broken) == make(whole)


def test_stage_reports_of_a_run_leave_out_what_was_done_again(tmp_path):
    run = runs.create(load_preset("sample"), home(tmp_path))
    log = events.EventLog(run.path / "events.jsonl")
    for event in [*stage_log(), resume(0, 3)]:
        log.write(event["event"], **{k: v for k, v in event.items() if k != "event"})
    assert run.stages() == []
    log.write("stage_end", stage=0, name="s0", step=4, helped=False)
    assert [report["helped"] for report in run.stages()] == [False]


# -- many events --------------------------------------------------------------------------------


def test_missing_values_are_left_out_of_a_thinned_curve():
    y = [None if i % 7 == 0 else float(np.sin(i)) for i in range(5000)]
    y[1234] = 9.0
    x, kept = training.thin(range(5000), y)
    assert len(x) <= POINTS
    assert kept.max() == 9.0
    assert np.isfinite(kept).all()


# -- kinds --------------------------------------------------------------------------------------


def test_every_event_of_runs_on_disk_has_a_kind_and_its_fields(tmp_path):
    made, notes = unpacked(tmp_path)
    seen = set()
    for name in ("first", "paused"):
        run = runs.get_run(made, notes[name])
        assert unknown_fields(run) == []
        seen |= {event["event"] for event in run.events()[0]}
    assert seen >= set(events.KINDS) - {"warning", "resume"}
