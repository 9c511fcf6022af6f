"""Each file of a prepared dataset and of a home, damaged in three ways: named where it is read,
found by the doctor, and made again or moved aside by `doctor --fix`."""

import shutil

import pytest

from engine import home as homes
from engine.accounts import users
from engine.data import curation, datasets, overlay, prepare_worker
from engine.data.sources import collection
from engine.doctor import doctor, restore
from engine.errors import DamagedFile, DatasetError, GraftError
from engine.host import manifest
from engine.recipe import DatasetSpec
from engine.runs import runs
from engine.serve import keys
from tests.support.cli import graft
from tests.support.damage import (
    SPEC,
    cut,
    each_way,
    flip,
    half_or_byte,
    refused,
    remove,
    worse_than_ok,
)

SAVED = DatasetSpec(source="saved", name="mine")


@pytest.fixture
def home(damaged_home):
    return damaged_home


@pytest.fixture
def run(home):
    return runs.list_runs(home)[0]


# -- a prepared dataset ---------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("name", ["index.npz", "manifest.json", "images.bin", "copies.npz"])
def test_a_damaged_file_of_a_dataset_is_named_and_made_again(home, name, damage):
    path = datasets.open_dataset(SPEC, home).path / name
    if name == "manifest.json" and damage is remove:
        damage(path)
        with pytest.raises(DatasetError, match="is not prepared yet"):
            datasets.open_dataset(SPEC, home)
    elif name == "images.bin" and damage is not remove:
        damage(path)
        opened = datasets.open_dataset(SPEC, home)
        with pytest.raises(DatasetError, match=r"images\.bin.*delete"):
            [opened.image_bytes(index) for index in range(len(opened))]
    elif name == "copies.npz" and damage is remove:
        damage(path)
        datasets.open_dataset(SPEC, home)
    else:
        damage(path)
        with pytest.raises(DamagedFile, match=f"{name} is damaged.*doctor"):
            prepare_worker.ingest(SPEC, home)
            _ = datasets.open_dataset(SPEC, home).copies
    found = worse_than_ok(home)
    if name != "manifest.json" or damage is not remove:
        assert name in found[0].text
    assert [each.severity for each in found] == ["error"] and found[0].remedy
    count = len(datasets.Dataset(path.parent)) if name == "images.bin" and path.exists() else 60
    done = doctor.fix(found)
    assert [each.severity for each in done] == ["ok"], done[0].text
    assert worse_than_ok(home) == [] and len(datasets.open_dataset(SPEC, home)) == count == 60
    assert damage is remove or list((home / restore.FOLDER / "datasets").iterdir())


def test_a_damaged_dataset_whose_source_is_gone_keeps_what_can_be_read(home, class_folder):
    packed = shutil.make_archive(str(class_folder), "zip", class_folder)
    spec = DatasetSpec(source="zip", path=packed)
    path = prepare_worker.ingest(spec, home).path
    (class_folder.parent / packed).unlink()
    flip(path / "images.bin")
    [done] = doctor.fix(worse_than_ok(home))
    assert done.severity == "error" and "stay in use" in done.text
    assert datasets.Dataset(path).image_bytes(0)
    cut(path / "index.npz")
    [done] = doctor.fix(worse_than_ok(home))
    assert done.severity == "error" and f"moved to {home / restore.FOLDER}" in done.text
    assert not path.exists() and (home / restore.FOLDER / "datasets" / path.name).is_dir()


@half_or_byte
def test_a_damaged_record_of_a_dataset_is_named_and_made_again(home, damage):
    path = datasets.open_dataset(SPEC, home).path
    damage(path / manifest.FILE)
    with pytest.raises(DamagedFile, match=r"sums\.json is damaged.*doctor"):
        datasets.open_dataset(SPEC, home)
    [finding] = worse_than_ok(home)
    assert manifest.FILE in finding.text
    doctor.fix([finding])
    assert worse_than_ok(home) == [] and len(datasets.open_dataset(SPEC, home)) == 60


# -- a home ---------------------------------------------------------------------------------------


@half_or_byte
@pytest.mark.parametrize("name", [homes.SETTINGS, homes.QUEUE])
def test_damaged_settings_and_a_damaged_queue_are_named_and_moved_aside(home, name, damage):
    if name == homes.QUEUE and damage is flip:
        content = bytearray((home / name).read_bytes())
        content[:100] = bytes(100)  # the header: SQLite has no sums that would find other bytes
        (home / name).unlink()
        (home / name).write_bytes(content)
    else:
        damage(home / name)
    done = graft(name.split(".")[0], home=home)
    assert done.returncode in (1, 2) and name in done.stderr and "Traceback" not in done.stderr
    found = worse_than_ok(home)
    assert [name in each.text for each in found] == [True]
    [done] = doctor.fix(found)
    assert "moved to" in done.text and worse_than_ok(home) == []
    assert graft(name.split(".")[0], home=home).returncode == 0


