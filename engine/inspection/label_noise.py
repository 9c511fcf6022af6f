"""How probable it is that a label is wrong, estimated from each dataset's own answers.

A classifier that is often wrong itself disagrees with many correct labels, so a disagreement alone
says little. Two numbers of the dataset tell the two apart, fitted by maximum likelihood to
out-of-fold answers: how far the classifier's probabilities are to be sharpened (their temperature;
Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", ICML), and which
share of the labels was replaced at random by another class (symmetric label noise; Patrini et al.
2017, "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR):

    P(label) = (1 - rate) p[label] + rate (1 - p[label]) / (classes - 1)

A classifier that confuses classes is unsure about them, which the temperature explains. A label
that was replaced is wrong where the classifier is sure, too, which only the rate explains. So the
estimate is about 0 for clean labels, however good or bad the classifier is. Errors that are always
between the two most similar classes cannot be distinguished from correct labels of similar images;
their rate is estimated as 0, too. docs/inspection.md has the measured figures.
"""

from __future__ import annotations

import numpy as np

EXPONENTS = np.geomspace(0.5, 6.0, 16)
"""Inverse temperatures that are tried: 1 leaves the classifier's probabilities as they are."""
USUAL = 0.02
"""Share of wrong labels for which `noticed` is stated."""
STEPS = 100
"""Of expectation maximization, for the rate; it is concave in the rate, and took 10 to 40."""


def sharpened(chances: np.ndarray, own: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """What `estimate` needs of some images, for each of `EXPONENTS`.

    Args:
        chances: float array (m, c), out-of-fold probabilities.
        own: int array (m,), the column of each image's label.
        classes: how many classes the dataset has, 2 or more.

    Returns:
        (probability of the label, float32 (m, 16); share of the other classes that would be
        suspect as this image's label, float32 (m, 16)).
    """
    logs = np.log(np.maximum(chances, 1e-12))
    logs -= logs.max(axis=1, keepdims=True)
    rows = np.arange(len(logs))
    # Below this probability, a label of a dataset with USUAL wrong labels is more likely wrong.
    least = USUAL / (USUAL + (1 - USUAL) * (classes - 1))
    given = np.empty((len(logs), len(EXPONENTS)), np.float32)
    noticed = given.copy()
    for place, exponent in enumerate(EXPONENTS):
        values = np.exp(exponent * logs)
        values /= values.sum(axis=1, keepdims=True)
        given[:, place] = values[rows, own]
        below = values < least
        below[rows, own] = False
        noticed[:, place] = below.sum(axis=1) / max(1, values.shape[1] - 1)
    return given, noticed


def estimate(given: np.ndarray, classes: int) -> tuple[int, float]:
    """The most likely temperature and share of wrong labels.

    Args:
        given: float array (n, 16) of `sharpened`, all images.
        classes: as for `sharpened`.

    Returns:
        (place in `EXPONENTS`, share 0 to 1).
    """
    best, found = -np.inf, (0, 0.0)
    for place in range(given.shape[1]):
        right = np.maximum(given[:, place].astype(float), 1e-300)
        other = (1 - right) / (classes - 1)
        rate = USUAL
        for _ in range(STEPS):
            before, wrong = rate, rate * other
            rate = float(np.mean(wrong / (wrong + (1 - rate) * right)))
            if abs(rate - before) < 1e-5:
                break
        likelihood = float(np.log((1 - rate) * right + rate * other).mean())
        if likelihood > best:
            best, found = likelihood, (place, rate)
    return found


def wrong(given: np.ndarray, rate: float, classes: int) -> np.ndarray:
    """The probability that each label is wrong, by Bayes' rule; float32 array (n,), 0 to 1.

    Args:
        given: float array (n,), the sharpened probability of each label.
        rate: of `estimate`.
        classes: as for `sharpened`.
    """
    other = rate * (1 - given) / (classes - 1)
    return (other / np.maximum(other + (1 - rate) * given, 1e-300)).astype(np.float32)
