"""Verdicts on answers: sure, likely, not sure, or not like the training images.

All thresholds come from the validation images. The test images, which decide nothing, measure what
the thresholds are worth.

- Split conformal prediction (Vovk, Gammerman, Shafer 2005, "Algorithmic Learning in a Random
  World"; Sadinle, Lei, Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error
  Levels", JASA): the set of likely classes holds the true one with a probability that the user
  chooses.
- Mean distance to the few nearest training images (Angiulli, Pizzuti 2002, "Fast Outlier Detection
  in High Dimensional Spaces", PKDD; of a network's features: Sun, Ming, Zhu, Li 2022,
  "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML): an image farther away than
  most validation images is not like training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import DamagedFile, RunError
from engine.host import words
from engine.predict import calibration, embedding, reference

if TYPE_CHECKING:
    from engine.predict.classifier import Answer
    from engine.runs.runs import Run

COVERAGE = 0.90
"""Target share of images whose likely classes hold the true one, unless the user chooses."""
FALSE_ALARMS = 0.05
"""Share of validation images that count as unlike the training images."""
USUAL = 0.80
"""Share of validation images that lie near enough to training for a sure answer. On 411 pictures of
other things, a classifier of flowers was sure of 14 without this and of 1 with it; sure answers on
its test photos fell from 67% to 61% (docs/testing.md)."""
NEIGHBOURS = 3
"""Nearest training images that count. With fewer, the distance depends on single odd training
images; with more, on how densely they lie. docs/testing.md compares 1 to 50, and other distances.
"""
WORDS = {
    "sure": "sure",
    "likely": "likely",
    "far": "far from training",
    "unsure": "not sure",
    "unlike": "not like training",
}
"""The kinds of verdict, surest first, and their words: on pages, in CSV files, in a terminal."""
MEANING = {
    "sure": "only one class is likely, and its probability is at least the coverage asked for",
    "likely": "only one class is likely, but its probability is below that coverage",
    "far": f"only one class is likely, but the image is farther from training than {USUAL:.0%} of "
    "the validation images",
    "unsure": "several classes are likely, or none",
    "unlike": "the image is like nothing in training, so no answer should be trusted",
}
"""What each kind of verdict means."""


def distances(features: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Mean distance of images to their `NEIGHBOURS` nearest training images.

    Args:
        features: float32 array (n, width), normalised.
        training: float32 array (m, width), normalised; for m below `NEIGHBOURS` all count.

    Returns:
        float32 array (n,), Euclidean, 0 to 2.
    """
    count = min(NEIGHBOURS, len(training))
    near = np.partition(np.asarray(features) @ training.T, -count, axis=1)[:, -count:]
    return np.sqrt(np.maximum(0, 2 - 2 * near)).mean(axis=1).astype(np.float32)


def thresholds(far: np.ndarray) -> tuple[float, float]:
    """Distances beyond which an image is unlike training, and beyond which no answer is sure.

    Args:
        far: float array (n,), distances of the validation images.
    """
    return float(np.quantile(far, 1 - FALSE_ALARMS)), float(np.quantile(far, USUAL))


@dataclass(frozen=True)
class Verdict:
    """How far an answer can be trusted.

    Attributes:
        kind: one of `WORDS`; `MEANING` explains each.
        likely: the likely classes, most probable first.
        distance: to the nearest training images (`distances`), 0 to 2.
    """

    kind: str
    likely: list[str]
    distance: float

    @property
    def text(self) -> str:
        """One sentence for people."""
        if self.kind == "unlike":
            return "Not like the training images, so no answer should be trusted."
        if self.kind == "sure":
            return f"Sure: {self.likely[0]}."
        if self.kind == "far":
            return f"Likely {self.likely[0]}, but far from training."
        if self.kind == "likely":
            return f"Likely {self.likely[0]}; no other class is likely."
        if not self.likely:
            return "Not sure: no class is likely enough."
        return f"Not sure: {words.listed(self.likely, last='or')}."


