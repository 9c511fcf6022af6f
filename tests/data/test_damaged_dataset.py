"""Prepared datasets with files cut off, changed or deleted: what is lost is counted and named."""

import json
import os
import shutil

import numpy as np
import pytest

from engine.cli import inspect as cli_inspect
from engine.data import datasets, prepare_worker
from engine.doctor import doctor
from engine.errors import DamagedFile, DatasetError, LostImageError
from engine.images.thumbnails import Thumbnails
from engine.inspection import findings, inspection, worker
from engine.recipe import DatasetSpec
from tests.support.cli import graft
from tests.support.pages import open_page, said

SPEC = DatasetSpec(source="sample", images=60)
NOTHING = "No problems found"


@pytest.fixture
def dataset(own_home):
    """The sample, prepared: its images are packed in one file."""
    return prepare_worker.ingest(SPEC, own_home)


@pytest.fixture
def page(own_home, monkeypatch):
    """Opens the Dataset page on the sample, on one of its views."""
    monkeypatch.setenv("GRAFT_HOME", str(own_home))

    def opened(view):
        app = open_page("dataset", preset="sample", set=["dataset.images=60"])
        app.session_state["dataset_view"] = view
        return app.run()

    return opened


def cut(dataset, kept=20):
    """Cuts the packed images off in the middle of the one after the first ones; returns the names
    of those that are lost."""
    length = sum(len(dataset.image_bytes(i)) for i in range(kept)) + 10
    os.truncate(dataset.path / "images.bin", length)
    return dataset.names[kept:]


def found(spec, home):
    """{kind: Finding} of an inspected dataset."""
    opened = datasets.open_dataset(spec, home)
    return {f.kind: f for f in findings.find(opened, inspection.open_inspection(spec, home))}


def inspect(home, *more):
    done = graft("inspect", "sample", *more, home=home)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- packed images ------------------------------------------------------------------------------


