"""The doctor: each kind of damage is found, explained and, where that loses nothing, fixed."""

import hashlib
import json
import os
import sqlite3
import time

import numpy as np
import pytest

from engine.data import datasets, prepare_worker
from engine.doctor import doctor, home_checks
from engine.errors import GraftError
from engine.features import cache
from engine.home import home as make_home
from engine.host import manifest, processes
from engine.recipe import DatasetSpec, load_preset
from engine.runs import events, files, runs, trash
from tests.support.cli import graft


@pytest.fixture
def home(tmp_path):
    """An empty home."""
    return make_home(tmp_path / "home")


@pytest.fixture
def run(home):
    """A finished run with its model's files, though nothing is in them that anyone could load."""
    made = runs.create(load_preset("sample", ["name=tulips"]), home)
    made.update(status="finished", kept_stage="frozen")
    for name in ("final.keras", "inference.tflite"):
        (made.path / name).write_bytes(b"model")
    manifest.write(made.path / files.MANIFEST, files.lasting(made.path))
    return made


def wrong(home):
    """All findings that are not ok."""
    return [finding for finding in doctor.examine(home) if finding.severity != "ok"]


def only(home):
    """The one finding that is not ok."""
    found = wrong(home)
    assert len(found) == 1, found
    return found[0]


def fix(home):
    """Fixes, and says whether nothing is left."""
    done = doctor.fix(doctor.examine(home))
    assert all(finding.severity == "ok" for finding in done), done
    return done and not wrong(home)


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
    assert wrong(home) == []


# -- runs ---------------------------------------------------------------------------------------


def test_a_folder_that_is_no_run_goes_to_the_trash(home):
    folder = home / "runs" / "20260101-000000-x-1234"
    folder.mkdir()
    (folder / "status.json").write_text('{"status": "queued"}')
    assert wrong(home) == [], "it may be one that is made just now"
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
    assert wrong(home) == []
    run.update(born=1.0)
    finding = only(home)
    assert finding.severity == "warning"
    assert f"python -m engine resume {run.id}" in finding.remedy


def test_a_run_that_waits_outside_the_queue_is_marked_as_interrupted(home, run):
    run.update(status="queued")
    old(run.path)
    assert wrong(home) == []  # its creator lives
    run.update(creator=None)
    assert wrong(home) == []
    old(run.path)
    assert "not in the queue" in only(home).text
    done = doctor.fix(doctor.examine(home))
    assert len(done) == 1
    assert run.status == "interrupted"


def test_a_torn_last_line_is_explained_as_harmless(home, run):
    events.EventLog(run.path / "events.jsonl").write("note", text="x")
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b'{"t": 1')
    assert wrong(home) == []
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
    assert wrong(home) == []


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


# -- datasets, cache, queue, settings -----------------------------------------------------------


@pytest.fixture
def dataset(home, class_folder):
    """A prepared dataset of a folder; its folder in the home."""
    spec = DatasetSpec(source="folder", path=str(class_folder))
    prepare_worker.ingest(spec, home)
    return home / "datasets" / datasets.key(spec)


def test_a_dataset_whose_folder_has_gone_is_a_warning(home, dataset, class_folder):
    assert wrong(home) == []
    class_folder.rename(class_folder.with_name("elsewhere"))
    finding = only(home)
    assert finding.severity == "warning"
    assert str(class_folder) in finding.text


@pytest.mark.parametrize("name", ["manifest.json", "index.npz"])
@pytest.mark.parametrize("damage", [None, b"", b"PK\x03\x04 torn", b"{}"])
def test_a_dataset_that_cannot_be_read_is_an_error(home, dataset, name, damage):
    (dataset / name).unlink()
    if damage is not None:
        (dataset / name).write_bytes(damage)
    finding = only(home)
    assert (finding.check, finding.severity) == ("datasets", "error")
    assert f"delete {dataset}" in finding.remedy


@pytest.mark.parametrize(
    "name",
    [
        "datasets/tulips-12.progress.json",
        "probes/rates-12.json",
        "inspections/12ab/progress.json",
        "inspections/12ab/report.json",
    ],
)
def test_a_torn_note_is_deleted(home, name):
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"pid": ')
    assert only(home).severity == "error"
    assert fix(home)
    assert not path.exists()


