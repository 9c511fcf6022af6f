"""The kinds of findings, each a function of an inspected dataset, and their thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from engine.host import words

if TYPE_CHECKING:
    from engine.data.prepared import Dataset

Severity: TypeAlias = Literal["high", "medium", "low"]

ROBUST = 3.5
"""Modified z-score above which a value is an outlier (Iglewicz & Hoaglin, "How to Detect and Handle
Outliers", 1993)."""
DARK, BRIGHT = 48, 208
"""Luma, 0 to 255. Dark: even the bright end (mean + 2 deviations) is below DARK; bright: even the
dark end (mean - 2 deviations) is above BRIGHT. Of the 3,458 photos of tf_flowers, which include
white roses on white and flowers on black, none is below 66 or above 193."""
PLAIN_CONTRAST = 5.0
"""Deviation of luma (0 to 255) below which an image is one plain grey: about a sensor's noise. The
lowest of the photos of tf_flowers is 17."""
EMPTY_SPAN = 20
"""Luma, 0 to 255: an image holds nothing if no two of its 64 x 64 blocks differ by more. It is
4 to 9 for frames of noise; 40 and more for scans with a few lines of small print, and for a thin
pencil line on paper."""
ODD_FACTOR = 2.0
"""An odd size or shape also differs from the median by at least this factor: if nearly all images
have the same size, one more pixel would otherwise be an outlier."""
FEW = 10
"""Images of a class below which a head can hardly learn it."""
FEW_TESTED = 5
"""Test images of a class below which its accuracy says nothing: even if all 4 are classified
correctly, the 95% interval reaches down to 51% (Wilson 1927)."""
UNEVEN = 10.0
"""Ratio of the largest to the smallest class from which imbalance is worth fixing: between the two,
always predicting the larger one is correct for over 90% of the images."""


@dataclass(frozen=True)
class Finding:
    """A problem of a dataset.

    Attributes:
        kind: one of `KINDS`.
        title: for people.
        severity: "high", "medium" or "low".
        count: number of images; of files for unreadable, of classes for tiny_class and imbalance.
        indices: int64 array (m,) of images of the dataset given to `find`, worst first.
        groups: list of int64 arrays, indices of images that are copies of each other, the one to
            keep first; or None.
        advice: one sentence, what to do.
        scores: float array (m,), by which `indices` are ranked, or None.
        expected: the share of the images that are expected to be as the title says, 0 to 1,
            measured in trials; None where the finding is a fact or was not measured.
    """

    kind: str
    title: str
    severity: Severity
    count: int
    indices: np.ndarray
    groups: list[np.ndarray] | None
    advice: str
    scores: np.ndarray | None = None
    expected: float | None = None


@dataclass(frozen=True)
class Seen:
    """What a kind examines: the dataset, its rows of the inspection, each image's label before
    decisions (an index into the source's classes), its part ("" for none), and facts of the
    backbone's results as a whole."""

    dataset: Dataset
    pixels: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    before: np.ndarray
    part: np.ndarray
    facts: Mapping[str, Any]


def modified_z(values: np.ndarray) -> np.ndarray:
    """Iglewicz & Hoaglin's robust score: 0.6745 (x - median) / MAD. If more than half of the values
    are equal, the MAD is 0, and the score is (x - median) / (1.2533 x mean absolute deviation)."""
    if not len(values):
        return np.zeros(0)
    away = values - np.median(values)
    spread = np.median(np.abs(away)) / 0.6745
    spread = spread or 1.253314 * np.abs(away).mean()
    return away / spread if spread else np.zeros(len(values))


def _unreadable(seen: Seen) -> Iterator[Finding]:
    count = len(seen.dataset.unreadable)
    if count:
        yield Finding(
            "unreadable", "Files that cannot be read", "medium", count, none(), None,
            "They are left out. Replace or delete the files, then prepare the dataset again.",
        )  # fmt: skip


def _lost(seen: Seen) -> Iterator[Finding]:
    lost = np.isnan(seen.pixels["brightness"])
    lost[seen.dataset.gone()] = True
    if lost.any():
        advice = f"A run skips them, and pauses if more than 1% are lost: {seen.dataset.remedy}."
        title, where = "Images that can no longer be read", np.flatnonzero(lost)
        yield Finding("lost", title, "high", len(where), where, None, advice)


def _exact(seen: Seen) -> Iterator[Finding]:
    groups = _groups(np.unique(seen.dataset.contents, return_inverse=True)[1])
    yield from _copies(
        seen, groups, "exact_duplicates", "The same file more than once", "medium",
        "Keep one of each: copies count several times in training but add nothing new.",
    )  # fmt: skip


def _near(seen: Seen) -> Iterator[Finding]:
    contents = seen.dataset.contents
    groups = [g for g in _all_groups(seen) if len(np.unique(contents[g])) > 1]
    yield from _copies(
        seen, groups, "near_duplicates", "Nearly the same image", "medium",
        "Keep the best image of each group: resized, re-encoded or cropped copies add nothing new.",
    )  # fmt: skip


def _leakage(seen: Seen) -> Iterator[Finding]:
    spans = [_parts_of(seen, group) for group in _all_groups(seen)]
    groups = [(g, p) for g, p in zip(_all_groups(seen), spans, strict=True) if len(p) > 1]
    names = sorted({" and ".join(p) for _, p in groups})
    yield from _copies(
        seen, [g[seen.part[g] != ""] for g, _ in groups], "leakage",
        f"The same image in {'; '.join(names)}", "high",
        "An image that was trained on makes the results on validation and test look better than "
        "they are. If the images are divided by percentage, keep near copies together "
        "(split.group_by: copies); if the parts are the source's own, leave out the copies or move "
        "each group into one part, or divide all images again (split.method: stratified), which "
        "gives up comparing with others' results on the same test part.",
    )  # fmt: skip


def _conflict(seen: Seen) -> Iterator[Finding]:
    labels = seen.dataset.labels
    groups = [g for g in _all_groups(seen) if len(np.unique(labels[g])) > 1]
    yield from _copies(
        seen, groups, "label_conflict", "The same image with different labels", "high",
        "Decide which label is correct, and relabel or leave out the others.",
    )  # fmt: skip


def _odd_size(seen: Seen) -> Iterator[Finding]:
    width, height = (getattr(seen.dataset, k).astype(float) for k in ("widths", "heights"))
    logs = np.log2(np.maximum(width * height, 1)) / 2, np.log2(width / np.maximum(height, 1))
    score, odd = np.zeros(len(width)), np.zeros(len(width), bool)
    for values in logs:
        z = np.abs(modified_z(values))
        away = np.abs(values - np.median(values)) if len(values) else values
        strange = (z > ROBUST) & (away >= np.log2(ODD_FACTOR))
        odd |= strange
        score = np.maximum(score, np.where(strange, z, 0))
    yield from ranked(
        np.flatnonzero(odd), score, "odd_size", "Odd size or shape", "low",
        "Look at them: they are much smaller, larger, wider or taller than the others, and "
        "training resizes all images to one square.",
    )  # fmt: skip


def _too_dark(seen: Seen) -> Iterator[Finding]:
    dark, _ = _dark_and_bright(seen)
    yield from ranked(
        np.flatnonzero(dark & _empty(seen)), -seen.pixels["brightness"], "too_dark",
        "Too dark to see anything", "medium",
        "Leave them out, unless the classifier will be used on such dark images.",
    )  # fmt: skip


def _dark(seen: Seen) -> Iterator[Finding]:
    dark, _ = _dark_and_bright(seen)
    yield from ranked(
        np.flatnonzero(dark & ~_empty(seen)), -seen.pixels["brightness"], "dark",
        "Very dark images", "low",
        "Look at them: something is in them, but it may be too dark to recognize.",
    )  # fmt: skip


def _too_bright(seen: Seen) -> Iterator[Finding]:
    # A bright image that is not empty is usually a scan: black on white paper, and fine.
    _, bright = _dark_and_bright(seen)
    yield from ranked(
        np.flatnonzero(bright & _empty(seen)), seen.pixels["brightness"], "too_bright",
        "Too bright to see anything", "medium",
        "Leave them out, unless the classifier will be used on such bright images.",
    )  # fmt: skip


def _low_information(seen: Seen) -> Iterator[Finding]:
    dark, bright = _dark_and_bright(seen)
    plain = (seen.pixels["contrast"] < PLAIN_CONTRAST) & _empty(seen) & ~dark & ~bright
    yield from ranked(
        np.flatnonzero(plain), -seen.pixels["contrast"], "low_information", "Empty images",
        "medium", "Leave them out: a single colour says nothing about the class.",
    )  # fmt: skip


def _blurry(seen: Seen) -> Iterator[Finding]:
    # Dark and empty images have no edges either, but are findings of their own kinds.
    dark, _ = _dark_and_bright(seen)
    plain = seen.pixels["contrast"] < PLAIN_CONTRAST
    known = np.isfinite(seen.pixels["sharpness"]) & ~dark & ~plain & ~_empty(seen)
    score = np.zeros(len(known))
    # Sharpness is a power of the strength of edges, so its logarithm is closer to normal.
    score[known] = -modified_z(np.log(seen.pixels["sharpness"][known].astype(float) + 1e-3))
    yield from ranked(
        np.flatnonzero(score > ROBUST), score, "blurry", "Blurred images", "low",
        "Look at them, and leave out those whose class you cannot recognize yourself.",
    )  # fmt: skip


def _tiny_class(seen: Seen) -> Iterator[Finding]:
    """Classes too small to learn, or too small in the test part to say how well they were."""
    names, labels = seen.dataset.classes, seen.dataset.labels
    counts, trained, tested = (
        np.bincount(labels[chosen], minlength=len(names))
        for chosen in (slice(None), seen.part == "train", seen.part == "test")
    )
    divided = bool((seen.part != "").any())
    tiny = np.flatnonzero((counts < FEW) | (divided & (tested < FEW_TESTED)))
    if not len(tiny):
        return
    tiny = tiny[np.lexsort((counts[tiny], tested[tiny]))]
    place = np.full(len(names), -1)
    place[tiny] = np.arange(len(tiny))
    images = np.flatnonzero(place[labels] >= 0)
    images = images[np.argsort(place[labels[images]], kind="stable")]
    sizes = [f"{names[i]} ({counts[i]})" for i in tiny.tolist()]
    title, advice = f"Classes with fewer than {FEW} images: {words.listed(sizes)}", ""
    if divided:
        sizes = [f"{names[i]} ({tested[i]} of {counts[i]})" for i in tiny.tolist()]
        title = f"Classes with too few test images: {words.listed(sizes)}"
        least, most = (words.plural(int(tested[i]), "test image") for i in tiny[[0, -1]])
        number = most if least == most else f"{least.split()[0]} to {most}"
        which = "this class" if len(tiny) == 1 else "each of these classes"
        advice = f"{number}: an accuracy of {which} says nothing. "
    lost = (tested[tiny] == 0) | (trained[tiny] == 0) if divided else counts[tiny] < 3
    yield Finding(
        "tiny_class", title, "high" if lost.any() else "medium", len(tiny), images, None,
        f"{advice}Add images of {'it' if len(tiny) == 1 else 'them'}, or leave "
        f"{'it' if len(tiny) == 1 else 'them'} out: train, validation and test need at least one "
        "image each.",
    )  # fmt: skip


def _imbalance(seen: Seen) -> Iterator[Finding]:
    classes = seen.dataset.classes
    counts = np.bincount(seen.dataset.labels, minlength=len(classes))
    enough = np.flatnonzero(counts >= FEW)  # the others are in the finding tiny_class
    if not len(enough):
        return
    least, most = int(enough[counts[enough].argmin()]), int(counts.argmax())
    if counts[most] >= UNEVEN * counts[least]:
        small = enough[counts[enough] * UNEVEN <= counts[most]]
        yield Finding(
            "imbalance",
            f"Uneven classes: {words.plural(int(counts[most]), 'image')} of {classes[most]}, "
            f"{counts[least]:,} of {classes[least]}",
            "low", len(small), none(), None,
            "Add images of the small classes, and look at each class's recall instead of accuracy.",
        )  # fmt: skip


def _outlier(seen: Seen) -> Iterator[Finding]:
    if "outlier" not in seen.features:
        return
    score = np.nan_to_num(seen.features["outlier"], nan=0.0)
    yield from ranked(
        np.flatnonzero(score > 1.0), score, "outlier", "Unlike all other images", "low",
        "Look at them, and leave out those that belong to no class.",
    )  # fmt: skip


KINDS = {
    "lost": _lost,
    "unreadable": _unreadable,
    "leakage": _leakage,
    "label_conflict": _conflict,
    "exact_duplicates": _exact,
    "near_duplicates": _near,
    "tiny_class": _tiny_class,
    "too_dark": _too_dark,
    "too_bright": _too_bright,
    "low_information": _low_information,
    "dark": _dark,
    "blurry": _blurry,
    "outlier": _outlier,
    "odd_size": _odd_size,
    "imbalance": _imbalance,
}
"""Each kind of finding but those about labels, in the order of a list of equal severity."""


def none() -> np.ndarray:
    return np.zeros(0, np.int64)


def ranked(
    indices: np.ndarray, score: np.ndarray, kind: str, title: str, severity: Severity, advice: str
) -> Iterator[Finding]:
    """A finding of single images, the highest score first; nothing for no images."""
    if len(indices):
        indices = indices[np.argsort(-score[indices], kind="stable")].astype(np.int64)
        values = np.asarray(score[indices], float)
        yield Finding(kind, title, severity, len(indices), indices, None, advice, values)


def _copies(
    seen: Seen,
    groups: Sequence[np.ndarray],
    kind: str,
    title: str,
    severity: Severity,
    advice: str,
) -> Iterator[Finding]:
    """A finding of groups, the largest first; nothing for no groups."""
    if groups:
        groups = sorted((_kept_first(seen, g) for g in groups), key=lambda g: (-len(g), g[0]))
        members = np.concatenate(groups)
        yield Finding(kind, title, severity, len(members), members, groups, advice)


def _kept_first(seen: Seen, group: np.ndarray) -> np.ndarray:
    """A group's images, the one to keep first: the same one in all kinds of findings."""
    part = np.array([_KEPT.index(name) for name in seen.part[group].tolist()])
    area = seen.dataset.widths[group].astype(np.int64) * seen.dataset.heights[group]
    return group[np.lexsort((group, -area, part))].astype(np.int64)


_KEPT = ("test", "validation", "train", "")


def _groups(numbers: np.ndarray) -> list[np.ndarray]:
    """Indices of equal numbers, in groups of at least two; negative numbers form no group."""
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]
    bounds = np.flatnonzero(np.diff(numbers[order])) + 1
    return [group for group in np.split(order, bounds) if len(group) > 1]


def _all_groups(seen: Seen) -> list[np.ndarray]:
    """Groups of exact and near copies (`engine.data.copies`)."""
    return _groups(seen.pixels["groups"])


def _parts_of(seen: Seen, group: np.ndarray) -> list[str]:
    """The parts with images of a group, in their usual order."""
    present = set(seen.part[group].tolist())
    return [name for name in ("train", "validation", "test") if name in present]


def _empty(seen: Seen) -> np.ndarray:
    return seen.pixels["span"] < EMPTY_SPAN


def _dark_and_bright(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    brightness, spread = seen.pixels["brightness"], 2 * seen.pixels["contrast"]
    return brightness + spread < DARK, brightness - spread > BRIGHT