def test_an_image_that_is_cut_off_or_changed_is_an_error_that_names_it(dataset):
    good = dataset.image_bytes(3)
    start = sum(len(dataset.image_bytes(i)) for i in range(3))
    with open(dataset.path / "images.bin", "r+b") as file:
        file.seek(start + len(good) // 2)
        file.write(bytes([good[len(good) // 2] ^ 1]))
    assert not len(dataset.gone())
    with pytest.raises(LostImageError, match=f"{dataset.names[3]} in .*has changed.*; delete "):
        dataset.image_bytes(3)
    # Also while it is open: what a memory map would end the process by.
    lost = cut(datasets.Dataset(dataset.path), 2)
    assert [dataset.names[i] for i in dataset.gone()] == lost
    dataset.image_bytes(1)
    with pytest.raises(LostImageError, match="is cut off"):
        dataset.image_bytes(2)
    os.truncate(dataset.path / "images.bin", 0)
    assert len(datasets.Dataset(dataset.path).gone()) == len(dataset)


@pytest.mark.parametrize("before", [True, False])
def test_the_command_counts_and_names_what_is_lost(dataset, own_home, monkeypatch, before):
    """Whether the images were inspected before they were lost, or after."""
    monkeypatch.setattr(cli_inspect, "spec_of", lambda *_: SPEC)  # a tenth of its images
    if before:
        assert "can no longer be read" not in inspect(own_home, "--pixels")
    lost = cut(dataset)
    said = inspect(own_home, "--pixels")
    assert f"{len(dataset)} images of 5 classes; {len(lost)} of them can no longer be read" in said
    assert "No problems were found" not in said
    assert f"delete {dataset.path}" in said.replace("\n", "")
    first = json.loads(inspect(own_home, "--pixels", "--json"))["findings"][0]
    assert (first["kind"], first["severity"], first["count"]) == ("lost", "high", len(lost))
    assert [image["name"] for image in first["images"]] == lost and first["leave_out"] == []

    # It does what it says, and then nothing is lost any more.
    shutil.rmtree(dataset.path)
    said = json.loads(inspect(own_home, "--pixels", "--json"))
    assert "lost" not in [f["kind"] for f in said["findings"]]
    assert said["report"]["pixels"]["lost"] == 0


def test_nothing_at_all_that_can_be_read_is_a_sentence(dataset, own_home):
    os.truncate(dataset.path / "images.bin", 0)
    with pytest.raises(DatasetError, match="no image of sample can be read any more"):
        worker.inspect(SPEC, own_home)


def test_the_page_counts_and_names_what_is_lost(dataset, own_home, page):
    worker.inspect(SPEC, own_home)
    app = page("Findings")
    assert "can no longer be read" not in said(app)
    thumbnails = own_home / "inspections"
    lost = cut(dataset)
    app = page("Findings")
    assert not app.exception and NOTHING not in said(app)
    assert any(f"{len(lost)} of 60 images can no longer be read" in e.value for e in app.error)
    box = next(box for box in app.selectbox if box.label == "Look at")
    box.select("lost").run()
    assert not app.exception
    assert list(app.dataframe[-1].value["file"]) == lost
    shutil.rmtree(thumbnails)
    with pytest.raises(LostImageError, match="prepared again"):
        Thumbnails(own_home, dataset.source_fingerprint).get(dataset, 59)
    for view in ("Images", "Map", "Counts and sizes", "Decisions"):
        assert not page(view).exception, view
    seen = page("What the network will see")
    assert not seen.exception and any("is cut off" in error.value for error in seen.error)


# -- a folder -----------------------------------------------------------------------------------


def test_files_of_a_folder_that_went_after_they_were_inspected_are_named(own_home, class_folder):
    spec = DatasetSpec(source="folder", path=str(class_folder))
    prepare_worker.ingest(spec, own_home)
    worker.inspect(spec, own_home)
    assert "lost" not in found(spec, own_home)
    kept = (class_folder / "red" / "03.jpg").read_bytes()
    (class_folder / "red" / "03.jpg").unlink()
    (class_folder / "blue" / "00.jpg").write_bytes(b"something else")
    lost = found(spec, own_home)["lost"]
    opened = datasets.open_dataset(spec, own_home)
    assert [opened.names[i] for i in lost.indices] == ["blue/00.jpg", "red/03.jpg"]
    assert (lost.severity, lost.count) == ("high", 2) and "put the files back" in lost.advice

    # Lost while they were looked at, they are named until they are looked at again.
    inspection.again(spec, own_home)
    assert inspection.wait(spec, own_home)["state"] == "done"
    seen = inspection.open_inspection(spec, own_home)
    assert int(np.isnan(seen.pixels["brightness"]).sum()) == 2
    assert not inspection.recovered(seen, opened)
    (class_folder / "red" / "03.jpg").write_bytes(kept)
    assert found(spec, own_home)["lost"].count == 2
    assert inspection.recovered(seen, opened)


# -- what is known of them ----------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 100, 2000])
def test_an_index_that_was_cut_off_is_a_sentence_wherever_it_is_opened(
    dataset, own_home, page, length
):
    os.truncate(dataset.path / "index.npz", length)
    for open_ in (datasets.open_dataset, prepare_worker.ingest, worker.inspect, inspection.start):
        with pytest.raises(DamagedFile, match="index.npz is damaged.*doctor says what to do"):
            open_(SPEC, own_home)
    for view in ("Images", "Findings"):
        app = page(view)
        assert not app.exception and any("index.npz is damaged" in e.value for e in app.error)
    wrong = [f for f in doctor.examine(own_home) if f.severity == "error"]
    assert [f.check for f in wrong] == ["datasets"] and f"delete {dataset.path}" in wrong[0].remedy


def test_an_index_that_was_cut_off_after_an_inspection_is_a_sentence_too(dataset, own_home):
    worker.inspect(SPEC, own_home)
    os.truncate(dataset.path / "index.npz", 500)
    with pytest.raises(DamagedFile, match="index.npz is damaged"):
        inspection.open_inspection(SPEC, own_home)


def test_what_an_inspection_found_can_be_damaged_and_made_again(dataset, own_home):
    worker.inspect(SPEC, own_home)
    [path] = (own_home / "inspections").glob("*/pixels.npz")
    os.truncate(path, 500)
    with pytest.raises(DatasetError, match=f"{path} is damaged.*delete it and inspect again"):
        inspection.open_inspection(SPEC, own_home)
    path.unlink()
    worker.inspect(SPEC, own_home)
    assert "lost" not in found(SPEC, own_home)
