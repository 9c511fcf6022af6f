"""A folder of images that changes between runs, before a resume, and during a run."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from engine import home
from engine.data import datasets, prepare_worker
from engine.errors import DatasetError, ReadOnlyHome
from engine.jobs import jobs
from engine.recipe import load_preset
from engine.runs import runs
from tests.support.pictures import picture
from tests.support.unreadable import Prepared


@pytest.fixture
def prepared(class_folder, own_home):
    return Prepared(class_folder, own_home)


def test_a_dataset_that_is_another_one_now_is_told_in_a_sentence(prepared):
    before, spec, own_home = prepared.dataset.fingerprint, prepared.spec, prepared.home
    assert datasets.changed_since(spec, own_home, before) is None
    assert datasets.changed_since(spec, own_home, None) is None
    held = prepared.damage(3)
    prepare_worker.ingest(spec, own_home)
    text = datasets.changed_since(spec, own_home, before, "this recipe was made", 36)
    assert "pets has changed since this recipe was made: it had 36 images then and now" in text
    assert "35 images in 3 classes" in text and "start a new run" in text
    assert "then" not in datasets.changed_since(spec, own_home, before)
    prepared.file(3).write_bytes(held)
    prepare_worker.ingest(spec, own_home)
    assert datasets.changed_since(spec, own_home, before) is None
    datasets.forget(spec, own_home)
    assert datasets.changed_since(spec, own_home, before) is None


def test_a_resumed_run_finds_the_dataset_it_began_with(prepared):
    before, names = prepared.dataset.fingerprint, prepared.dataset.names
    prepared.damage(3)
    again = prepare_worker.ingest(prepared.spec, prepared.home, fingerprint=before)
    assert again.fingerprint == before and again.names == names
    # A new start uses the current files; after it the old dataset is no longer available.
    assert len(prepare_worker.ingest(prepared.spec, prepared.home)) == 35
    assert (
        prepare_worker.ingest(prepared.spec, prepared.home, fingerprint=before).fingerprint
        != before
    )


def test_a_folder_that_went_away_as_a_whole_is_one_sentence(prepared):
    shutil.move(prepared.folder, prepared.folder.with_name("elsewhere"))
    for ask in (
        lambda: datasets.check(prepared.spec),
        lambda: datasets.outdated(prepared.spec, prepared.home),
        lambda: datasets.prepare(prepared.spec, prepared.home),
        lambda: prepare_worker.ingest(prepared.spec, prepared.home),
    ):
        with pytest.raises(DatasetError, match="put it back or give another one") as caught:
            ask()
        assert str(prepared.folder) in str(caught.value)


@pytest.mark.parametrize("part", ["runs", "datasets", "cache"])
def test_a_home_with_a_read_only_part_is_one_sentence(part, own_home, monkeypatch):
    # Rights do not bind root, who may run the tests.
    access = home.os.access
    monkeypatch.setattr(
        home.os,
        "access",
        lambda path, mode: (mode != home.os.W_OK or Path(path).name != part) and access(path, mode),
    )
    assert home.home(own_home) == own_home  # it can be looked at
    with pytest.raises(ReadOnlyHome, match="is read-only.*set GRAFT_HOME"):
        home.writable(own_home)


# -- whole runs -------------------------------------------------------------------------------


@pytest.fixture
def long_run(tmp_path, graft_home):
    """A run past its first epoch that reads 210 images in every epoch, and its Prepared."""
    root = tmp_path / "many pets"
    for label, colour in enumerate(("red", "green", "blue")):
        (root / colour).mkdir(parents=True)
        for i in range(70):
            tint = Image.new("RGB", (64, 48), colour)
            Image.blend(picture(seed=1000 * label + i), tint, 0.4).save(
                root / colour / f"{i:02d}.jpg"
            )
    recipe = load_preset(
        "sample",
        [
            f"dataset={{source: folder, path: {root}}}", "augmentation=none", "feature_cache=off",
            "memory_budget=0", "stages=[{name: long, epochs: 1000}]",
        ],
    )  # fmt: skip
    run = jobs.start(recipe, graft_home)
    until(run, lambda: told(run, "epoch"))
    prepared = Prepared(root, graft_home)
    prepared.split = prepared.dataset.split(recipe.split)
    yield run, prepared
    if run.status in runs.ACTIVE:
        jobs.kill(run)


def told(run, kind):
    return [e for e in run.events()[0] if e["event"] == kind]


def until(run, condition):
    """Waits for something an active run does; not for ever, should it never come to it."""
    for _ in range(600):
        if condition():
            return
        assert run.status in runs.ACTIVE, f"{run.error}\n{run.log_tail()}"
        jobs.wait(run, 0.2)
    raise AssertionError(f"the run is still {run.status}\n{run.log_tail()}")


def test_a_run_goes_on_without_a_few_of_its_files_and_pauses_while_a_folder_is_gone(long_run):
    run, prepared = long_run
    learnt, tested = int(prepared.split["train"][3]), int(prepared.split["test"][3])
    prepared.damage(learnt)
    prepared.damage(tested, "cut off")
    until(run, lambda: told(run, "warning"))
    names = [prepared.dataset.names[i] for i in (learnt, tested)]

    aside = prepared.folder.with_name("red aside")
    shutil.move(prepared.folder / "red", aside)
    jobs.wait(run)
    assert run.status == "paused", run.log_tail()
    assert "of the run's 210 images can no longer be read" in run.error
    assert "Traceback" not in run.error and run.error.count("\n") == 0
    shutil.move(aside, prepared.folder / "red")
    epochs, before = len(told(run, "epoch")), len(told(run, "warning"))
    jobs.resume(run)
    until(run, lambda: len(told(run, "epoch")) > epochs)
    jobs.stop(run)
    jobs.wait(run)
    assert run.status == "stopped" and run.finished, run.log_tail()
    skipped = [e["text"].split(" is skipped")[0] for e in told(run, "warning")]
    assert skipped[0] == names[0] and skipped[before:] == names
    figures = run.evaluation
    assert figures["test"]["n"] == len(prepared.split["test"]) - 1
    assert [row[0] for row in figures["test"]["unreadable"]] == names[1:]
    assert figures["validation"]["unreadable"] == []
