"""The doctor on the rest of a home: datasets, cache, queue, settings."""

import json
import os
import sqlite3

import numpy as np
import pytest

from engine.data import datasets, prepare_worker
from engine.doctor import doctor
from engine.errors import GraftError
from engine.features import cache
from engine.recipe import DatasetSpec
from engine.runs import runs
from tests.support.cli import graft
from tests.support.damage import fix, only, worse_than_ok


@pytest.fixture
def dataset(home, class_folder):
    """A prepared dataset of a folder; its folder in the home."""
    spec = DatasetSpec(source="folder", path=str(class_folder))
    prepare_worker.ingest(spec, home)
    return home / "datasets" / datasets.key(spec)


def test_a_dataset_whose_folder_has_gone_is_a_warning(home, dataset, class_folder):
    assert worse_than_ok(home) == []
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
    assert worse_than_ok(home) == []
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
    assert worse_than_ok(home) == []
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
    assert worse_than_ok(home) == []
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
    assert {finding.check for finding in worse_than_ok(home)} == {"queue", "runs"}


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_settings_are_an_error(home, text):
    (home / "settings.json").write_text(text)
    finding = next(each for each in worse_than_ok(home) if each.check == "settings")
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
