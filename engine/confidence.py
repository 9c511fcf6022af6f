"""How sure a classifier may be: calibrated probabilities, "not sure", and "not like anything in training".

Light, but `calibrate`, which the worker calls when a run ends. All thresholds come from the validation
images, and what they are worth is measured on the test images, which decided nothing:

- Temperature scaling (Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", ICML):
  one number T makes the probabilities p^(1/T), normalised, as right as they claim to be.
- Split conformal prediction (Vovk, Gammerman, Shafer 2005, "Algorithmic Learning in a Random World"; Sadinle,
  Lei, Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", JASA): the set of
  classes that are likely enough holds the true one with a probability that the user chooses.
- Mean distance to the few nearest training images (Angiulli, Pizzuti 2002, "Fast Outlier Detection in High
  Dimensional Spaces", PKDD; of a network's features: Sun, Ming, Zhu, Li 2022, "Out-of-Distribution Detection with
  Deep Nearest Neighbors", ICML): beyond what validation images have, an image is like nothing in training.
"""

import contextlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine import home as homes
from engine import reduction, reference
from engine.errors import DamagedFile, RunError

FILE = "confidence.json"
BINS = 10
"""Of the reliability diagram, of equal width (Naeini, Cooper, Hauskrecht 2015, AAAI)."""
DRAWS = 300
"""Simulated classifiers for that floor."""
COVERAGE = 0.90
"""Share of images whose set of likely classes is to hold the true one, unless the user chooses."""
FALSE_ALARMS = 0.05
"""Share of validation images that may count as unlike the training images."""
USUAL = 0.80
"""Share of validation images that lie near enough to training for a sure answer. Of 411 pictures of other things,
a classifier of flowers was sure of 14 without this, and of 1 with it, at 61 % sure answers instead of 67 % on its
test photos (docs/testing.md)."""
NEIGHBOURS = 3
"""So many nearest training images count. Fewer hang on single odd training images, more on how densely they lie:
docs/testing.md compares 1 to 50, and other distances."""
_CLIP = 1e-7  # as Keras clips before a logarithm


def scaled(probabilities, temperature: float) -> np.ndarray:
    """Probabilities of a softmax whose logits are divided by a temperature.

    Args:
        probabilities: float array (..., classes), rows adding up to 1.
        temperature: above 0; above 1 makes them less sure, below 1 more.

    Returns:
        float32 array of the same shape, the same order of classes in each row.
    """
    logs = np.log(np.clip(np.asarray(probabilities, np.float64), 1e-30, 1)) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def fit_temperature(probabilities, labels) -> float:
    """The temperature with the smallest cross-entropy, between 0.05 and 20; 1 where every answer is right,
    since then the smallest is the lowest bound, whatever the probabilities are worth.

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


def reliability(probabilities, labels, bins: int = BINS) -> dict:
    """How often answers of a given confidence are right.

    Args:
        probabilities: float array (n, classes).
        labels: int array (n,), true classes.
        bins: of equal width, over the confidence (the largest probability) from 0 to 1.

    Returns:
        A dict: n; ece, the expected calibration error, the mean difference between confidence and accuracy,
        by as many bins of equal mass as keep accuracy rising with confidence (Roelofs, Cain, Shlens, Mozer
        2022, "Mitigating Bias in Calibration Error Estimation", AISTATS: the least biased for few images);
        binned, the same by the diagram's own bins, as most papers give it; floor, what a perfectly calibrated
        classifier with these probabilities would show in the mean by those bins, by the chance in so few
        images; rows of low, high, n, confidence and accuracy, of the diagram's bins that hold images.
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
        {"low": i / bins, "high": (i + 1) / bins, "n": int(number[i])}
        | {"confidence": claimed[i] / number[i], "accuracy": hits[i] / number[i]}
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
    """The calibration error by the largest number of bins, of equal mass, in which accuracy rises."""
    order, found, n = np.argsort(sure, kind="stable"), 0.0, len(sure)
    claimed, hits = (np.concatenate([[0.0], np.cumsum(each[order])]) for each in (sure, right))
    for count in range(1, n + 1):
        edges = np.arange(count + 1) * n // count
        accuracy = np.diff(hits[edges]) / np.diff(edges)
        if (np.diff(accuracy) < 0).any():
            break
        found = np.abs(np.diff(claimed[edges]) - np.diff(hits[edges])).sum() / n
    return float(found)


def least_likely(scores, coverage: float) -> float:
    """The smallest probability with which a class still belongs to the set of likely ones.

    Args:
        scores: float array (n,), the probability of the true class of each validation image.
        coverage: 0 to 1.

    Returns:
        0 to 1; 0, so that every class belongs, where n is too small for the coverage.
    """
    ordered = np.sort(1 - np.asarray(scores, np.float64))
    place = math.ceil((len(ordered) + 1) * coverage)
    return 0.0 if place > len(ordered) else float(1 - ordered[max(0, place - 1)])


