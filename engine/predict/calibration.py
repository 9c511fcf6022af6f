"""Temperature scaling, so that probabilities match accuracy, and reading what a run keeps of it.

Temperature scaling (Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks",
ICML): one number T turns the probabilities p into p^(1/T), normalised. It is fitted on validation
images (`engine.predict.calibrate`) and kept with the rest of a run's calibration in its
confidence.json.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine import home as homes
from engine.errors import DamagedFile, RunError
from engine.runs import files

if TYPE_CHECKING:
    from engine.runs.runs import Run

FILE = files.CONFIDENCE
BINS = 10
"""Bins of the reliability diagram, of equal width (Naeini, Cooper, Hauskrecht 2015, AAAI)."""
DRAWS = 300
"""Simulated classifiers for the error that chance alone causes (`reliability`, floor)."""
_CLIP = 1e-7  # as Keras clips before a logarithm


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities of a softmax whose logits are divided by a temperature.

    Args:
        probabilities: float array (..., classes), rows adding up to 1.
        temperature: above 0; above 1 lowers the confidence, below 1 raises it.

    Returns:
        float32 array of the same shape, the same order of classes in each row.
    """
    logs = np.log(np.clip(np.asarray(probabilities, np.float64), 1e-30, 1)) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the smallest cross-entropy, between 0.05 and 20.

    It is 1 where every answer is right: the best fit would then be the lower bound, whatever the
    probabilities are worth.

    Args:
        probabilities: float array (n, classes).
        labels: int array (n,), true classes.
    """
    from scipy.optimize import minimize_scalar

    if (np.asarray(probabilities).argmax(axis=1) == labels).all():
        return 1.0
    rows = np.arange(len(labels))

    def loss(log_temperature):
        right = scaled(probabilities, math.exp(log_temperature))[rows, labels]
        return float(-np.log(np.clip(right, _CLIP, 1)).mean())

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return float(math.exp(found.x)) if loss(found.x) < loss(0.0) else 1.0


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> dict:
    """How often answers of a given confidence are right.

    Args:
        probabilities: float array (n, classes).
        labels: int array (n,), true classes.
        bins: of equal width, over the confidence (the largest probability) from 0 to 1.

    Returns:
        A dict:
        n: number of images.
        ece: expected calibration error, the mean difference between confidence and accuracy, over
            as many bins of equal mass as keep accuracy rising with confidence (Roelofs, Cain,
            Shlens, Mozer 2022, "Mitigating Bias in Calibration Error Estimation", AISTATS: the
            least biased for few images).
        binned: the same over the diagram's own bins, as most papers report it.
        floor: what a perfectly calibrated classifier with these probabilities would show by those
            bins on average, by chance, with this number of images.
        rows: low, high, n, confidence and accuracy of each bin that holds images.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    # Bins are open below, as in the paper; 0 itself cannot be a largest probability.
    places = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    number = np.bincount(places, minlength=bins)
    claimed, hits = np.bincount(places, sure, bins), np.bincount(places, right, bins)

    def error(right):
        return float(np.abs(claimed - np.bincount(places, right, bins)).sum() / max(1, len(labels)))

    random = np.random.default_rng(0)
    chance = [error(random.random(len(sure)) < sure) for _ in range(DRAWS)]
    rows = [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "n": int(number[i]),
            "confidence": claimed[i] / number[i],
            "accuracy": hits[i] / number[i],
        }
        for i in np.flatnonzero(number).tolist()
    ]
    return {
        "n": len(labels),
        "ece": _swept(sure, right),
        "binned": error(right),
        "floor": float(np.mean(chance)),
        "rows": rows,
    }


def _swept(sure, right) -> float:
    """The calibration error over the most bins, of equal mass, in which accuracy still rises."""
    order, found, n = np.argsort(sure, kind="stable"), 0.0, len(sure)
    claimed, hits = (np.concatenate([[0.0], np.cumsum(each[order])]) for each in (sure, right))
    for count in range(1, n + 1):
        edges = np.arange(count + 1) * n // count
        accuracy = np.diff(hits[edges]) / np.diff(edges)
        if (np.diff(accuracy) < 0).any():
            break
        found = np.abs(np.diff(claimed[edges]) - np.diff(hits[edges])).sum() / n
    return float(found)


def least_likely(scores: np.ndarray, coverage: float) -> float:
    """The smallest probability with which a class still belongs to the likely classes.

    Args:
        scores: float array (n,), the probability of the true class of each validation image.
        coverage: 0 to 1.

    Returns:
        0 to 1; 0, so that every class belongs, where n is too small for the coverage.
    """
    ordered = np.sort(1 - np.asarray(scores, np.float64))
    place = math.ceil((len(ordered) + 1) * coverage)
    return 0.0 if place > len(ordered) else float(1 - ordered[max(0, place - 1)])


def temperature_of(run: Run) -> float:
    """A run's temperature; 1, which changes nothing, for a run that was never calibrated."""
    found = kept(run)
    return found["temperature"] if found else 1.0


def kept(run: Run) -> dict | None:
    """Like `summary`, but raises RunError, with what to do, where the file is damaged."""
    try:
        return summary(run)
    except DamagedFile as error:
        raise damaged(run, error.path, error.why) from None


def damaged(run: Run, path: Path, why: object) -> RunError:
    """The error for a file that `calibrate` creates again."""
    return RunError(
        f"{path} is damaged ({why}); create it again with: python -m engine calibrate {run.id}"
    )


def summary(run: Run) -> dict | None:
    """A run's calibration (`calibrate.measured`), or None. Raises DamagedFile."""
    kept = homes.read_json(run.checked(FILE))
    if not kept:
        return kept
    if not _above(kept.get("temperature"), 0):
        raise DamagedFile(run.path / FILE, "its temperature is not a number above 0")
    # Earlier versions kept no distance for sure answers.
    for name in ("threshold", "usual") if "usual" in kept else ("threshold",):
        if not _above(kept.get(name), -1):
            raise DamagedFile(run.path / FILE, f"its {name} is not a distance")
    return kept


def _above(value: object, least: float) -> bool:
    """Whether a value is a finite number above another."""
    return isinstance(value, int | float) and least < value < math.inf
