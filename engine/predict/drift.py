"""Compares a batch of images with the run's validation images, and says in words how they differ.

SciPy is imported inside the functions; only the process of a batch calls them. The validation
images stand for the training data: a network's features of the images it was fitted on are unlike
those of any others.

Evidence is what the classifier sees, within each class that it answers, because classes differ:

- image content: distance of the features to the training images (`engine.predict.confidence`);
- confidence: the largest probability.

Both by a rank test over classes, for a difference in the direction that costs accuracy (van Elteren
1960, "On the combination of independent two-sample tests of Wilcoxon", Bulletin of the Institute of
International Statistics 37). Batches are called drifted for nothing else. Differences in
brightness, sharpness, size (Kolmogorov-Smirnov) and mix of classes (chi-square) are notes: a
smaller photo is still the same photo. All p-values are corrected together (Holm 1979, "A Simple
Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.host.words import listed, percent

if TYPE_CHECKING:
    from engine.predict.confidence import Confidence

LEAST = 30
"""Fewest images on either side: with fewer, a test finds only large differences."""
LEVEL = 0.01
"""A difference is reported if its corrected p-value is below this. One batch in a hundred without
any difference is then reported by mistake."""
EFFECT = 0.64
"""Least share of pairs (an image of the batch, a validation image with the same answer) in which
the former is farther or less sure, for drift; 0.5 without a difference. It is a medium effect
(Cohen's d of 0.5; McGraw and Wong 1992, "A Common Language Effect Size Statistic", Psychological
Bulletin 111). Smaller ones, which tests find in large batches, cost few answers
(docs/testing.md)."""
EVIDENCE = {"features": "image content", "confidence": "confidence"}
NOTES = {
    "brightness": "brightness",
    "sharpness": "sharpness",
    "size": "size",
    "classes": "mix of classes",
}
WORDS = EVIDENCE | NOTES


def judge(
    known: Confidence,
    far: np.ndarray,
    probabilities: np.ndarray,
    measured: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Compares a batch with the validation images of a run.

    Args:
        known: the run's Confidence.
        far: float array (n,), distances to the training images.
        probabilities: float array (n, classes), scaled.
        measured: {name of `reference.MEASURES`: float array (n,)}.

    Returns:
        Plain data: n; validation (images compared with); drifted; text, one or two sentences;
        tests, {name of `WORDS`: dict of p (corrected, 0 to 1), differs, slight (below
        `EFFECT`), before and after, text}. Before and after are the share of images unlike
        training, the mean largest probability, medians, or {class: share}.

    Raises:
        ValueError: for fewer than `LEAST` images on either side.
    """
    from scipy import stats

    own = known.reference.rows("validation")
    if min(len(far), len(own)) < LEAST:
        raise ValueError(f"drift needs at least {LEAST} images on either side")
    ours, _ = known.of_part("validation")
    beyond = [float((each > known.threshold).mean()) for each in (known.far["validation"], far)]
    sure = [float(each.max(axis=1).mean()) for each in (ours, probabilities)]
    answers = (ours.argmax(axis=1), probabilities.argmax(axis=1))
    farther = larger(known.far["validation"], far, *answers)
    less_sure = larger(-ours.max(axis=1), -probabilities.max(axis=1), *answers)
    found: dict[str, tuple] = {
        "features": (farther[0], *beyond),
        "confidence": (less_sure[0], *sure),
    }
    before = {name: values[own] for name, values in known.reference.measures.items()}
    for name in ("brightness", "sharpness", "size"):
        first, second = _values(name, before), _values(name, measured)
        p = float(stats.ks_2samp(first, second).pvalue)
        found[name] = (p, float(np.median(first)), float(np.median(second)))
    found["classes"] = _class_mix(known.reference.classes, *answers)
    tests = {}
    corrected = holm([p for p, _, _ in found.values()])
    effects = {"features": farther[1], "confidence": less_sure[1]}
    for (name, (_, old, new)), p in zip(found.items(), corrected, strict=True):
        slight = p < LEVEL and effects.get(name, 1) < EFFECT
        test = {"p": p, "differs": p < LEVEL, "slight": slight, "before": old, "after": new}
        tests[name] = test | {"text": _sentence(name, test)}
    return {
        "n": len(far),
        "validation": len(own),
        "drifted": any(tests[n]["differs"] and not tests[n]["slight"] for n in EVIDENCE),
        "text": _summary(tests),
        "tests": tests,
    }


def larger(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, others: np.ndarray
) -> tuple[float, float]:
    """Whether values are larger than others of the same group, by van Elteren's test.

    Args:
        first: float array (n,).
        second: float array (m,), tested to be larger.
        groups: int array (n,), of the first.
        others: int array (m,), of the second; a group that the first lack is compared with all.

    Returns:
        (one-sided p-value, share of pairs in which the second is larger, counting ties half).
    """
    from scipy import stats

    total = variance = wins = 0.0
    for group in np.unique(others):
        y = second[others == group]
        x = first[groups == group] if (groups == group).any() else first
        n, m = len(x), len(y)
        ranks = stats.rankdata(np.concatenate([x, y]))
        above = ranks[n:].sum() - m * (n + m + 1) / 2
        total += above / (n + m + 1)
        # Of the ranks themselves, so that ties are allowed for.
        spread = ((ranks - ranks.mean()) ** 2).sum() / (n + m) / (n + m - 1)
        variance += n * m * spread / (n + m + 1) ** 2
        wins += above / n + m / 2
    z = total / math.sqrt(variance) if variance else 0.0
    return 0.5 * math.erfc(z / math.sqrt(2)), float(wins / len(second))


def _class_mix(classes: Sequence[str], ours: np.ndarray, theirs: np.ndarray) -> tuple:
    """(p-value, {class: share} of validation, of the batch), by the answers, int arrays."""
    from scipy import stats

    counts = np.array([np.bincount(each, minlength=len(classes)) for each in (ours, theirs)])
    table = pooled(counts)
    p = float(stats.chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0
    shares = (counts / counts.sum(axis=1, keepdims=True)).tolist()
    return (p, *(dict(zip(classes, share, strict=True)) for share in shares))


def _summary(tests: dict[str, dict[str, Any]]) -> str:
    """All tests in one to three sentences."""
    strong, slight = (
        listed([EVIDENCE[n] for n in EVIDENCE if tests[n]["differs"] and tests[n]["slight"] == how])
        for how in (False, True)
    )
    notes = listed([word for name, word in NOTES.items() if tests[name]["differs"]])
    like = "the ones the run was validated on"
    if strong:
        text = (
            f"To the classifier, these images are not like {like}: they differ in {strong}, so its "
            "test accuracy does not hold for them."
        )
        return text + f" They also differ in {notes}." * bool(notes)
    text = f"To the classifier, these images are like {like}."
    if slight:
        text = (
            f"To the classifier, these images are nearly like {like}: they differ slightly in "
            f"{slight}, so its accuracy may be a little lower."
        )
    return text + f" They differ in {notes}, which is no drift by itself." * bool(notes)


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
    old, new = test["before"], test["after"]
    how = "About as" if not test["differs"] else "Slightly" if test["slight"] else "Much"
    if name == "features":
        near = "farther from" if test["differs"] else "near to"
        shares = f"{percent(new, 0)} are unlike them, usually {percent(old, 0)}"
        return f"{how} {near} the training images: {shares}."
    if name == "confidence":
        sure = "less confident than" if test["differs"] else "confident as"
        shares = f"{percent(new, 0)} on average, usually {percent(old, 0)}"
        return f"{how} {sure} on the validation images: {shares}."
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
