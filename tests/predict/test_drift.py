"""Drift: images that are unlike the ones a run was validated on."""

import re

import numpy as np
import pytest
from PIL import ImageEnhance, ImageFilter

from engine.data import datasets
from engine.data.sources import reading
from engine.data.sources.tree import Image
from engine.images import decode
from engine.predict import batch_worker, confidence, drift, reference
from engine.predict import rows as answers
from engine.predict.classifier import Classifier
from tests.support import ROOT
from tests.support.off_topic import off_topic
from tests.support.pictures import encode, picture

LOWRES = ROOT.parent / "shared" / "data" / "flowers_lowres"


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
