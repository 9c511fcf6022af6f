"""Which classes of a run's evaluation are shown where there are too many for all. Light."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWN = 30
"""Most classes that a chart or a table for people shows."""


def most_confused(matrix: Sequence[Sequence[int]], most: int = DRAWN) -> list[int]:
    """Classes of the most frequent confusions, in the order of the classes; all if there are few.

    Args:
        matrix: int array (classes, classes), rows = true class, columns = answer.
        most: number of classes.
    """
    wrong = np.array(matrix, int)
    count = len(wrong)
    if count <= most:
        return list(range(count))
    np.fill_diagonal(wrong, 0)
    pairs = np.argsort(-wrong, axis=None, kind="stable")[: most * most]
    found = dict.fromkeys(np.stack(np.divmod(pairs, count), 1).ravel().tolist())
    return sorted(list(found)[:most])


def worst(rows: Sequence[dict], most: int = DRAWN) -> list[dict]:
    """The rows of `measure`'s per_class with the lowest F1, in the order of the classes; all if
    there are few. Classes without images come last.

    Args:
        rows: of per_class.
        most: number of rows.
    """

    if len(rows) <= most:
        return list(rows)

    def rank(i: int) -> tuple[bool, float]:
        return not rows[i]["support"], 2.0 if rows[i]["f1"] is None else rows[i]["f1"]

    return [rows[i] for i in sorted(sorted(range(len(rows)), key=rank)[:most])]
