"""Suspects: doubted labels, outliers, nearest images and the map, from features alone."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from engine import load_preset
from engine.data import prepare_worker
from engine.features import of_dataset
from engine.inspection import suspects
from engine.recipe import DatasetSpec
from tests.support.real_data import real_data

CLASSES = ["a", "b", "c"]


class Given:
    """Features that are there already."""

    def __init__(self, values):
        self.values = np.asarray(values, np.float32)
        self.width = self.values.shape[1]
        self.missing = np.isnan(self.values).any(axis=1)

    def read(self, rows):
        return self.values[rows]


def clusters(counts, width=64, seed=0):
    """(features, labels): a cloud for each class, positive like those after a ReLU."""
    random = np.random.default_rng(seed)
    middles = random.uniform(0, 2, (len(counts), width))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.abs(middles[labels] + random.normal(0, 0.4, (len(labels), width))), labels


def analyse(values, labels, classes=CLASSES, **options):
    return suspects.analyse(Given(values), labels, classes, lambda *progress: None, **options)


def test_wrong_labels_are_suspected_and_what_was_meant_is_suggested():
    values, right = clusters([60, 60, 60])
    labels = right.copy()
    wrong = np.array([3, 70, 150])
    labels[wrong] = [2, 0, 1]
    found = analyse(values, labels)
    assert set(np.flatnonzero(found["wrong"] > 0.5)) == set(wrong)
    assert set(np.argsort(found["given_probability"])[:3]) == set(wrong)
    assert (found["suggested"][wrong] == right[wrong]).all()
    assert found["accuracy"] == pytest.approx(177 / 180)
    assert found["rate"] == pytest.approx(3 / 180, abs=0.01) and found["noticed"] > 0.9
    for name in ("given_probability", "suggested_probability", "wrong"):
        assert found[name].dtype == np.float32 and ((found[name] >= 0) & (found[name] <= 1)).all()


def test_alike_images_are_nearest_and_lie_together_on_the_map():
    values, labels = clusters([60, 60, 60])
    found = analyse(values, labels)
    assert found["nearest"].shape == (180, 5) and found["nearest"].dtype == np.int32
    assert (labels[found["nearest"]] == labels[:, None]).mean() > 0.95
    assert (found["nearest"] != np.arange(180)[:, None]).all()
    places = found["projection"]
    middles = np.stack([places[labels == i].mean(axis=0) for i in range(3)])
    closest = np.linalg.norm(places[:, None] - middles, axis=2).argmin(axis=1)
    assert (closest == labels).mean() > 0.95
    again = analyse(values, labels)
    assert all(np.array_equal(found[k], again[k], equal_nan=True) for k in found)


def test_copies_do_not_vouch_for_each_other_nor_hide_that_they_are_alone():
    values, labels = clusters([60, 60, 60])
    # Six copies of one picture of class c, all labelled a; and an odd one, thrice.
    odd = np.random.default_rng(5).uniform(0, 4, 64) * (np.arange(64) % 2)
    values = np.concatenate([values, np.repeat(values[150:151], 6, axis=0), np.stack([odd] * 3)])
    labels = np.concatenate([labels, [0] * 6, [1] * 3])
    contents = np.array([f"{i:064x}" for i in [*range(180), *[150] * 6, *[999] * 3]])
    found = analyse(values, labels, contents=contents)
    assert (found["suggested"][180:186] == 2).all() and (found["wrong"][180:186] > 0.5).all()
    assert (found["outlier"][186:] > 1).all()
    assert np.isin(found["nearest"][186, :2], [187, 188]).all()


def test_classes_with_hardly_any_image_get_no_verdict_and_no_crash():
    values, labels = clusters([40, 40, 1, 2, 1], width=32)
    found = analyse(values, labels, list("abcde"))
    alone = np.isin(labels, [2, 4])
    assert np.isnan(found["given_probability"][alone]).all()
    assert (found["suggested"][alone] == -1).all() and np.isnan(found["wrong"][alone]).all()
    assert np.isfinite(found["given_probability"][~alone]).all()
    assert np.isfinite(found["projection"]).all() and np.isfinite(found["outlier"]).all()


@pytest.mark.parametrize("counts", [[1, 1], [2, 1], [3, 3], [0, 4]])
def test_a_handful_of_images_is_enough_not_to_fail(counts):
    values, labels = clusters(counts, width=16)
    found = analyse(values, labels, ["a", "b"])
    assert len(found["nearest"]) == sum(counts) and np.isfinite(found["projection"]).all()
    assert (found["nearest"] < sum(counts)).all()


def test_images_without_features_and_equal_ones_do_not_disturb_the_rest():
    values, labels = clusters([40, 40, 40])
    values[7], values[100] = np.nan, np.nan
    found = analyse(values, labels)
    there = np.setdiff1d(np.arange(120), [7, 100])
    assert np.isnan(found["outlier"][[7, 100]]).all() and (found["nearest"][[7, 100]] == -1).all()
    assert not np.isin(found["nearest"], [7, 100]).any()
    assert np.isfinite(found["outlier"][there]).all() and found["accuracy"] > 0.9
    same = analyse(np.ones((20, 8)), np.arange(20) % 2, ["a", "b"])
    assert not (same["outlier"] > 1).any() and np.isfinite(same["projection"]).all()


def test_it_can_be_stopped_and_tells_how_far_it_is():
    values, labels = clusters([30, 30, 30])
    told = []

    def report(text, done, total):
        told.append((text, done, total))
        if "nearest" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suspects.analyse(Given(values), labels, CLASSES, report)
    assert len({text for text, _, _ in told}) == 4
    assert all(0 <= done <= total for _, done, total in told)


def test_beyond_the_bounds_all_images_still_have_a_place(monkeypatch):
    """Large datasets are looked at through evenly drawn samples."""
    for name, bound in {"MAPPED": 60, "REFERENCES": 120, "FIT": 60, "CHUNK": 64}.items():
        monkeypatch.setattr(suspects, name, bound)
    values, labels = clusters([60, 60, 60])
    found = analyse(values, labels)
    places = found["projection"]
    middles = np.stack([places[labels == i].mean(axis=0) for i in range(3)])
    closest = np.linalg.norm(places[:, None] - middles, axis=2).argmin(axis=1)
    assert (closest == labels).mean() > 0.95 and found["accuracy"] > 0.95
    assert (labels[found["nearest"]] == labels[:, None]).mean() > 0.9
    assert np.isfinite(found["outlier"]).all()


def test_the_light_modules_load_neither_keras_nor_scikit_learn():
    code = (
        "import sys; from engine.inspection import suspects, payback, payback_worker; "
        "from engine.predict import embedding; from engine.features import of_dataset;"
        "print([m for m in ('keras', 'tensorflow', 'sklearn', 'scipy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


# -- with a backbone --------------------------------------------------------------------------


def test_a_file_that_has_gone_has_no_features_and_a_stopped_pass_goes_on(class_folder, own_home):
    recipe = load_preset("sample", ["augmentation={flip: horizontal}"])
    spec = DatasetSpec(source="folder", path=str(class_folder))
    dataset = prepare_worker.ingest(spec, own_home)
    (class_folder / dataset.names[5]).unlink()

    def stop(phase, text, done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with of_dataset.open_features(dataset, recipe, own_home, stop):
            pass
    told = []
    with of_dataset.open_features(
        dataset, recipe, own_home, lambda *progress: told.append(progress)
    ) as found:
        assert np.flatnonzero(found.missing).tolist() == [5]
        values = found.read(np.arange(len(dataset)))
        key = found.key
    assert np.isnan(values[5]).all() and np.isfinite(np.delete(values, 5, axis=0)).all()
    # Of 36 images the first 16 were done, with or without the one that has gone.
    assert told[-1][3] in (20, 21)
    plain = load_preset("sample", ["augmentation=none"])
    with of_dataset.open_features(dataset, plain, own_home, lambda *a: None) as again:
        assert again.key == key  # it says what computed them, wherever they lie
        assert np.array_equal(again.read(np.arange(36)), values, equal_nan=True)


@real_data
def test_wrong_labels_and_foreign_pictures_among_photos_rank_high(graft_home, tmp_path):
    """Ten wrong labels among 600 photos: at least eight among the first thirty suspects."""
    recipe = load_preset("flowers")
    photos = prepare_worker.ingest(recipe.dataset, graft_home)
    random = np.random.default_rng(0)
    chosen = np.sort(random.choice(len(photos), 600, replace=False))
    labels = photos.labels.copy()
    wrong = random.choice(chosen, 10, replace=False)
    labels[wrong] = (labels[wrong] + random.integers(1, 5, 10)) % 5
    for i in chosen.tolist():
        path = tmp_path / "photos" / photos.classes[labels[i]] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photos.image_bytes(i))
    for place, name in enumerate(("black", "white")):
        file = io.BytesIO()
        Image.new("RGB", (320, 240), name).save(file, "PNG")
        path = tmp_path / "photos" / photos.classes[place] / f"{name}.png"
        path.write_bytes(file.getvalue())
    dataset = prepare_worker.ingest(
        DatasetSpec(source="folder", path=str(tmp_path / "photos")), graft_home
    )
    with of_dataset.open_features(dataset, recipe, graft_home, lambda *a: None) as found:
        seen = suspects.analyse(
            found, dataset.labels, dataset.classes, lambda *a: None, contents=dataset.contents
        )
    place = {name.rsplit("/", 1)[-1]: i for i, name in enumerate(dataset.names)}
    planted = [place[f"{i}.jpg"] for i in wrong.tolist()]
    first = np.argsort(seen["given_probability"])[:30]
    assert len(np.intersect1d(first, planted)) >= 8
    assert (seen["outlier"][[place["black.png"], place["white.png"]]] > 1).all()
