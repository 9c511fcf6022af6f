"""The doctor: each kind of damage is found, explained and, where that loses nothing, fixed."""

import hashlib
import json
import os
import time

import pytest

from engine.doctor import doctor, home_checks
from engine.host import processes
from engine.runs import events, trash
from tests.support.damage import fix, only, worse_than_ok


def old(path, seconds=2 * home_checks.HOUR):
    """Makes a file or folder, with all in it, as old as a leftover."""
    when = time.time() - seconds
    for each in [path, *path.rglob("*")]:
        os.utime(each, (when, when))
    return path


def checkpoint(run, number, damaged=False):
    """A checkpoint of one file."""
    folder = run.path / "checkpoints" / f"ckpt-{number:08d}"
    folder.mkdir(parents=True)
    data = f"state {number}".encode()
    (folder / "state.npz").write_bytes(data[:-1] if damaged else data)
    sums = {"state.npz": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": sums}))
    return folder


# -- a sound home -------------------------------------------------------------------------------


def test_a_sound_home_has_nothing_worse_than_ok(home, run):
    found = doctor.examine(home)
    assert doctor.sound(found)
    assert {finding.severity for finding in found} == {"ok"}
    assert {finding.check for finding in found} == set(doctor.CHECKS)
    assert doctor.fix(found) == []


def test_a_home_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    [finding] = doctor.examine(tmp_path / "file" / "home")
    assert finding.severity == "error"
    assert "set GRAFT_HOME" in finding.text


def test_a_check_that_stops_is_an_error_and_the_others_go_on(home, monkeypatch):
    def broken(home):
        raise OSError(5, "Input/output error")
        yield

    monkeypatch.setitem(doctor.CHECKS, "queue", broken)
    finding = only(home)
    assert "check of queue stopped unexpectedly" in finding.text
    assert "devices" in {each.check for each in doctor.examine(home)}


# -- leftovers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "runs/.deleted-x",
        "runs/.import.1-100.ab12cd_9",
        "runs/{run}/.status.json.ab12cd_9",
        "datasets/.tulips-1234.ab12cd_9",
        "cache/features/.making-ab12",
        "trash/.deleted-ab12",
        ".settings.json.ab12cd_9",
    ],
)
def test_leftovers_are_found_and_deleted(home, run, name):
    path = home / name.format(run=run.id)
    path.parent.mkdir(exist_ok=True)
    path.mkdir()
    (path / "half").write_bytes(b"x")
    old(path)
    finding = only(home)
    assert finding.check == "leftovers"
    assert finding.fixable
    assert fix(home)
    assert not path.exists()


def test_what_is_being_written_and_what_is_not_ours_is_left_alone(home, run):
    (home / "datasets" / ".tulips-1234.ab12cd_9").mkdir()
    inside = old(home / "datasets" / ".tulips-1234.ab12cd_9") / "images.bin"
    inside.write_bytes(b"written just now")
    old_one = home / "runs" / ".DS_Store"
    old_one.touch()
    old(old_one)
    mine = home / ".profile.original"
    mine.touch()
    old(mine)
    assert worse_than_ok(home) == []


# -- runs ---------------------------------------------------------------------------------------


def test_a_folder_that_is_no_run_goes_to_the_trash(home):
    folder = home / "runs" / "20260101-000000-x-1234"
    folder.mkdir()
    (folder / "status.json").write_text('{"status": "queued"}')
    assert worse_than_ok(home) == [], "it may be one that is made just now"
    old(folder)
    assert "not a run" in only(home).text
    assert fix(home)
    assert [each.id for each in trash.listed(home)] == [folder.name]


def test_a_log_without_a_recipe_is_not_touched(home, run):
    events.EventLog(run.path / "events.jsonl").write("note", text="x")
    (run.path / "recipe.yaml").unlink()
    old(run.path)
    finding = only(home)
    assert finding.severity == "error"
    assert not finding.fixable
    assert "backup" in finding.remedy


def test_a_recipe_that_cannot_be_read_is_an_error(home, run):
    (run.path / "recipe.yaml").write_text("stages: [")
    finding = only(home)
    assert finding.severity == "error"
    assert f"python -m engine delete {run.id}" in finding.remedy


def test_a_torn_status_is_written_anew_from_the_log_that_has_an_end(home, run):
    log = events.EventLog(run.path / "events.jsonl")
    log.write("note", text="x")
    (run.path / "status.json").write_text('{"status": "fini')
    finding = only(home)
    assert "is damaged" in finding.text
    assert not finding.fixable
    log.write("end", status="finished", text="Finished.", seconds=1.0, kept_stage="frozen")
    assert fix(home)
    assert run.status == "finished"
    assert run.kept_stage == "frozen"


def test_a_dead_worker_is_told(home, run):
    run.update(status="running", **processes.identity())
    assert worse_than_ok(home) == []
    run.update(born=1.0)
    finding = only(home)
    assert finding.severity == "warning"
    assert f"python -m engine resume {run.id}" in finding.remedy


def test_a_run_that_waits_outside_the_queue_is_marked_as_interrupted(home, run):
    run.update(status="queued")
    old(run.path)
    assert worse_than_ok(home) == []  # its creator lives
    run.update(creator=None)
    assert worse_than_ok(home) == []
    old(run.path)
    assert "not in the queue" in only(home).text
    done = doctor.fix(doctor.examine(home))
    assert len(done) == 1
    assert run.status == "interrupted"


def test_a_torn_last_line_is_explained_as_harmless(home, run):
    events.EventLog(run.path / "events.jsonl").write("note", text="x")
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b'{"t": 1')
    assert worse_than_ok(home) == []
    assert any("harmless" in finding.text for finding in doctor.examine(home))


def test_garbage_in_a_log_is_a_warning(home, run):
    (run.path / "events.jsonl").write_bytes(b"garbage\n")
    assert "1 line of the log" in only(home).text


@pytest.mark.parametrize("name", ["final.keras", "inference.tflite"])
def test_a_finished_run_without_its_model_is_an_error(home, run, name):
    (run.path / name).unlink()
    finding = only(home)
    assert (finding.check, finding.severity) == ("models", "error")
    assert name in finding.text


def test_a_run_stopped_before_its_first_step_needs_no_model(home, run):
    (run.path / "final.keras").unlink()
    (run.path / "inference.tflite").unlink()
    run.update(status="stopped", kept_stage=None)
    assert worse_than_ok(home) == []


# -- checkpoints --------------------------------------------------------------------------------


def test_half_written_checkpoints_are_deleted(home, run):
    checkpoint(run, 1)
    aside = run.path / "checkpoints" / ".ckpt-00000002"
    aside.mkdir()
    assert only(home).fixable
    assert fix(home)
    assert not aside.exists()
    assert checkpoint(run, 3)


def test_a_damaged_checkpoint_is_deleted_only_beside_a_whole_one(home, run):
    bad = checkpoint(run, 2, damaged=True)
    finding = only(home)
    assert (finding.severity, finding.fixable) == ("error", False)
    good = checkpoint(run, 1)
    finding = only(home)
    assert (finding.severity, finding.fixable) == ("warning", True)
    assert bad.name in finding.text
    assert fix(home)
    assert good.exists()
    assert not bad.exists()


def test_checkpoints_of_a_run_that_trains_are_left_alone(home, run):
    run.update(status="running", **processes.identity())
    checkpoint(run, 1)
    bad = checkpoint(run, 2, damaged=True)
    (run.path / "checkpoints" / ".ckpt-00000003").mkdir()
    assert not any(finding.fixable for finding in doctor.examine(home))
    assert bad.exists()
