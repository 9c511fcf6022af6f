"""Many images at once: streamed, stopped, kept, cleared; drift; marks that become a dataset."""

import csv
import io
import json
import re
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageEnhance, ImageFilter

from engine.data import datasets, prepare_worker
from engine.data.sources import collection, reading
from engine.data.sources.tree import Image
from engine.errors import DatasetError
from engine.images import decode
from engine.predict import batch_worker, batches, confidence, drift, feedback, reference
from engine.predict import rows as answers
from engine.predict.classifier import Classifier
from tests.support import ROOT
from tests.support.cli import graft
from tests.support.off_topic import off_topic
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


# -- drift --------------------------------------------------------------------------------------


def photos_of(run):
    """(PIL images, labels) of the run's test part."""
    dataset = datasets.open_dataset(run.recipe.dataset, run.path.parents[1])
    known = reference.of(run)
    place = {name: number for number, name in enumerate(dataset.names)}
    rows = known.rows("test")[:200]
    found = [decode.read(dataset.image_bytes(place[name])) for name in known.names[rows].tolist()]
    return found, known.labels[rows]


def judged(run, pictures):
    """(verdict of drift, answers) of PIL images."""
    images = [Image(f"{i:04d}", "", "train", 0, i) for i in range(len(pictures))]
    encoded = [encode(picture, "PNG") for picture in pictures]
    found = answers.joined(
        list(batch_worker.parts(Classifier(run), images, lambda i: encoded[i.origin]))
    )
    return batch_worker.judged(run, found), found.probabilities.argmax(axis=1)


def scaled(factor):
    return lambda p: p.resize((int(p.width * factor), int(p.height * factor)))


def dark(picture):
    return ImageEnhance.Brightness(picture).enhance(0.2)


def blurred(picture):
    return picture.filter(ImageFilter.GaussianBlur(8))