@half_or_byte
def test_damaged_decisions_are_named_and_taken_from_a_run(home, run, damage):
    identity = curation.current(home, SPEC)
    path = home / homes.OVERLAYS / f"{identity}.json"
    kept = path.read_bytes()
    damage(path)
    with pytest.raises(DamagedFile, match=f"{path.name} is damaged.*doctor"):
        datasets.open_dataset(SPEC.model_copy(update={"overlay": identity}), home)
    [finding] = worse_than_ok(home)
    assert path.name in finding.text
    (run.path / overlay.FILE).write_bytes(kept)
    [done] = doctor.fix([finding])
    assert f"again from run {run.id}" in done.text and path.read_bytes() == kept
    damage(path)
    (run.path / overlay.FILE).unlink()
    [done] = doctor.fix([each for each in worse_than_ok(home) if path.name in each.text])
    assert "no run keeps these decisions" in done.text and not path.exists()


def test_a_digit_that_changed_in_decisions_is_noticed(home):
    identity = curation.current(home, SPEC)
    path = home / homes.OVERLAYS / f"{identity}.json"
    content = path.read_text(encoding="utf-8").replace('"exclude"', '"include"', 1)
    path.unlink()
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DamagedFile, match="not those that were kept"):
        overlay.load(home, identity)


def test_damaged_steps_of_decisions_are_named(home):
    path = home / homes.CURATION / f"{datasets.key(SPEC)}.jsonl"
    content = bytearray(path.read_bytes())
    content[10] ^= 0xFF
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=f"{path.name} is damaged"):
        curation.steps(home, SPEC)
    [finding] = worse_than_ok(home)
    assert str(path) in finding.text
    [done] = doctor.fix([finding])
    assert (
        "moved to" in done.text and curation.steps(home, SPEC) == [] and worse_than_ok(home) == []
    )


@each_way
@pytest.mark.parametrize("name", ["saved.json", "added.jsonl", "image"])
def test_damaged_files_of_a_dataset_that_was_built_here_are_named(home, name, damage):
    found = collection.open_(home, "mine")
    path = found.path_of(found.rows()[0]) if name == "image" else found.path / name
    damage(path)
    wrong = worse_than_ok(home)
    assert wrong and any(name in each.text or path.name in each.text for each in wrong)
    if name == "image" and damage is not remove:
        with pytest.raises(DatasetError, match="1 file could not be read"):  # of two
            prepare_worker.ingest(SAVED, home)
        [done] = doctor.fix(wrong)
        assert "moved to" in done.text and not path.exists()
    elif name == "saved.json" and damage is not remove:
        refused(graft("datasets", home=home), name)


def test_lines_of_the_audit_that_cannot_be_read_are_counted(home):
    path = home / homes.AUDIT
    content = bytearray(path.read_bytes())
    content[10] ^= 0xFF
    path.unlink()
    path.write_bytes(content)
    [finding] = worse_than_ok(home)
    assert finding.severity == "warning" and f"1 line of {path}" in finding.text


@pytest.mark.parametrize("name", ["pixels.npz", "report.json", "thumbs.sqlite"])
def test_damaged_results_of_an_inspection_are_named_and_deleted(home, name):
    folder = home / homes.INSPECTIONS / "12ab"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"nothing that anyone wrote")
    [finding] = worse_than_ok(home)
    assert name in finding.text
    doctor.fix([finding])
    assert worse_than_ok(home) == [] and not (folder / name).exists()


@pytest.mark.parametrize("content", [b"", b"no longer what it was"])
@pytest.mark.parametrize("name", [homes.ACCOUNTS, homes.KEYS])
def test_damaged_accounts_let_nobody_in_and_are_not_moved_aside(home, name, content):
    users.add(home, "ada", "admin", "correct horse battery")
    keys.create(home, "phone", ["classify"])
    assert worse_than_ok(home) == []
    for more in home.glob(f"{name}-*"):  # what SQLite has still to move into the file
        more.unlink()
    (home / name).write_bytes(content)
    [finding] = worse_than_ok(home)
    assert name in finding.text and finding.remedy and finding.fix is None
    with pytest.raises(GraftError, match=f"{name}|file of accounts"):
        users.needed(home) if name == homes.ACCOUNTS else keys.listed(home)
