"""Figures on images that were never used to choose anything."""

import math

import numpy as np

from engine.data.unreadable import READING
from engine.host.parallel import cores, ordered_map
from engine.images import decode

Z95 = 1.959964
"""The 97.5% point of the normal distribution, for 95% intervals."""


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a share (Wilson 1927, Probable inference, JASA 22:209-212).

    It holds up for small n and shares near 1, where the plain normal interval does not.
    """
    if n == 0:
        return 0.0, 1.0
    share = right / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    # The ends are exactly 0 and 1 at the extremes; rounding must not put the share outside.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def measure(probabilities, labels, classes) -> dict:
    """Compares answers with the truth.

    Args:
        probabilities: float array (n, classes), rows adding up to 1.
        labels: int array (n,), true classes.
        classes: names.

    Returns:
        A dict: n; accuracy; interval (95%, Wilson); loss (mean cross-entropy, nats); per_class,
        rows of label, precision, recall, f1 (None where there is nothing to divide by) and
        support; confusion, rows = true class, columns = answer.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels, int)
    n, count = len(labels), len(classes)
    answers = probabilities.argmax(1) if n else np.zeros(0, int)
    confusion = np.zeros((count, count), int)
    np.add.at(confusion, (labels, answers), 1)
    right = int(np.trace(confusion))
    # Keras clips at the same 1e-7 before the logarithm.
    loss = (
        float(-np.log(np.clip(probabilities[np.arange(n), labels], 1e-7, 1)).mean()) if n else None
    )
    rows = []
    for i, label in enumerate(classes):
        hits, answered, support = confusion[i, i], confusion[:, i].sum(), confusion[i].sum()
        precision = float(hits / answered) if answered else None
        recall = float(hits / support) if support else None
        both = (precision or 0) + (recall or 0)
        f1 = (
            2 * precision * recall / both
            if both and precision is not None and recall is not None
            else (0.0 if support or answered else None)
        )
        rows.append(
            {
                "label": label,
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "support": int(support),
            }
        )
    return {
        "n": n,
        "accuracy": right / n if n else None,
        "interval": list(wilson_interval(right, n)),
        "loss": loss,
        "per_class": rows,
        "confusion": confusion.tolist(),
    }


def answers(model, dataset, indices, unreadable, also=None):
    """Puts images of a dataset to a classifier, through the very path that predictions take.

    Args:
        model: a Classifier.
        dataset: an open Dataset.
        indices: int array (n,), the images.
        unreadable: the run's Unreadable; images that it knows, or gets to know now, are left out.
        also: called in threads with (index, the PIL image, `Classifier.outputs`) of each image that was
            read; None for nothing.

    Yields:
        (index, probabilities before temperature scaling, what `also` returned), in order.

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


def gather(model, dataset, indices, unreadable, also=None):
    """`answers` as arrays.

    Returns:
        (int array (m,), the images that were read; float32 array (m, classes), their probabilities before
        temperature scaling).

    Raises:
        Paused: if no image can be read any more, or the run has lost too many.
    """
    read = list(answers(model, dataset, indices, unreadable, also))
    if len(indices) and not read:
        unreadable.give_up(f"none of {len(indices):,} images to test on can be read any more")
    rows = np.array([probabilities for _, probabilities, _ in read], np.float32)
    return np.array([i for i, _, _ in read], np.int64), rows.reshape(len(read), len(model.classes))


def evaluate_folder(classifier, folder, progress=None) -> dict:
    """Evaluates a classifier on a class-per-folder directory.

    Class folders must be named as the run's classes; others are named in the result and left out,
    as are unreadable files.

    Returns:
        `measure`'s dict, with `unreadable` (rows of name, sentence) and `unknown_classes`.

    Raises:
        DatasetError: if the folder holds no image of a known class.
    """
    from engine.data.sources import folders
    from engine.errors import DatasetError

    folders.check(folder)
    rows = folders.list_folder(folder, least_classes=1)
    known = {name: i for i, name in enumerate(classifier.classes)}
    unknown = sorted({row[2] for row in rows} - set(known))
    rows = [row for row in rows if row[2] in known]
    if not rows:
        raise DatasetError(
            f"{folder} has no folder named like one of the run's classes "
            f"({', '.join(classifier.classes)})"
        )
    root = folders.root(folder)
    files = [root / row[0] for row in rows]
    given = classifier.predict(files, progress, keep_images=False)
    read = [(a, known[row[2]]) for a, row in zip(given, rows, strict=True) if a.error is None]
    figures = measure(
        np.array([a.probabilities for a, _ in read]).reshape(len(read), len(known)),
        [label for _, label in read],
        classifier.classes,
    )
    figures["unreadable"] = [
        [row[0], a.error] for a, row in zip(given, rows, strict=True) if a.error
    ]
    figures["unknown_classes"] = unknown
    return figures