class Confidence:
    """Judges the answers of a calibrated run.

    Attributes:
        reference: the run's Reference.
        temperature: see `engine.predict.calibration.scaled`.
        threshold: distance beyond which an image is unlike the training images.
        usual: distance beyond which no answer is sure.

    Args:
        run: a finished Run.
        kept: the result of `engine.predict.calibrate.measured`; by default, the run's own file.

    Raises:
        RunError: if the run has no reference or calibration, or one of the files is damaged.
    """

    def __init__(self, run: Run, kept: dict | None = None):
        self.reference = reference.of(run)
        kept = kept or calibration.kept(run)
        if not kept:
            raise RunError(
                f"run {run.id} is not calibrated; calibrate it with: "
                f"python -m engine calibrate {run.id}"
            )
        self._training = self.reference.features[self.reference.rows("train")]
        self.temperature, self.threshold = kept["temperature"], kept["threshold"]
        if "usual" in kept:
            self.usual = kept["usual"]
        else:  # a file of an earlier version, which measured distances in another way
            self.threshold, self.usual = thresholds(self.far["validation"])

    @property
    def limits(self) -> list[tuple[float, str]]:
        """`usual` and `threshold`, each with the word of `WORDS` for images beyond it."""
        return [(self.usual, WORDS["far"]), (self.threshold, WORDS["unlike"])]

    def verdicts(
        self, answers: Sequence[Answer], coverage: float = COVERAGE
    ) -> list[Verdict | None]:
        """Judges answers of the run's Classifier; None for images that could not be read.

        Args:
            answers: of `classifier.Classifier.predict`.
            coverage: 0 to 1, how often the likely classes should hold the true one.
        """
        read = [answer for answer in answers if answer.error is None]
        if not read:
            return [None] * len(answers)
        far = self.distances(embedding.normalised(np.stack([a.features for a in read])))
        judged = iter(self.judge(np.stack([a.probabilities for a in read]), far, coverage))
        return [None if answer.error else next(judged) for answer in answers]

    def judge(
        self, probabilities: np.ndarray, far: np.ndarray, coverage: float = COVERAGE
    ) -> list[Verdict]:
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
    def far(self) -> dict[str, np.ndarray]:
        """Distances of the validation and of the test images: {part: float32 array (n,)}."""
        of, features = self.reference.rows, self.reference.features
        return {part: self.distances(features[of(part)]) for part in ("validation", "test")}

    def distances(self, features: np.ndarray) -> np.ndarray:
        """float32 array (n,), `distances` to training of normalised features (n, width)."""
        return distances(np.asarray(features, np.float32), self._training)

    def least(self, coverage: float) -> float:
        """`least_likely` of the validation images."""
        probabilities, labels = self.of_part("validation")
        return calibration.least_likely(probabilities[np.arange(len(labels)), labels], coverage)

    def of_part(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Scaled probabilities (n, classes) and true labels (n,) of the images of a part."""
        rows = self.reference.rows(part)
        scores = calibration.scaled(self.reference.probabilities[rows], self.temperature)
        return scores, self.reference.labels[rows]

    def achieved(self, coverage: float, part: str = "test") -> dict:
        """How well a target coverage is met on the images of a part, "validation" or "test".

        Returns:
            A dict: n; coverage, the share of images whose likely classes hold the true one;
            single, the share with one likely class; sure, the share with a sure answer
            (`Verdict`); accuracy_when_sure, of those (None without any).
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


def deciding(run: Run) -> tuple[float, float | None]:
    """What decides verdicts beside the answers: a run's temperature and its threshold of distance.

    The threshold is None for a run that was never calibrated.
    """
    found = known(run)
    return calibration.temperature_of(run), found.threshold if found else None


def known(run: Run) -> Confidence | None:
    """A run's Confidence; None if it has none, like an imported model that was never calibrated.

    Raises:
        RunError: if it has one, and a file of it is damaged or missing.
    """
    try:
        has = [run.checked(name).exists() for name in (reference.FILE, calibration.FILE)]
    except DamagedFile as error:
        raise calibration.damaged(run, error.path, error.why) from None
    return Confidence(run) if all(has) else None
