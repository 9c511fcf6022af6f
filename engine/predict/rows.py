"""Answers to many images as arrays, and as plain rows for a table, JSON or CSV. Light."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.host import sheet
from engine.predict import class_folders, confidence, evaluation
from engine.predict.class_folders import Folder

if TYPE_CHECKING:
    from engine.predict.classifier import Answer
    from engine.runs.runs import Run

LIKELY = 20
"""Likely classes of an image that a CSV file names."""


@dataclass
class Rows:
    """Answers, one row per image, in the order of their names.

    Attributes:
        names: str array (n,).
        labels: str array (n,), the folder an image lay in, "" for none; it need not be a class.
        errors: str array (n,), why an image could not be read, "" if it could.
        seconds: float32 array (n,), from bytes to probabilities.
        probabilities: float32 array (n, classes), after temperature scaling; 0 on error.
        distances: float32 array (n,), to the training images (`confidence.Confidence.distances`);
            not a number on error, and if the run has no confidence data.
        measures: float32 array (n, 5), of `reference.MEASURES`; 0 on error.
        thumbs: int64 array (n, 2), where a thumbnail begins and ends in thumbs.bin.
    """

    names: np.ndarray
    labels: np.ndarray
    errors: np.ndarray
    seconds: np.ndarray
    probabilities: np.ndarray
    distances: np.ndarray
    measures: np.ndarray
    thumbs: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def read(self) -> np.ndarray:
        """bool array (n,), the images that could be read."""
        return self.errors == ""


COLUMNS = tuple(Rows.__annotations__)


def joined(parts: Sequence[Rows]) -> Rows:
    """One or more parts of the answers as one."""
    return Rows(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in COLUMNS})


def folders(
    rows: Rows, classes: Sequence[str], chosen: Mapping[str, str] | None = None
) -> list[Folder]:
    """The class that each folder of the images counts as; arguments of `class_folders.match`."""
    counts = Counter(rows.labels.tolist())
    counts.pop("", None)
    return class_folders.match(counts, classes, chosen)


def figures(
    rows: Rows, classes: Sequence[str], chosen: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """How many answers match the folders of the images.

    Args:
        rows: of the images.
        classes: of the run.
        chosen: {folder: class}, see `class_folders.match`.

    Returns:
        The dict of `evaluation.measure` over the images that could be read, in folders that count
        as a class; with `folders`, a list of `Folder` as dicts. None if no image is in a folder.
    """
    found = folders(rows, classes, chosen)
    if not found:
        return None
    place = {label: number for number, label in enumerate(classes)}
    number = {folder.name: place[folder.label] for folder in found if folder.label}
    labels = np.array([number.get(name, -1) for name in rows.labels.tolist()])
    own = rows.read & (labels >= 0)
    measured = evaluation.measure(rows.probabilities[own], labels[own], classes)
    return measured | {"folders": [vars(folder) for folder in found]}


def of_answers(
    names: list[str],
    answers: list[Answer],
    distances: np.ndarray,
    labels: list[str] | None = None,
) -> Rows:
    """Answers that came one by one as `Rows`, for `table`.

    Args:
        names: list of n names.
        answers: list of n `classifier.Answer`.
        distances: float array (n,), not a number where unknown.
        labels: list of n true classes, "" for none.
    """
    count = len(answers)
    classes = len(answers[0].classes) if count else 0
    empty = np.zeros(classes, np.float32)
    return Rows(
        names=np.array(names, str),
        labels=np.array(labels or [""] * count, str),
        errors=np.array([answer.error or "" for answer in answers], str),
        seconds=np.array([answer.seconds for answer in answers], np.float32),
        probabilities=np.array([empty if a.error else a.probabilities for a in answers]),
        distances=np.asarray(distances, np.float32),
        measures=np.zeros((count, 5), np.float32),
        thumbs=np.zeros((count, 2), np.int64),
    )


def table(
    run: Run,
    rows: Rows,
    verdicts: Sequence[confidence.Verdict | None] | None = None,
    chosen: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Answers as plain rows for a table, JSON or CSV.

    Args:
        run: the Run that classified them.
        rows: of a Batch.
        verdicts: list of `confidence.Verdict` or None, of `confidence.Confidence.judge`; None if
            the run has no confidence data.
        chosen: {folder: class}, see `class_folders.match`.

    Returns:
        Dicts of image, answer, probability (0 to 1), second, second_probability, sure (of
        `confidence.WORDS`, or ""), likely (list of classes), distance, seconds,
        folder, true_class (that the folder counts as) and error; None where unknown.
    """
    classes = run.classes
    true = {folder.name: folder.label or None for folder in folders(rows, classes, chosen)}
    order = np.argsort(-rows.probabilities, axis=1, kind="stable")[:, :2]
    found = []
    for i in range(len(rows)):
        error, verdict = str(rows.errors[i]), verdicts and verdicts[i]
        first, second = order[i].tolist()
        row: dict[str, Any] = {"image": str(rows.names[i])}
        row |= {
            "answer": None if error else classes[first],
            "probability": None if error else float(rows.probabilities[i, first]),
            "second": None if error else classes[second],
            "second_probability": None if error else float(rows.probabilities[i, second]),
            "sure": confidence.WORDS[verdict.kind] if verdict else "",
            "likely": verdict.likely if verdict else [],
            "distance": verdict.distance if verdict else None,
            "seconds": float(rows.seconds[i]),
            "folder": str(rows.labels[i]) or None,
            "true_class": true.get(str(rows.labels[i])),
            "error": error or None,
        }
        found.append(row)
    return found


def to_csv(table_rows: list[dict[str, Any]]) -> str:
    """`table` as CSV, with names in its first line; likely classes beyond `LIKELY` are counted."""
    names = list(table_rows[0]) if table_rows else ["image"]
    folded = (row | {"likely": _folded(row["likely"])} for row in table_rows)
    return sheet.to_csv([names, *([row[name] for name in names] for row in folded)])


def _folded(likely: list[str]) -> str:
    more = [f"and {len(likely) - LIKELY:,} more"] if len(likely) > LIKELY else []
    return " | ".join([*likely[:LIKELY], *more])