def test_half_of_the_test_images_are_of_the_same_kind(informative_run):
    known = confidence.Confidence(informative_run)
    probabilities, _ = known.of_part("test")
    test = known.reference.rows("test")
    for seed in range(5):
        half = np.random.default_rng(seed).permutation(len(test))[: len(test) // 2]
        measured = {name: each[test[half]] for name, each in known.reference.measures.items()}
        found = drift.judge(known, known.far["test"][half], probabilities[half], measured)
        assert not found["drifted"], found
        assert found["text"].endswith("are like the ones the run was validated on.")


@pytest.mark.parametrize("factor", [0.5, 2])
def test_copies_of_another_size_are_a_note_and_no_drift(informative_run, factor):
    pictures, labels = photos_of(informative_run)
    _, before = judged(informative_run, pictures)
    found, after = judged(informative_run, list(map(scaled(factor), pictures)))
    assert not found["drifted"] and found["tests"]["size"]["differs"], found
    assert re.search(r"differ in .*size.*, which is no drift by itself", found["text"])
    assert "does not hold" not in found["text"]
    assert abs((after == labels).mean() - (before == labels).mean()) < 0.05  # so it is true


@pytest.mark.parametrize("change", [dark, blurred])
def test_what_the_classifier_sees_worse_is_drift(informative_run, change):
    pictures, labels = photos_of(informative_run)
    found, answers = judged(informative_run, list(map(change, pictures)))
    assert found["drifted"] and found["tests"]["features"]["differs"], found
    assert "test accuracy does not hold" in found["text"]
    assert (answers == labels).mean() < 0.85  # so it is true


def test_pictures_of_other_things_are_drift(informative_run):
    found, _ = judged(informative_run, [image for _, image in off_topic(60)])
    assert found["drifted"] and found["tests"]["features"]["after"] > 0.8


def test_another_mix_of_classes_alone_is_a_note(informative_run):
    known = confidence.Confidence(informative_run)
    probabilities, labels = known.of_part("test")
    test = known.reference.rows("test")
    half = np.flatnonzero(labels < 2)
    measured = {name: each[test[half]] for name, each in known.reference.measures.items()}
    found = drift.judge(known, known.far["test"][half], probabilities[half], measured)
    assert not found["drifted"] and found["tests"]["classes"]["differs"]
    assert "mix of classes, which is no drift by itself" in found["text"]


@pytest.mark.skipif(not LOWRES.exists(), reason="needs ../shared/data/flowers_lowres")
def test_blurred_photos_from_elsewhere_are_drift(flowers_run):
    model = Classifier(flowers_run)
    with reading.opened(LOWRES, model.classes) as (found, read):
        answered = answers.joined(list(batch_worker.parts(model, found.images, read)))
    verdict = batch_worker.judged(flowers_run, answered)
    assert verdict["drifted"]
    assert verdict["tests"]["features"]["differs"] and verdict["tests"]["sharpness"]["differs"]
    assert "test accuracy does not hold" in verdict["text"]


def test_evidence_of_drift_is_compared_within_each_answered_class():
    random = np.random.default_rng(0)
    kinds, others = random.integers(0, 2, 500), np.zeros(60, int)
    far = random.normal(0, 1, 500) + 3 * kinds  # images of one class lie farther in any case
    p, share = drift.larger(far, random.normal(0, 1, 60), kinds, others)
    assert p > 0.01 and 0.4 < share < 0.6
    p, share = drift.larger(far, random.normal(1, 1, 60), kinds, others)
    assert p < 1e-6 and share > drift.EFFECT
    assert drift.larger(np.ones(40), np.ones(40), np.zeros(40), np.zeros(40)) == (0.5, 0.5)
    assert drift.larger(np.zeros(40), np.ones(40), np.zeros(40), np.ones(40))[1] == 1  # a new class


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
    assert judged(trained_run, [picture(seed=i) for i in range(drift.LEAST - 1)])[0] is None


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


# -- folders ------------------------------------------------------------------------------------


def both(place, tree):
    """A folder with files {name: bytes}, and a zip of it."""
    for name, data in tree.items():
        (place / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "tree" / name).write_bytes(data)
    return place / "tree", Path(shutil.make_archive(place / "tree", "zip", place / "tree"))


def told(run, source, *options):
    """What `batch --json` and `evaluate --json` say of a folder or a zip."""
    found = []
    for command in (["batch", run.id, source], ["evaluate", run.id, "--data", source]):
        done = graft(*command, *options, "--json", home=run.path.parents[1])
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    return found


def test_folder_and_zip_batch_and_evaluate_agree(trained_run, photos, tmp_path):
    first, second, third = trained_run.classes[:3]
    names = {first: f"{first.upper()}/monday", second: f"{second}s", third: f"{third}/a/b"}
    files = {}
    for name, data in photos:
        label, own = name.split("/")
        files[f"pictures/{names.get(label, 'meadow')}/{own}"] = data
    files |= {
        "pictures/notes.txt": b"x",
        f"pictures/{third}/@eaDir/small.jpg": photos[0][1],
        f"pictures/{third}/broken.png": b"no picture",
        "pictures/meadow/.hidden.png": photos[0][1],
    }
    folder, packed = both(tmp_path, files)
    batch, own = told(trained_run, folder)
    same, same_own = told(trained_run, packed)
    for row in [*batch["answers"], *same["answers"]]:
        row.pop("seconds")
    assert batch == same and own == same_own
    figures = batch["figures"]
    assert {key: own[key] for key in figures} == figures and own["left_out"] == batch["left_out"]
    assert {row["name"]: (row["label"], row["near"]) for row in figures["folders"]} == {
        first.upper(): (first, ""),
        f"{second}s": ("", second),
        third: (third, ""),
        "meadow": ("", ""),
    }
    of = {name: sum(n.startswith(f"{name}/") for n, _ in photos) for name in (first, third)}
    assert figures["n"] == sum(of.values())
    support = {row["label"]: row["support"] for row in figures["per_class"]}
    assert support == dict.fromkeys(trained_run.classes, 0) | of
    for row in figures["per_class"]:
        assert row["support"] or row["precision"] is row["recall"] is row["f1"] is None
    assert len(batch["left_out"]) == 3 and own["unreadable"][0][0] == f"{third}/broken.png"
    counted, _ = told(trained_run, folder, "--map", f"{second}s={second}")
    assert counted["figures"]["n"] > figures["n"]
    text = graft("evaluate", trained_run.id, "--data", packed, home=trained_run.path.parents[1])
    assert f"{second}s: did you mean {second}? " in text.stderr
    assert re.search(rf"{second} +– +– +– +0", text.stdout)


@pytest.mark.parametrize("packed", [False, True])
def test_the_first_folder_is_the_class_and_links_count(trained_run, photos, tmp_path, packed):
    first, second = trained_run.classes[:2]
    mine = [(name, data) for name, data in photos if name.startswith((first, second))]
    files = {name.replace("/", "/session 1/"): data for name, data in mine}
    folder, archive = both(tmp_path, {f"around/{name}": data for name, data in files.items()})
    if not packed:
        (folder / "around" / second).rename(tmp_path / "elsewhere")
        (folder / "around" / second).symlink_to(tmp_path / "elsewhere")
    with reading.opened(archive if packed else folder, trained_run.classes) as (found, read):
        got = answers.joined(list(batch_worker.parts(Classifier(trained_run), found.images, read)))
    figures = answers.figures(got, trained_run.classes)
    assert figures["n"] == len(mine) and {f["name"] for f in figures["folders"]} == {first, second}


def test_the_class_of_a_folder_is_chosen_and_kept(graft_home, trained_run, photos):
    label = trained_run.classes[0]
    files = [(f"pieces/{name.split('/')[1]}", data) for name, data in photos if label in name]
    batch = batches.start(graft_home, trained_run, zipped([*files, *photos]), "more.zip")
    assert ended(batch)["state"] == "done"
    before = answers.figures(batch.rows(), trained_run.classes, batch.chosen)
    batch.choose("pieces", label)
    again = batches.open_(graft_home, batch.key)
    after = answers.figures(again.rows(), trained_run.classes, again.chosen)
    assert after["n"] == before["n"] + len(files)
    row = answers.table(trained_run, again.rows(), chosen=again.chosen)[-1]
    assert row["folder"] == row["true_class"]
    batch.choose("pieces", "")
    assert answers.figures(again.rows(), trained_run.classes, again.chosen)["n"] == before["n"]
    batch.clear()


def test_hidden_files_of_an_uploaded_folder_are_left_out_as_in_a_zip(graft_home, trained_run):
    data = encode(picture())
    files = [("mine/a.png", data), ("mine/.thumbs/a.png", data), ("mine/@eaDir/b.png", data)]
    batch = batches.start(graft_home, trained_run, files, "a folder")
    assert ended(batch)["state"] == "done"
    assert batch.rows().names.tolist() == ["mine/a.png"] and len(batch.left_out) == 2
    batch.clear()
