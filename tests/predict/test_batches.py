"""Many images at once: streamed, stopped, kept, cleared; drift; marks that become a dataset."""

import csv
import io
import time
import zipfile

import numpy as np
import pytest

from engine.data import datasets, prepare_worker
from engine.data.sources import collection
from engine.errors import DatasetError
from engine.predict import batch_worker, batches, confidence, drift, feedback, reference
from engine.predict.classifier import Classifier
from tests.support import ROOT
from tests.support.pictures import encode, picture

LOWRES = ROOT.parent / "shared" / "data" / "flowers_lowres"


@pytest.fixture
def photos(trained_run):
    """[(name, bytes)] of the run's example images, in class folders."""
    return [
        (f"{row['label']}/{row['path'].name}", row["path"].read_bytes())
        for row in trained_run.examples()
    ]


def zipped(files) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for name, data in files:
            out.writestr(name, data)
    packed.seek(0)
    return packed


def ended(batch):
    until = time.monotonic() + 120
    while (state := batch.state())["state"] == "running" and time.monotonic() < until:
        time.sleep(0.1)
    return state


def test_a_zip_of_class_folders_is_answered_with_accuracy(graft_home, trained_run, photos):
    files = [*photos, ("star/broken.png", b"no picture"), ("read me.txt", b"x")]
    batch = batches.start(graft_home, trained_run, zipped(files), "drawings.zip")
    state = ended(batch)
    assert state["state"] == "done", state["error"]
    rows, result = batch.rows(), state["result"]
    assert len(rows) == len(photos) + 1 and rows.read.sum() == len(photos)
    assert "it is not an image" in rows.errors[~rows.read][0]
    assert result["figures"]["n"] == len(photos)
    assert result["figures"]["accuracy"] > 0.7
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
    text = batches.to_csv(batches.table(trained_run, rows, verdicts))
    first, second = csv.DictReader(io.StringIO(text))
    assert first["image"] == "'=1+2.png" and first["answer"] in trained_run.classes
    assert first["sure"] in confidence.WORDS.values() and 0 < float(first["probability"]) <= 1
    assert second["answer"] == "" and "not an image" in second["error"]
    batch.clear()


# -- drift --------------------------------------------------------------------------------------


def half(known, seed):
    rows = known.rows("test")
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[: len(rows) // 2])
    measured = {name: values[rows] for name, values in known.measures.items()}
    return known.features[rows], known.probabilities[rows], measured


def test_half_of_the_test_images_are_of_the_same_kind(informative_run):
    known = reference.of(informative_run)
    for seed in range(5):
        found = drift.judge(known, *half(known, seed), seed)
        assert not found["drifted"], found
        assert "like the ones" in found["text"]


def test_darker_images_are_told_in_plain_words(informative_run):
    known = reference.of(informative_run)
    features, probabilities, measured = half(known, 0)
    measured["brightness"] = measured["brightness"] * 0.4
    found = drift.judge(known, features, probabilities, measured)
    assert found["drifted"] and "brightness" in found["text"]
    assert found["tests"]["brightness"]["text"].startswith("Mostly darker: median ")
    assert not found["tests"]["features"]["differs"]


@pytest.mark.skipif(not LOWRES.exists(), reason="needs ../shared/data/flowers_lowres")
def test_blurred_photos_from_elsewhere_are_drift(flowers_run):
    model, kept = Classifier(flowers_run), {}
    with batches.items(LOWRES) as items:
        parts = list(batch_worker.parts(model, items, kept=kept))
    joined = {n: np.concatenate([getattr(p, n) for p in parts]) for n in batches.COLUMNS}
    found = batch_worker.judged(flowers_run, batches.Rows(**joined), kept)
    assert found["drifted"]
    assert found["tests"]["features"]["differs"] and found["tests"]["sharpness"]["differs"]
    assert "test accuracy does not hold" in found["text"]


def test_rare_classes_raise_no_false_drift():
    """Two draws of one mix of 200 classes, 30 and 1000 images: drift is rarely reported."""
    random, told = np.random.default_rng(0), 0
    from scipy import stats

    for _ in range(400):
        mix = random.dirichlet(np.ones(200))
        counts = np.stack([random.multinomial(1000, mix), random.multinomial(30, mix)])
        table = drift.pooled(counts)
        told += table.shape[1] > 1 and stats.chi2_contingency(table).pvalue < 0.01
    assert told <= 12


def test_too_few_images_say_nothing_of_drift(trained_run):
    model = Classifier(trained_run)
    assert batch_worker.judged(model.run, None, {}) is None


def test_holm_keeps_the_order_and_never_passes_one():
    assert drift.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert drift.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


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