def features(home, count=3):
    """A cached features entry of some records; its folder."""

    def fill(folder):
        np.save(folder / "contents.npy", np.arange(count).astype("S64"))
        (folder / "records.f32").write_bytes(b"\0" * 4 * count * 5)
        (folder / "sums.u32").write_bytes(b"\0" * 4 * count)

    path, lock = cache.acquire(home, "features", {"views": 1, "width": 5, "title": "t"}, fill)
    return path, lock


@pytest.mark.parametrize("name", ["identity.json", "contents.npy", "records.f32", "lock", "used"])
def test_a_damaged_cache_entry_is_deleted(home, name):
    path, lock = features(home)
    lock.close()
    assert wrong(home) == []
    if name in ("lock", "used"):
        (path / name).unlink()
    else:
        (path / name).write_bytes(b"{")
    finding = only(home)
    assert (finding.check, finding.severity) == ("cache", "warning")
    assert fix(home)
    assert not path.exists()


def test_a_damaged_identity_breaks_no_list_of_the_cache(home):
    path, lock = features(home)
    lock.close()
    (path / "identity.json").write_text("{")
    assert [entry.path for entry in cache.entries(home)] == [path]
    assert cache.clear(home)[0] > 0


def test_a_damaged_cache_entry_in_use_stays(home):
    path, lock = features(home)
    (path / "records.f32").write_bytes(b"")
    [done] = doctor.fix(doctor.examine(home))
    assert done.severity == "error"
    assert "in use" in done.text
    assert path.exists()
    lock.close()


def test_a_network_that_is_none_is_found(home):
    path, lock = cache.acquire(
        home,
        "networks",
        {"title": "n"},
        lambda folder: (folder / "network.tflite").write_bytes(b"\x1c\0\0\0TFL3 and so on"),
    )
    lock.close()
    assert wrong(home) == []
    (path / "network.tflite").write_bytes(b"nonsense")
    assert "not a LiteRT model" in only(home).text


def test_a_cache_above_its_limit_is_made_to_fit(home):
    path, lock = features(home, 10_000)
    lock.close()
    (home / "cache" / "settings.json").write_text('{"limit_gib": 1e-6}')
    assert "more than its limit" in only(home).text
    assert fix(home)
    assert not path.exists()


def test_damaged_cache_settings_fall_back_to_the_default(home):
    (home / "cache" / "settings.json").write_text("{")
    assert only(home).severity == "error"
    assert fix(home)
    assert cache.limit(home) == cache.DEFAULT_LIMIT_GIB * 2**30


def test_the_queues_database_is_checked(home):
    with sqlite3.connect(home / "queue.db") as database:
        database.execute("CREATE TABLE t (a)")
        database.executemany("INSERT INTO t VALUES (?)", [("x" * 100,)] * 1000)
    database.close()
    assert wrong(home) == []
    with open(home / "queue.db", "r+b") as file:
        file.seek(8192)
        file.write(os.urandom(20_000))
    finding = only(home)
    assert (finding.check, finding.severity) == ("queue", "error")
    (home / "queue.db").write_bytes(b"this is no database, and never was one")
    assert "is not a database" in only(home).text


def test_a_damaged_queue_hides_no_run(home, run):
    run.update(status="running", pid=1, born=1.0)
    (home / "queue.db").write_bytes(b"this is no database, and never was one")
    assert runs.list_runs(home) == [run]
    assert run.status == "interrupted"
    assert {finding.check for finding in wrong(home)} == {"queue", "runs"}


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_settings_are_an_error(home, text):
    (home / "settings.json").write_text(text)
    finding = next(each for each in wrong(home) if each.check == "settings")
    assert finding.severity == "error"
    assert "delete it" in finding.remedy


# -- the command --------------------------------------------------------------------------------


def test_the_command_explains_fixes_and_exits_with_1_while_an_error_remains(home, run):
    (home / "cache" / "settings.json").write_text("{")
    done = graft("doctor", home=home)
    assert done.returncode == 1
    assert "doctor --fix" in done.stderr
    assert "so no run can use the cache" in done.stdout
    answer = json.loads(graft("doctor", "--fix", "--json", home=home).stdout)
    assert answer["sound"]
    assert [each["check"] for each in answer["mended"]] == ["cache"]
    assert all(each["severity"] == "ok" for each in answer["findings"])
    assert graft("doctor", home=home).returncode == 0


def test_a_fix_that_fails_is_reported(home):
    def refuse():
        raise GraftError("it is held")

    bad = doctor.Finding("x", "warning", "a thing", "do it", refuse)
    [done] = doctor.fix([bad])
    assert (done.severity, "it is held" in done.text) == ("error", True)
