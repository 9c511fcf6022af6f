"""Findings: what is wrong with a dataset, with all decisions about its images applied.

It only compares arrays that an inspection has already computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from engine.inspection import depth_kinds, kinds, label_kinds
from engine.inspection.kinds import Finding, Seen

if TYPE_CHECKING:
    from engine.data.prepared import Dataset
    from engine.inspection.inspection import Inspection

__all__ = ["KINDS", "Finding", "find", "share", "suggested_exclusions", "suggests_labels"]

KINDS = kinds.KINDS | label_kinds.KINDS | depth_kinds.KINDS
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
    rows, count = dataset.rows, len(inspection.labels)
    known = inspection.features or {}
    features = {k: values[rows] for k, values in known.items() if values.shape[:1] == (count,)}
    facts = {k: values.item() for k, values in known.items() if not values.shape}
    pixels = {name: values[rows] for name, values in inspection.pixels.items()}
    # A copy that can no longer be read is none to keep.
    pixels["groups"] = np.where(np.isnan(pixels["brightness"]), -1, dataset.copies)
    # An earlier version did not measure it: no image counts as empty then.
    pixels.setdefault("span", np.full(len(dataset), np.inf))
    seen = Seen(dataset, pixels, features, inspection.labels[rows], part, facts)
    found = [finding for kind in KINDS.values() for finding in kind(seen)]
    return sorted(found, key=lambda finding: ("high", "medium", "low").index(finding.severity))


def suggested_exclusions(finding: Finding, dataset: Dataset) -> np.ndarray:
    """Which images to leave out to fix a finding.

    One image of each group of copies stays. An image of the test part is kept rather than one of
    validation or train, so that earlier measurements stay comparable and training loses what it
    should not have seen. Within a part the largest image stays, since smaller ones can be made
    from it; of equal ones the first. If copies have different labels, nothing is suggested: a
    person must decide first which label is correct. All images that hold nothing are suggested:
    too dark, too bright or of a single colour.

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


def share(finding: Finding) -> str:
    """The share of a finding's images expected to be as its title says, in words; "" if it is not
    known, or all are."""
    return "" if finding.expected is None else f"about {round(10 * finding.expected)} of 10"


def suggests_labels(finding: Finding) -> bool:
    """Whether to offer to relabel the images of a finding as suggested, all at once."""
    return (
        finding.kind == "mislabelled"
        and finding.expected is not None
        and finding.expected >= label_kinds.SERIOUS
    )
