"""Accuracy and other figures of a classifier on labelled images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from engine.data.unreadable import READING
from engine.host import sheet, words
from engine.host.parallel import cores, ordered_map
from engine.images import decode

if TYPE_CHECKING:
    from engine.data.prepared import Dataset
    from engine.data.unreadable import Unreadable
    from engine.predict.classifier import Classifier

    Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]
    Also = Callable[[int, Image.Image, Outputs], Any]

Z95 = 1.959964
"""The 97.5% point of the normal distribution, for 95% intervals."""


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a share (Wilson 1927, Probable inference, JASA 22:209-212).

    Unlike the plain normal interval, it is reliable for small n and shares near 1.
    """
    if n == 0:
        return 0.0, 1.0
    share = right / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    # The ends are exactly 0 and 1 at the extremes; rounding must not put the share outside.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def measure(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict:
    """Compares predictions with the true classes.

    Args:
        probabilities: float array (n, classes), rows adding up to 1.
        labels: int array (n,), true classes.
        classes: names.

    Returns:
        A dict: n; accuracy; interval (95%, Wilson); loss (mean cross-entropy, nats); per_class,
        rows of label, precision, recall, f1 (None of a class without images, and where there is
        nothing to divide by) and support; confusion, rows = true class, columns = answer.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels, int)
    n, count = len(labels), len(classes)
    answers = probabilities.argmax(1) if n else np.zeros(0, int)
    confusion = np.zeros((count, count), int)
    np.add.at(confusion, (labels, answers), 1)
    right = int(np.trace(confusion))
    truths = np.clip(probabilities[np.arange(n), labels], 1e-7, 1)  # as Keras clips
    return {
        "n": n,
        "accuracy": right / n if n else None,
        "interval": list(wilson_interval(right, n)),
        "loss": float(-np.log(truths).mean()) if n else None,
        "per_class": [_of_class(confusion, i, label) for i, label in enumerate(classes)],
        "confusion": confusion.tolist(),
    }


def confusion_csv(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """The whole confusion matrix as CSV: a row for each true class, a column for each answer."""
    header = ["true class", *(f"answer: {name}" for name in classes)]
    rows = ([name, *row] for name, row in zip(classes, matrix, strict=True))
    return sheet.to_csv([header, *rows])


def beside_copies(test: dict) -> str:
    """What a run's test accuracy is without leakage, to follow it in a sentence: "; 88.2% of the
    310 without a near copy in the training part". "" where no test image has one.

    Args:
        test: figures of the test part, of a run.
    """
    alone = test.get("without_copies")
    if not alone:
        return ""
    if not alone["n"]:
        return "; all of them have a near copy in the training part, so it says little"
    share = words.percent(alone["accuracy"])
    return f"; {share} of the {alone['n']:,} without a near copy in the training part"


def _of_class(confusion, i, label) -> dict:
    """A row of `measure`'s per_class."""
    hits, answered, support = (
        int(c) for c in (confusion[i, i], confusion[:, i].sum(), confusion[i].sum())
    )
    return {
        "label": label,
        "precision": hits / answered if answered and support else None,
        "recall": hits / support if support else None,
        # The harmonic mean of both: 2 hits / (answered + support); 0 where nothing was found.
        "f1": 2 * hits / (answered + support) if support else None,
        "support": support,
    }


def answers(
    model: Classifier,
    dataset: Dataset,
    indices: np.ndarray,
    unreadable: Unreadable,
    also: Also | None = None,
) -> Iterator[tuple[int, np.ndarray, Any]]:
    """Classifies images of a dataset with the same code as `Classifier.predict`.

    Args:
        model: of the run.
        dataset: an open Dataset.
        indices: int array (n,), the images.
        unreadable: the run's; images that cannot be read are noted there and left out.
        also: called in threads with (index, the PIL image, `Classifier.outputs`) of each image that
            was read.

    Yields:
        (index, probabilities before temperature scaling, the result of `also`), in order.

    Raises:
        Paused: if the run has lost too many images.
    """

    def answer(index):
        if index not in unreadable:
            try:
                picture = decode.read(dataset.image_bytes(index))
            except READING as error:
                unreadable.note(index, error)
            else:
                outputs = model.outputs(decode.to_pixels(picture, model.size, model.resize))
                return index, outputs[0], also and also(index, picture, outputs)
        return None

    found = ordered_map(answer, np.asarray(indices, np.int64).tolist(), cores())
    return (given for given in found if given is not None)


def gather(
    model: Classifier,
    dataset: Dataset,
    indices: np.ndarray,
    unreadable: Unreadable,
    also: Also | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`answers` as arrays; arguments as there.

    Returns:
        (int array (m,), the images that were read; float32 array (m, classes), their probabilities
        before temperature scaling).

    Raises:
        Paused: if no image can be read, or the run has lost too many.
    """
    read = list(answers(model, dataset, indices, unreadable, also))
    if len(indices) and not read:
        unreadable.give_up(f"none of the {len(indices):,} images to test on can be read")
    rows = np.array([probabilities for _, probabilities, _ in read], np.float32)
    return np.array([i for i, _, _ in read], np.int64), rows.reshape(len(read), len(model.classes))
