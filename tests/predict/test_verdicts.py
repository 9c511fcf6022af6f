"""Verdicts and their words, from numbers alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from engine.predict import reference
from engine.predict.confidence import MEANING, WORDS, Confidence, Verdict

USUAL, THRESHOLD = 0.5, 0.8
CLASSES = ["daisy", "rose", "tulip"]


@pytest.fixture
def judging(monkeypatch):
    """A Confidence whose validation images have answers of 0.3 to 0.99 for their true class."""
    given = np.linspace(0.30, 0.99, 100)
    known = SimpleNamespace(
        classes=CLASSES,
        features=np.zeros((100, 2), np.float32),
        probabilities=np.stack([given, (1 - given) / 2, (1 - given) / 2], axis=1),
        labels=np.zeros(100, int),
        rows=lambda part: np.arange(100),
    )
    monkeypatch.setattr(reference, "of", lambda run: known)
    kept = {"temperature": 1.0, "threshold": THRESHOLD, "usual": USUAL}
    return Confidence(SimpleNamespace(id="x"), kept)


@pytest.mark.parametrize(
    ("probabilities", "distance", "kind", "words"),
    [
        ([0.02, 0.95, 0.03], 0.1, "sure", "Sure: rose."),
        ([0.02, 0.95, 0.03], USUAL + 0.1, "far", "Likely rose, but far from training."),
        ([0.20, 0.60, 0.20], 0.1, "likely", "Likely rose; no other class is likely."),
        ([0.45, 0.50, 0.05], 0.1, "unsure", "Not sure: rose or daisy."),
        ([0.34, 0.33, 0.33], 0.1, "unsure", "Not sure: no class is likely enough."),
        ([0.02, 0.95, 0.03], THRESHOLD + 0.1, "unlike", "Not like the training images, so"),
        ([0.34, 0.33, 0.33], THRESHOLD + 0.1, "unlike", "Not like the training images, so"),
    ],
)
def test_numbers_become_one_kind_of_verdict_with_one_sentence(
    judging, probabilities, distance, kind, words
):
    assert 0.35 < judging.least(0.9) < 0.45
    [found] = judging.judge(np.array([probabilities]), np.array([distance]), 0.9)
    assert found.kind == kind and found.text.startswith(words)
    assert found.distance == distance


def test_a_higher_coverage_makes_more_classes_likely_and_fewer_answers_sure(judging):
    probabilities, near = np.array([[0.30, 0.65, 0.05]]), np.array([0.1])
    kinds = [judging.judge(probabilities, near, c)[0].kind for c in (0.6, 0.9, 0.999)]
    assert kinds == ["sure", "likely", "unsure"]


def test_three_likely_classes_are_listed_with_or_before_the_last():
    verdict = Verdict("unsure", ["a", "b", "c"], 0.1)
    assert verdict.text == "Not sure: a, b or c."


def test_every_kind_has_a_word_and_a_meaning(judging):
    assert list(WORDS) == list(MEANING) == ["sure", "likely", "far", "unsure", "unlike"]
    assert judging.limits == [(USUAL, WORDS["far"]), (THRESHOLD, WORDS["unlike"])]


def test_images_that_could_not_be_read_have_no_verdict(judging):
    broken = SimpleNamespace(error="not an image")
    assert judging.verdicts([broken, broken]) == [None, None]
