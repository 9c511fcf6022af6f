"""What a run says of its dataset: near copies of training images, and files that are left out."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from engine import home as homes
from engine.data import datasets
from engine.data.unreadable import Unreadable
from engine.exports import card
from engine.predict import evaluation
from engine.recipe import load_preset
from engine.runs import files, runs
from engine.train import result, training
from tests.support.cli import graft


@pytest.fixture
def leaking(trained_run, graft_home, monkeypatch):
    """A run, as if 20 of its test images had a near copy in its training part."""
    path = trained_run.path.parent / "leaking"
    shutil.copytree(trained_run.path, path)
    (path / files.MANIFEST).unlink()  # its evaluation is about to be another
    run = runs.Run(path)
    dataset = datasets.open_dataset(run.recipe.dataset, graft_home)
    split = dataset.split(run.recipe.split)
    groups = np.full(len(dataset), -1)
    groups[split["test"][:20]] = groups[split["train"][:20]] = np.arange(20)
    monkeypatch.setattr(datasets.Dataset, "copies", property(lambda self: groups))
    work = SimpleNamespace(dataset=dataset, split=split, report=lambda *_: None)
    figures = result.evaluate(run, work, Unreadable(dataset, split, print))
    homes.write_json(path / files.EVALUATION, run.evaluation | figures)
    yield runs.Run(path)
    shutil.rmtree(path)


def test_its_accuracy_without_copies_is_shown_beside_it(leaking, graft_home):
    test = leaking.evaluation["test"]
    alone = test["without_copies"]
    assert alone["n"] == test["n"] - 20
    said = evaluation.beside_copies(test)
    assert said.endswith(f"of the {alone['n']} without a near copy in the training part")
    assert said in graft("show", leaking.id, home=graft_home).stdout
    assert said in card._evaluation(leaking)
    assert said in result.sentence("finished", SimpleNamespace(kept=lambda: "stage"), test)


def test_a_run_without_copies_says_nothing(trained_run):
    test = trained_run.evaluation["test"]
    assert "without_copies" not in test and evaluation.beside_copies(test) == ""


def test_a_run_notes_what_its_dataset_leaves_out(class_folder, own_home):
    (class_folder / "red" / "notes.txt").write_text("x")
    sets = ["dataset.source=folder", f"dataset.path={class_folder}"]
    run, said = runs.create(load_preset("sample", sets), own_home), []
    log = SimpleNamespace(write=lambda kind, text: said.append((kind, text)))
    training._open_data(run, own_home, lambda *_: None, log, False)
    [(kind, text)] = said
    assert kind == "note" and text.startswith("1 file or folder left out: 1: ")
