"""Many images at once: streamed, stopped, kept, cleared; marks that become a dataset."""

import csv
import io
import time

import numpy as np
import pytest

from engine.data import datasets, prepare_worker
from engine.data.sources import collection
from engine.errors import DatasetError
from engine.predict import batches, confidence, feedback
from engine.predict import rows as answers
from engine.predict.classifier import Classifier
from tests.support.batches import ended, example_files, zipped
from tests.support.pictures import encode, picture


@pytest.fixture
def photos(trained_run):
    return example_files(trained_run)


def test_a_zip_of_class_folders_is_answered_with_accuracy(graft_home, trained_run, photos):
    files = [*photos, ("star/broken.png", b"no picture"), ("read me.txt", b"x")]
    batch = batches.start(graft_home, trained_run, zipped(files), "drawings.zip")
    state = ended(batch)
    assert state["state"] == "done", state["error"]
    rows = batch.rows()
    assert len(rows) == len(photos) + 1 and rows.read.sum() == len(photos)
    assert "it is not an image" in rows.errors[~rows.read][0]
    figures = answers.figures(rows, trained_run.classes)
    assert figures["n"] == len(photos) and figures["accuracy"] > 0.7
    assert [name for name, _ in batch.left_out] == ["read me.txt"]
    # The same answers as one by one.
    order = np.argsort([name for name, _ in photos])
    single = Classifier(trained_run).predict([photos[i][1] for i in order])
    ours = rows.probabilities[rows.read]
    assert np.abs(ours - np.array([a.probabilities for a in single])).max() < 1e-6
    assert all(batch.thumbnail(i)[:2] == b"\xff\xd8" for i in np.flatnonzero(rows.read)[:3])
    assert batch.image(0) == dict(photos)[str(rows.names[0])]
    assert batches.listed(graft_home, trained_run)[0].key == batch.key
    batch.clear()
    with pytest.raises(DatasetError, match="this batch no longer exists"):
        batches.open_(graft_home, batch.key)


def test_loose_files_with_any_name_become_a_batch(graft_home, trained_run):
    names = [
        "a.png",
        "a.png",
        "../../etc/passwd.png",
        "C:\\photos\\b.png",
        ".hidden.png",
        "ü/c.png",
    ]
    files = [(name, encode(picture(seed=i))) for i, name in enumerate(names)]
    batch = batches.start(graft_home, trained_run, files, "six images")
    assert ended(batch)["state"] == "done"
    rows = batch.rows()
    assert rows.read.all() and len(set(rows.names.tolist())) == len(names)
    assert not any(name.startswith((".", "/")) for name in rows.names.tolist())
    batch.clear()


def test_a_batch_that_is_stopped_keeps_its_answers(graft_home, trained_run):
    data = encode(picture(1200, 900), "JPEG")
    files = [(f"{i:04d}.jpg", data) for i in range(1500)]
    batch = batches.start(graft_home, trained_run, files, "many")
    until = time.monotonic() + 60
    while batch.rows() is None and time.monotonic() < until:
        time.sleep(0.05)
    batch.stop()
    state, rows = batch.state(), batch.rows()
    assert state["state"] == "done" and state["result"]["stopped"]
    assert 0 < len(rows) < 1500 and len(rows) % batches.PART == 0
    assert rows.read.all()
    batch.clear()


@pytest.mark.parametrize(
    "content, sentence",
    [(b"PK\x03\x04 cut off", "damaged or incomplete"), (b"", "not a zip file")],
)
def test_a_bad_zip_is_one_sentence_and_leaves_nothing(graft_home, trained_run, content, sentence):
    before = sorted((graft_home / "batches").glob("*"))
    with pytest.raises(DatasetError, match=sentence):
        batches.start(graft_home, trained_run, io.BytesIO(content), "bad.zip")
    with pytest.raises(DatasetError, match="has no image"):
        batches.start(graft_home, trained_run, zipped([("notes.txt", b"x")]), "text.zip")
    assert sorted((graft_home / "batches").glob("*")) == before


def test_old_batches_are_swept(graft_home, trained_run, monkeypatch):
    batch = batches.start(graft_home, trained_run, [("a.png", encode(picture()))], "one")
    ended(batch)
    monkeypatch.setattr(batches, "DAYS", -1)
    batches.sweep(graft_home)
    assert not batch.path.exists()


def test_a_damaged_batch_is_passed_over(graft_home, trained_run):
    folder = graft_home / "batches" / ("0" * 16)
    for content in ("{", "[]", '{"stage": {"run": "x"}}'):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / batches.REQUEST).write_text(content)
        batches.sweep(graft_home)
        assert folder not in {batch.path for batch in batches.listed(graft_home)}
        with pytest.raises(DatasetError, match="this batch no longer exists"):
            batches.open_(graft_home, folder.name)
    (folder / batches.REQUEST).unlink()
    folder.rmdir()


def test_csv_holds_every_answer_and_no_formula(graft_home, trained_run):
    files = [("=1+2.png", encode(picture())), ("b.png", b"no picture")]
    batch = batches.start(graft_home, trained_run, files, "two")
    ended(batch)
    rows = batch.rows()
    known = confidence.Confidence(trained_run)
    verdicts = [None] * len(rows)
    for row in np.flatnonzero(rows.read):
        verdicts[row] = known.judge(rows.probabilities[[row]], rows.distances[[row]])[0]
    text = answers.to_csv(answers.table(trained_run, rows, verdicts))
    first, second = csv.DictReader(io.StringIO(text))
    assert first["image"] == "'=1+2.png" and first["answer"] in trained_run.classes
    assert first["sure"] in confidence.WORDS.values() and 0 < float(first["probability"]) <= 1
    assert second["answer"] == "" and "not an image" in second["error"]
    batch.clear()


# -- marks --------------------------------------------------------------------------------------


def test_marked_images_become_a_new_version_of_the_dataset(graft_home, trained_run):
    before = datasets.open_dataset(trained_run.recipe.dataset, graft_home)
    label = trained_run.classes[0]
    one, two = encode(picture(seed=901)), encode(picture(seed=902))
    feedback.mark(trained_run, "one.png", one, label, label)
    feedback.mark(trained_run, "two.png", two, label, label)
    feedback.mark(trained_run, "two.png", two, label, "comet")  # the later word counts
    assert [row["label"] for row in feedback.marks(trained_run)] == [label, "comet"]
    assert feedback.label_of(trained_run, two) == "comet"
    name = feedback.suggested_name(trained_run, graft_home)
    spec, added, refused = feedback.collect(trained_run, graft_home, name)
    assert (added, refused) == (2, [])
    assert feedback.marks(trained_run) == []
    prepare_worker.ingest(spec, graft_home)
    after = datasets.open_dataset(spec, graft_home)
    assert len(after) == len(before) + 2 and "comet" in after.classes
    assert set(before.contents) < set(after.contents)
    assert feedback.suggested_name(trained_run, graft_home) != name
    collection.delete(graft_home, name)


def test_a_mark_is_taken_back_and_a_bad_one_refused(graft_home, trained_run):
    data = encode(picture(seed=903))
    feedback.mark(trained_run, "x.png", data, "star", "star")
    feedback.unmark(trained_run, feedback.marks(trained_run)[0]["content"])
    assert feedback.marks(trained_run) == []
    with pytest.raises(DatasetError, match="cannot be the name of a class"):
        feedback.mark(trained_run, "x.png", data, "star", "a/b")
    with pytest.raises(DatasetError, match="no image is marked"):
        feedback.collect(trained_run, graft_home, "any")
