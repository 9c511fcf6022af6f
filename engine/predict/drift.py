"""Compares a batch of images with the run's validation images, and says in words how they differ.

SciPy is imported inside the functions; only the process of a batch calls them. The validation
images stand for the training data: a network's features of the images it was fitted on are unlike
those of any others.

Five tests, each with a p-value, corrected together (Holm 1979, "A Simple Sequentially Rejective
Multiple Test Procedure", Scandinavian Journal of Statistics):

- image content: maximum mean discrepancy of the pooled features, with a Gaussian kernel of the
  median distance and a permutation test (Gretton, Borgwardt, Rasch, Schölkopf, Smola 2012, "A
  Kernel Two-Sample Test", JMLR 13);
- brightness, sharpness, size: Kolmogorov-Smirnov;
- mix of classes, by the answers: chi-square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.host.words import listed, percent

if TYPE_CHECKING:
    from engine.predict.reference import Reference

LEAST = 30
"""Fewest images on either side: with fewer, a test finds only large differences."""
MOST = 500
"""Most images of each side whose features are compared, evenly drawn."""
PERMUTATIONS = 2000
LEVEL = 0.01
"""A difference is reported if its corrected p-value is below this. One batch in a hundred without
any difference is then reported by mistake."""
WORDS = {
    "features": "image content",
    "brightness": "brightness",
    "sharpness": "sharpness",
    "size": "size",
    "classes": "mix of classes",
}


def judge(
    known: Reference,
    features: np.ndarray,
    probabilities: np.ndarray,
    measured: dict[str, np.ndarray],
    seed: int = 0,
) -> dict:
    """Compares a batch with the validation images of a run.

    Args:
        known: the run's reference.
        features: float array (n, width), normalised pooled features of the batch.
        probabilities: float array (n, classes).
        measured: {name of `reference.MEASURES`: float array (n,)}.
        seed: of the permutations.

    Returns:
        Plain data: n; validation (images compared with); drifted, whether any difference is
        reported; text, one sentence; tests, {name of `WORDS`: dict of p (corrected, 0 to 1),
        differs, before and after (medians, or {class: share}; None for features), text}.

    Raises:
        ValueError: for fewer than `LEAST` images on either side.
    """
    from scipy import stats

    own = known.rows("validation")
    if min(len(features), len(own)) < LEAST:
        raise ValueError(f"drift needs at least {LEAST} images on either side")
    found: dict[str, tuple] = {
        "features": (discrepancy(known.features[own], features, seed), None, None)
    }
    before = {name: values[own] for name, values in known.measures.items()}
    for name in ("brightness", "sharpness", "size"):
        first, second = _values(name, before), _values(name, measured)
        p = float(stats.ks_2samp(first, second).pvalue)
        found[name] = (p, float(np.median(first)), float(np.median(second)))
    found["classes"] = _class_mix(known, known.probabilities[own], probabilities)
    tests = {}
    corrected = holm([p for p, _, _ in found.values()])
    for (name, (_, old, new)), p in zip(found.items(), corrected, strict=True):
        test = {"p": p, "differs": p < LEVEL, "before": old, "after": new}
        tests[name] = test | {"text": _sentence(name, test)}
    different = [name for name, test in tests.items() if test["differs"]]
    return {
        "n": len(features),
        "validation": len(own),
        "drifted": bool(different),
        "text": _summary(different),
        "tests": tests,
    }


def _class_mix(known, ours, theirs):
    """(p-value, {class: share} of validation, of the batch), by the most probable classes."""
    from scipy import stats

    classes = known.classes
    counts = np.array(
        [
            np.bincount(np.asarray(rows).argmax(axis=1), minlength=len(classes))
            for rows in (ours, theirs)
        ]
    )
    table = pooled(counts)
    p = float(stats.chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0
    shares = (counts / counts.sum(axis=1, keepdims=True)).tolist()
    return (p, *(dict(zip(classes, share, strict=True)) for share in shares))


def _summary(different) -> str:
    """All tests in one sentence; different: names of `WORDS`."""
    if not different:
        return (
            "These images are like the ones the run was validated on: no test found a difference."
        )
    if different == ["classes"]:
        return "The images look the same, but the mix of classes differs."
    return (
        "These images are not like the ones the run was validated on: they differ in "
        f"{listed([WORDS[name] for name in different])}, so its test accuracy does not hold for "
        "them."
    )


def pooled(counts: np.ndarray) -> np.ndarray:
    """Puts rare classes into one column, so that each column expects five or more.

    The chi-square test needs that (Cochran 1954, "Some Methods for Strengthening the Common
    Chi-Square Tests", Biometrics 10).

    Args:
        counts: int array (2, classes).
    """
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    rest = counts[:, expected < 5].sum(axis=1, keepdims=True)
    kept = np.concatenate([counts[:, expected >= 5], rest], axis=1)
    return kept[:, kept.sum(axis=0) > 0]


def _values(name, measured) -> np.ndarray:
    """A measure; size is the side of a square with the same number of pixels."""
    if name == "size":
        return np.sqrt(np.asarray(measured["width"], float) * measured["height"])
    return np.asarray(measured[name], float)


def _sentence(name, test) -> str:
    """One test in plain words."""
    if name == "features":
        return "The content differs." if test["differs"] else "No difference in content."
    old, new = test["before"], test["after"]
    if name == "classes":
        label = max(old, key=lambda c: abs(new[c] - old[c]))
        if not test["differs"]:
            return "Each class is predicted as often as on the validation images."
        more = "more" if new[label] > old[label] else "less"
        return (
            f"{label} is predicted {more} often: {percent(new[label], 0)} instead of "
            f"{percent(old[label], 0)}."
        )
    if not test["differs"]:
        return f"No difference in {name}."
    higher, lower, unit = {
        "brightness": ("brighter", "darker", " (of 255)"),
        "sharpness": ("sharper", "more blurred", ""),
        "size": ("larger", "smaller", " pixels square"),
    }[name]
    word = higher if new > old else lower
    if abs(new - old) < 0.01 * abs(old):
        return f"The {name} varies differently (the median is {new:.0f}{unit} both times)."
    return f"Mostly {word}: median {new:.0f} instead of {old:.0f}{unit}."


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction of p-values, in their order."""
    order, highest = np.argsort(values), 0.0
    corrected = [0.0] * len(values)
    for place, i in enumerate(order.tolist()):
        highest = max(highest, min(1.0, values[i] * (len(values) - place)))
        corrected[i] = float(highest)
    return corrected


def discrepancy(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """p-value of the kernel two-sample test.

    It is the share of random divisions of all images into groups of the same sizes that differ at
    least as much as these two do.

    Args:
        first, second: float arrays (n, width), (m, width).
        seed: of the permutations.

    Returns:
        Between 1 / (`PERMUTATIONS` + 1) and 1.
    """
    groups = [
        np.asarray(values, np.float32)[_evenly(len(values), MOST)] for values in (first, second)
    ]
    n, m = map(len, groups)
    both = np.concatenate(groups)
    squares = (both**2).sum(axis=1)
    apart = np.maximum(0, squares[:, None] + squares[None] - 2 * both @ both.T)
    middle = np.median(apart[np.triu_indices(n + m, 1)])
    kernel = np.exp(-apart / max(float(middle), 1e-12))
    np.fill_diagonal(kernel, 0)
    random = np.random.default_rng(seed)
    # A column for each division, the true one first: 1 where an image belongs to the first group.
    member = np.zeros((n + m, PERMUTATIONS + 1), np.float32)
    member[:n, 0] = 1
    for column in range(1, PERMUTATIONS + 1):
        member[random.permutation(n + m)[:n], column] = 1
    towards = kernel @ member
    inside = (member * towards).sum(axis=0, dtype=np.float64)
    across = towards.sum(axis=0, dtype=np.float64) - inside
    outside = kernel.sum(dtype=np.float64) - inside - 2 * across
    values = inside / (n * (n - 1)) + outside / (m * (m - 1)) - 2 * across / (n * m)
    # Equal but for rounding counts as equal.
    return float((values[1:] >= values[0] - 1e-9).sum() + 1) / (PERMUTATIONS + 1)


def _evenly(count, most) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
