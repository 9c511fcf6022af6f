"""Findings: what is wrong with a dataset, with all decisions about its images applied.

It only compares arrays that an inspection has already computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from engine.inspection import depth_kinds, kinds
from engine.inspection.kinds import Finding, Seen

if TYPE_CHECKING:
    from engine.data.datasets import Dataset
    from engine.inspection.inspection import Inspection

__all__ = ["KINDS", "Finding", "find", "suggested_exclusions"]

KINDS = kinds.KINDS | depth_kinds.KINDS
"""Each kind of finding, in the order of a list of equal severity."""


def find(
    dataset: Dataset, inspection: Inspection, parts: Mapping[str, np.ndarray] | None = None
) -> list[Finding]:
    """All findings of a dataset, the most serious first.

    Args:
        dataset: with its overlay applied: images that were left out no longer count, and relabelled
            ones are no longer suspect.
        inspection: of this dataset.
        parts: its split, `{part: indices}`; None if it cannot be split (yet).

    Returns:
        A list of Finding, without kinds that found nothing.
    """
    part = np.full(len(dataset), "", "U10")
    for name, members in (parts or {}).items():
        part[members] = name
    rows, count = dataset.rows, len(inspection.pixels["groups"])
    features = {
        name: values[rows]
        for name, values in (inspection.features or {}).items()
        if values.shape[:1] == (count,)
    }
    pixels = {name: values[rows] for name, values in inspection.pixels.items()}
    seen = Seen(dataset, pixels, features, inspection.labels[rows], part)
    found = [finding for kind in KINDS.values() for finding in kind(seen)]
    return sorted(found, key=lambda finding: ("high", "medium", "low").index(finding.severity))


def suggested_exclusions(finding: Finding, dataset: Dataset) -> np.ndarray:
    """Which images to leave out to fix a finding.

    One image of each group of copies stays. An image of the test part is kept rather than one of
    validation or train, so that earlier measurements stay comparable and training loses what it
    should not have seen. Within a part the largest image stays, since smaller ones can be made
    from it; of equal ones the first. If copies have different labels, nothing is suggested: a
    person must decide first which label is correct. All images that are too dark, too bright or
    nearly empty are suggested.

    Args:
        finding: of `find`.
        dataset: the same Dataset.

    Returns:
        int64 array of indices; empty if leaving out does not help, or a person must look.
    """
    if finding.kind in ("too_dark", "too_bright", "low_information"):
        return finding.indices
    if finding.kind not in ("exact_duplicates", "near_duplicates", "leakage"):
        return np.zeros(0, np.int64)
    same = [g[1:] for g in finding.groups or () if len(np.unique(dataset.labels[g])) == 1]
    return np.concatenate([np.zeros(0, np.int64), *same])
