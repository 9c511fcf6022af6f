"""A home that an earlier version wrote opens, shows, answers and resumes as it did then."""

import time

import numpy as np
import pytest

from engine.data import datasets
from engine.host import settings
from engine.jobs import jobs
from engine.predict import batches
from engine.predict.classifier import Classifier
from engine.recipe import Recipe
from engine.runs import queue, runs, trash
from tests.support.events import unknown_fields
from tests.support.home_of_before import unpacked
from tests.support.training import events


@pytest.fixture
def before(tmp_path):
    return unpacked(tmp_path)


def test_its_runs_are_listed_and_shown_as_they_were(before):
    home, notes = before
    assert [run.id for run in runs.list_runs(home)] == [
        notes[name] for name in ("waiting", "paused", "first")
    ]
    run, then = runs.get_run(home, "latest"), notes["summary"]
    shown = run.summary()
    for name in ("path", "bytes"):  # of the folder, which has moved
        shown.pop(name), then.pop(name)
    # Fields that a later version added have their defaults; they count in the hash.
    shown.pop("recipe_hash"), then.pop("recipe_hash")
    assert shown.pop("owner") == "local"  # there were no accounts
    assert shown.pop("recipe") == Recipe.from_dict(then.pop("recipe")).to_dict()
    assert shown == then
    assert len(run.events()[0]) == notes["events"]
    assert runs.get_run(home, notes["paused"]).status == "paused"
    assert settings.get(home)["min_free_mb"] == 128


def test_its_model_gives_the_answers_it_gave(before):
    home, notes = before
    run = runs.get_run(home, notes["first"])
    examples = run.examples()
    assert [row["file"] for row in examples] == [row["file"] for row in notes["answers"]]
    found = Classifier(run).predict([row["path"] for row in examples])
    wanted = [row["probabilities"] for row in notes["answers"]]
    np.testing.assert_allclose([each.probabilities for each in found], wanted, atol=1e-4)


def test_its_decisions_about_images_apply(before):
    home, notes = before
    decided = runs.get_run(home, notes["paused"]).recipe.dataset
    assert decided.overlay == notes["overlay"]
    whole = datasets.open_dataset(decided.model_copy(update={"overlay": ""}), home)
    chosen = datasets.open_dataset(decided, home)
    assert (len(whole), len(chosen)) == (51, 49)
    assert (chosen.labels != whole.labels[2:]).tolist() == [True] + 48 * [False]


def test_its_batch_opens(before):
    home, notes = before
    batch = batches.open_(home, notes["batch"])
    assert batch.state()["state"] == "done" and batch.state()["result"]["images"] == 6
    rows = batch.rows()
    answered = zip(rows.names.tolist(), rows.probabilities.argmax(1).tolist(), strict=True)
    assert [list(each) for each in answered] == notes["batch_labels"]
    assert batch.thumbnail(0)


def test_its_trash_is_restored(before):
    home, notes = before
    assert [deleted.id for deleted in trash.listed(home)] == [notes["trashed"]]
    assert trash.restore(home, notes["trashed"]).status == "stopped"


@pytest.mark.slow
def test_its_waiting_run_starts_and_its_paused_run_continues(before):
    home, notes = before
    assert queue.waiting(home) == [notes["waiting"]]
    paused, waiting = (runs.get_run(home, notes[name]) for name in ("paused", "waiting"))
    known = len(paused.events()[0])
    jobs.resume(paused)
    assert jobs.wait(waiting).status == "finished", waiting.log_tail()
    while not any(event["event"] == "batch" for event in paused.events()[0][known:]):
        assert paused.status in runs.ACTIVE, paused.log_tail()
        time.sleep(0.05)
    jobs.stop(paused)
    assert jobs.wait(paused).status == "stopped" and paused.finished, paused.log_tail()
    [resumed] = [event for event in events(paused, "resume") if event in paused.events()[0][known:]]
    assert resumed["step"] == 50  # of its checkpoint
    assert unknown_fields(paused) == unknown_fields(waiting) == []