def distances(features, training) -> np.ndarray:
    """Mean distance of images to their `NEIGHBOURS` nearest training images.

    Args:
        features: float32 array (n, width), normalised.
        training: float32 array (m, width), normalised; of m below `NEIGHBOURS` all count.

    Returns:
        float32 array (n,), Euclidean, 0 to 2.
    """
    count = min(NEIGHBOURS, len(training))
    near = np.partition(np.asarray(features) @ training.T, -count, axis=1)[:, -count:]
    return np.sqrt(np.maximum(0, 2 - 2 * near)).mean(axis=1).astype(np.float32)


@dataclass(frozen=True)
class Verdict:
    """What may be said of an answer.

    Attributes:
        kind: "sure" (one class alone is likely enough, and its probability is no less than the coverage asked
            for), "likely" (one alone, less probable than that), "far" (one alone, but the image is farther
            from training than `USUAL` of the validation images), "unsure" (several, or none), or "unlike"
            (like nothing in training, whatever the probabilities).
        likely: the classes that are likely enough, most probable first.
        distance: to the nearest training images (`distances`), 0 to 2.
    """

    kind: str
    likely: list
    distance: float

    @property
    def text(self) -> str:
        """One sentence for people."""
        if self.kind == "unlike":
            return "Not like anything in training, so no answer should be trusted."
        if self.kind == "sure":
            return f"Sure of {self.likely[0]}."
        if self.kind == "far":
            return f"Likely {self.likely[0]}, but far from training."
        if self.kind == "likely":
            return f"Likely {self.likely[0]}; no other class is likely enough."
        if not self.likely:
            return "Not sure: no class is likely enough."
        return f"Not sure: {', '.join(self.likely[:-1])} or {self.likely[-1]}."


class Confidence:
    """What a run knows of its own certainty.

    Attributes:
        reference: the run's Reference.
        temperature: see `scaled`.
        threshold: distance beyond which an image is unlike the training images.
        usual: distance beyond which no answer is sure.

    Args:
        run: a finished Run.
        kept: what `measured` found, if not the run's own file is to be read. (A file of a version that measured
            distances otherwise is made anew.)

    Raises:
        RunError: if the run remembers nothing of its images, or its file is damaged.
    """

    def __init__(self, run, kept: dict | None = None):
        self.reference = reference.of(run)
        kept = kept or _kept(run)
        if not kept:
            raise RunError(
                f"run {run.id} was not calibrated; make up for it with: python -m engine calibrate {run.id}"
            )
        if "usual" not in kept:
            kept = measured(run)
            with contextlib.suppress(
                OSError
            ):  # where nothing can be written, the next one measures again
                homes.write_json(run.path / FILE, kept)
        self.temperature, self.threshold = kept["temperature"], kept["threshold"]
        self.usual = kept["usual"]
        self._training = self.reference.features[self.reference.rows("train")]

    def verdicts(self, answers, coverage: float = COVERAGE) -> list[Verdict | None]:
        """Judges answers of the run's Classifier; None for images that could not be read.

        Args:
            answers: list of `classifier.Answer`.
            coverage: 0 to 1; how often the likely classes are to hold the true one.
        """
        read = [answer for answer in answers if answer.error is None]
        if not read:
            return [None] * len(answers)
        far = self.distances(reduction.normalised(np.stack([a.features for a in read])))
        judged = iter(self.judge(np.stack([a.probabilities for a in read]), far, coverage))
        return [None if answer.error else next(judged) for answer in answers]

    def judge(self, probabilities, far, coverage: float = COVERAGE) -> list[Verdict]:
        """Judges answers by their numbers.

        Args:
            probabilities: float array (n, classes), scaled.
            far: float array (n,), of `distances`.
            coverage: as for `verdicts`.
        """
        classes, least = self.reference.classes, self.least(coverage)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        sure = self._sure(probabilities, far, coverage).tolist()
        found = []
        for row, distance in enumerate(np.asarray(far).tolist()):
            likely = [classes[i] for i in order[row].tolist() if probabilities[row, i] >= least]
            if distance > self.threshold:
                kind = "unlike"
            elif len(likely) != 1:
                kind = "unsure"
            else:
                kind = "far" if distance > self.usual else "sure" if sure[row] else "likely"
            found.append(Verdict(kind, likely, distance))
        return found

    def _sure(self, probabilities, far, coverage):
        """Which answers are sure, bool array (n,)."""
        alone = (probabilities >= self.least(coverage)).sum(axis=1) == 1
        return alone & (probabilities.max(axis=1) >= coverage) & (far <= self.usual)

    @cached_property
    def far(self) -> dict:
        """Distances of the validation and of the test images: {part: float32 array (n,)}."""
        of, features = self.reference.rows, self.reference.features
        return {part: self.distances(features[of(part)]) for part in ("validation", "test")}

    def distances(self, features) -> np.ndarray:
        """Distance of images to training, float32 array (n,), by their normalised features (n, width)."""
        return distances(np.asarray(features, np.float32), self._training)

    def least(self, coverage: float) -> float:
        """`least_likely` of the validation images."""
        probabilities, labels = self.of_part("validation")
        return least_likely(probabilities[np.arange(len(labels)), labels], coverage)

    def of_part(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Scaled probabilities (n, classes) and true labels (n,) of the images of a part."""
        rows = self.reference.rows(part)
        scores = scaled(self.reference.probabilities[rows], self.temperature)
        return scores, self.reference.labels[rows]

    def achieved(self, coverage: float, part: str = "test") -> dict:
        """What a promised coverage came to on the images of a part, "validation" or "test".

        Returns:
            A dict: n; coverage, the share of images whose set holds the true class; single, the share
            with a set of one class; sure, the share that is sure of it (`Verdict`); accuracy_when_sure,
            of those (None without any).
        """
        probabilities, labels = self.of_part(part)
        likely = probabilities >= self.least(coverage)
        single = likely.sum(axis=1) == 1
        sure = self._sure(probabilities, self.far[part], coverage)
        right = probabilities.argmax(axis=1) == labels
        return {
            "n": len(labels),
            "coverage": float(likely[np.arange(len(labels)), labels].mean()),
            "single": float(single.mean()),
            "sure": float(sure.mean()),
            "accuracy_when_sure": float(right[sure].mean()) if sure.any() else None,
        }


def temperature_of(run) -> float:
    """A run's temperature; 1, which changes nothing, of a run that was never calibrated."""
    kept = _kept(run)
    return kept["temperature"] if kept else 1.0


def _kept(run) -> dict | None:
    try:
        return summary(run)
    except DamagedFile as error:
        raise RunError(
            f"{error.path} is damaged ({error.why}); make it again with: python -m engine calibrate {run.id}"
        ) from None


def calibration(run) -> tuple[float, float | None]:
    """What decides verdicts, beside the answers: a run's temperature and its threshold of distance, None of a
    run that was never calibrated."""
    found = known(run)
    return temperature_of(run), found and found.threshold


def known(run) -> Confidence | None:
    """A run's Confidence; None where the run knows nothing of its certainty."""
    try:
        return Confidence(run)
    except RunError:
        return None


def summary(run) -> dict | None:
    """What `calibrate` found for a run, or None. Raises DamagedFile."""
    kept = homes.read_json(run.path / FILE)
    if kept and not 0 < kept["temperature"] < math.inf:
        raise DamagedFile(run.path / FILE, "its temperature is not a number above 0")
    return kept


def calibrate(run) -> dict:
    """Writes what `measured` finds into the run's confidence.json, and returns it."""
    kept = measured(run)
    homes.write_json(run.path / FILE, kept)
    return kept


def measured(run) -> dict:
    """Fits temperature and distance on the validation images that a run remembers.

    Returns:
        Plain data: temperature; threshold and usual, distances (`Confidence`); validation and test (images of
        each); reliability before and after, both on the test images; false_alarms, the share of test images
        that count as unlike the training images; coverage (`Confidence.achieved` at `COVERAGE`).
    """
    found = reference.of(run)
    of = {part: found.rows(part) for part in ("train", "validation", "test")}
    truth = {part: found.labels[rows] for part, rows in of.items()}
    raw = {part: found.probabilities[rows] for part, rows in of.items()}
    temperature = fit_temperature(raw["validation"], truth["validation"])
    training = found.features[of["train"]]
    far = {p: distances(found.features[of[p]], training) for p in ("validation", "test")}
    threshold = float(np.quantile(far["validation"], 1 - FALSE_ALARMS))
    kept = {
        "temperature": temperature,
        "threshold": threshold,
        "usual": float(np.quantile(far["validation"], USUAL)),
        "validation": len(of["validation"]),
        "test": len(of["test"]),
        "before": reliability(raw["test"], truth["test"]),
        "after": reliability(scaled(raw["test"], temperature), truth["test"]),
        "false_alarms": float((far["test"] > threshold).mean()),
    }
    return kept | {"coverage": Confidence(run, kept).achieved(COVERAGE)}
