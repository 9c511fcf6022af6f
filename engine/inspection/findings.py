"""Findings: what an inspection says is wrong with a dataset, as it is now with all decisions applied.

Light: arrays that are there already, compared in a moment. A new kind is one function in `KINDS`.
"""

from dataclasses import dataclass

import numpy as np

ROBUST = 3.5
"""Modified z-score beyond which a value is an outlier (Iglewicz & Hoaglin, "How to Detect and Handle
Outliers", 1993)."""
DARK, BRIGHT = 48, 208
"""Luma, 0 to 255. Too dark: even the bright end (mean + 2 deviations) stays below; too bright: even the
dark end (mean - 2 deviations) is above. Of the 3,458 photos of tf_flowers, among them white roses on
white and flowers on black, none goes below 66 or above 193."""
PLAIN_CONTRAST = 5.0
"""Deviation of luma, of 255, below which an image is one plain grey: noise of a sensor has as much. The least
of the photos of tf_flowers is 17."""
PLAIN_ENTROPY = 0.3
"""Bits: a drawing of black and white with 5 % of its pixels black has as much."""
ODD_FACTOR = 2.0
"""An odd size or shape is also at least this far from the median: where nearly all images are of one
size, a single pixel more would be an outlier otherwise."""
FEW = 10
"""Images of a class below which a head has hardly anything to learn from, and the test part gets one:
one answer then moves the class's recall from 0 to 100 %."""
UNEVEN = 10.0
"""Largest class over smallest from which imbalance is worth acting on: guessing the large one is then
right in over 90 % of the cases between the two."""
ODDS = 3.0
"""How many times as probable as the label another class must be, out of fold, for the label to be
doubted. Of 10 labels swapped among 600 photos of tf_flowers (3 draws, MobileNetV2 0.35) the list then
holds 8 or 9 and is 22 to 34 long; confident learning's own rule, at least as sure as usual of the other
class, holds 5 to 7 of them and is 19 to 23 long."""


@dataclass(frozen=True)
class Finding:
    """Something to look at.

    Attributes:
        kind: a slug, one of `KINDS`.
        title: for people.
        severity: "high", "medium" or "low".
        count: images concerned; files for unreadable, classes for tiny_class and imbalance.
        indices: int64 array (m,) of images of the dataset given to `find`, worst first.
        groups: list of int64 arrays, indices of images that are copies of each other, the one to keep
            first; or None.
        advice: one sentence, what to do.
        scores: float array (m,), what `indices` are ranked by, or None.
    """

    kind: str
    title: str
    severity: str
    count: int
    indices: np.ndarray
    groups: list | None
    advice: str
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class _Seen:
    """What the kinds look at: the dataset, its rows of the inspection, each image's label without
    decisions (an index into the source's classes) and its part ("" for none)."""

    dataset: object
    pixels: dict
    features: dict
    before: np.ndarray
    part: np.ndarray


def find(dataset, inspection, parts=None) -> list[Finding]:
    """Everything there is to say of a dataset, the most serious first.

    Args:
        dataset: the Dataset, its overlay applied: an image that was left out no longer counts, one that
            was relabelled is no longer suspect.
        inspection: an `engine.inspection.inspection.Inspection` of it.
        parts: its split, `{part: indices}`; None if it cannot be split (yet).

    Returns:
        A list of Finding; kinds with nothing to say are left out.
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
    seen = _Seen(dataset, pixels, features, inspection.labels[rows], part)
    found = [finding for kind in KINDS.values() for finding in kind(seen)]
    return sorted(found, key=lambda finding: ("high", "medium", "low").index(finding.severity))


def suggested_exclusions(finding: Finding, dataset) -> np.ndarray:
    """Which images to leave out, so that what was found is gone.

    Of a group of copies one stays. That of the test part before that of validation and of train, so
    that figures measured before stay comparable and it is the training that loses what it should not
    have seen; within a part the largest, since the others can be made from it but not the reverse; of
    equals the first. Where copies have different labels none is suggested: a person must say first which
    is right. Of what is dark, bright or empty all are.

    Args:
        finding: of `find`.
        dataset: the same Dataset.

    Returns:
        int64 array of indices; empty where leaving out is no remedy, or only a look can tell.
    """
    if finding.kind in ("too_dark", "too_bright", "low_information"):
        return finding.indices
    if finding.kind not in ("exact_duplicates", "near_duplicates", "leakage"):
        return _none()
    same = [g[1:] for g in finding.groups if len(np.unique(dataset.labels[g])) == 1]
    return np.concatenate([_none(), *same])


def modified_z(values) -> np.ndarray:
    """Iglewicz & Hoaglin's robust score: 0.6745 (x - median) / MAD, and where more than half of the
    values are equal, so that the MAD is 0, (x - median) / (1.2533 x mean absolute deviation)."""
    if not len(values):
        return np.zeros(0)
    away = values - np.median(values)
    spread = np.median(np.abs(away)) / 0.6745
    spread = spread or 1.253314 * np.abs(away).mean()
    return away / spread if spread else np.zeros(len(values))


# -- the kinds --------------------------------------------------------------------------------


def _unreadable(seen):
    count = len(seen.dataset.unreadable)
    if count:
        yield Finding(
            "unreadable", "Files that cannot be read", "medium", count, _none(), None,
            "They are left out already; replace or delete the files, then prepare the dataset again.",
        )  # fmt: skip


def _lost(seen):
    lost = np.isnan(seen.pixels["brightness"])
    lost[seen.dataset.gone()] = True
    if lost.any():
        advice = f"A run skips them, and pauses beyond one in a hundred: {seen.dataset.remedy}."
        title, where = "Images that can no longer be read", np.flatnonzero(lost)
        yield Finding("lost", title, "high", len(where), where, None, advice)


def _exact(seen):
    groups = _groups(np.unique(seen.dataset.contents, return_inverse=True)[1])
    yield from _copies(
        seen, groups, "exact_duplicates", "The same file more than once", "medium",
        "Keep one of each: copies count twice in training, and are never more than one image's worth.",
    )  # fmt: skip


def _near(seen):
    contents = seen.dataset.contents
    groups = [g for g in _all_groups(seen) if len(np.unique(contents[g])) > 1]
    yield from _copies(
        seen, groups, "near_duplicates", "Nearly the same picture", "medium",
        "Look at each group, and keep the best: resized, re-encoded and cropped copies teach nothing new.",
    )  # fmt: skip


def _leakage(seen):
    spans = [_parts_of(seen, group) for group in _all_groups(seen)]
    groups = [(g, p) for g, p in zip(_all_groups(seen), spans, strict=True) if len(p) > 1]
    names = sorted({" and ".join(p) for _, p in groups})
    yield from _copies(
        seen, [g[seen.part[g] != ""] for g, _ in groups], "leakage",
        f"The same picture in {'; '.join(names)}", "high",
        "Leave out the copies, or move each group into one part: a picture that was trained on makes "
        "validation and test look better than they are.",
    )  # fmt: skip


def _conflict(seen):
    labels = seen.dataset.labels
    groups = [g for g in _all_groups(seen) if len(np.unique(labels[g])) > 1]
    yield from _copies(
        seen, groups, "label_conflict", "The same picture under different labels", "high",
        "Decide which label is right, and relabel or leave out the others.",
    )  # fmt: skip


def _odd_size(seen):
    width, height = (getattr(seen.dataset, k).astype(float) for k in ("widths", "heights"))
    logs = np.log2(np.maximum(width * height, 1)) / 2, np.log2(width / np.maximum(height, 1))
    score, odd = np.zeros(len(width)), np.zeros(len(width), bool)
    for values in logs:
        z = np.abs(modified_z(values))
        away = np.abs(values - np.median(values)) if len(values) else values
        strange = (z > ROBUST) & (away >= np.log2(ODD_FACTOR))
        odd |= strange
        score = np.maximum(score, np.where(strange, z, 0))
    yield from _ranked(
        np.flatnonzero(odd), score, "odd_size", "Odd size or shape", "low",
        "Look at them: far smaller, larger, wider or higher than the others; all are squeezed into one "
        "square for training.",
    )  # fmt: skip


def _too_dark(seen):
    light = seen.pixels["brightness"] + 2 * seen.pixels["contrast"]
    yield from _ranked(
        np.flatnonzero(light < DARK), -light, "too_dark", "Too dark to see anything", "medium",
        "Leave them out, unless what the classifier will meet is as dark.",
    )  # fmt: skip


def _too_bright(seen):
    light = seen.pixels["brightness"] - 2 * seen.pixels["contrast"]
    yield from _ranked(
        np.flatnonzero(light > BRIGHT), light, "too_bright", "Too bright to see anything", "medium",
        "Leave them out, unless what the classifier will meet is as bright.",
    )  # fmt: skip


def _low_information(seen):
    plain = _plain(seen) & ~_dark_or_bright(seen)
    yield from _ranked(
        np.flatnonzero(plain), -seen.pixels["contrast"], "low_information", "Nearly empty images",
        "medium", "Leave them out: one plain colour says nothing of its class.",
    )  # fmt: skip


def _blurry(seen):
    # What is dark, bright or empty has no edges either, and is named as that.
    known = np.isfinite(seen.pixels["sharpness"]) & ~_plain(seen) & ~_dark_or_bright(seen)
    score = np.zeros(len(known))
    # Sharpness is a power of how strong edges are: its logarithm is what is spread evenly.
    score[known] = -modified_z(np.log(seen.pixels["sharpness"][known].astype(float) + 1e-3))
    yield from _ranked(
        np.flatnonzero(score > ROBUST), score, "blurry", "Blurred images", "low",
        "Look at them, and leave out those on which you cannot tell the class yourself.",
    )  # fmt: skip


def _tiny_class(seen):
    classes = seen.dataset.classes
    counts = np.bincount(seen.dataset.labels, minlength=len(classes))
    tiny = np.flatnonzero(counts < FEW)
    if len(tiny):
        tiny = tiny[np.argsort(counts[tiny], kind="stable")]
        images = np.concatenate([np.flatnonzero(seen.dataset.labels == label) for label in tiny])
        yield Finding(
            "tiny_class", f"Classes with fewer than {FEW} images: {_named(classes, counts, tiny)}",
            "high" if counts[tiny[0]] < 3 else "medium", len(tiny), images, None,
            "Add images of them, or leave these classes out: train, validation and test need at least "
            "one each.",
        )  # fmt: skip


def _imbalance(seen):
    classes = seen.dataset.classes
    counts = np.bincount(seen.dataset.labels, minlength=len(classes))
    enough = np.flatnonzero(counts >= FEW)  # the others are named as tiny
    if not len(enough):
        return
    least, most = int(enough[counts[enough].argmin()]), int(counts.argmax())
    if counts[most] >= UNEVEN * counts[least]:
        small = enough[counts[enough] * UNEVEN <= counts[most]]
        yield Finding(
            "imbalance",
            f"Uneven classes: {counts[most]:,} images of {classes[most]}, {counts[least]:,} of "
            f"{classes[least]}",
            "low", len(small), _none(), None,
            "Add images of the small classes, and judge by each class's recall rather than by accuracy.",
        )  # fmt: skip


def _mislabelled(seen):
    if "suggested" not in seen.features:
        return
    of_source = {name: i for i, name in enumerate(seen.dataset.source_classes)}
    given = np.array([of_source[name] for name in seen.dataset.classes])[seen.dataset.labels]
    likely, suggested = seen.features["suggested_probability"], seen.features["suggested"]
    # Self-confidence ranks errors best (Northcutt et al., "Confident Learning", 2021, and measured).
    score = 1 - seen.features["given_probability"]
    with np.errstate(invalid="ignore"):
        doubted = (
            (suggested >= 0)
            & (suggested != given)
            & (likely > ODDS * seen.features["given_probability"])
        )
    # What has been relabelled was looked at by a person, whatever the backbone says.
    doubted &= given == seen.before
    yield from _ranked(
        np.flatnonzero(doubted), score, "mislabelled", "Labels that look wrong", "high",
        "Look at them, the likeliest first, and relabel or leave out those that are wrong.",
    )  # fmt: skip


def _outlier(seen):
    if "outlier" not in seen.features:
        return
    score = np.nan_to_num(seen.features["outlier"], nan=0.0)
    yield from _ranked(
        np.flatnonzero(score > 1.0), score, "outlier", "Unlike all other images", "low",
        "Look at them: what belongs to no class is better left out.",
    )  # fmt: skip


KINDS = {
    "lost": _lost,
    "unreadable": _unreadable,
    "leakage": _leakage,
    "label_conflict": _conflict,
    "mislabelled": _mislabelled,
    "exact_duplicates": _exact,
    "near_duplicates": _near,
    "tiny_class": _tiny_class,
    "too_dark": _too_dark,
    "too_bright": _too_bright,
    "low_information": _low_information,
    "blurry": _blurry,
    "outlier": _outlier,
    "odd_size": _odd_size,
    "imbalance": _imbalance,
}
"""Each kind of finding, in the order of a list of equal severity."""


# -- what they share --------------------------------------------------------------------------


def _none():
    return np.zeros(0, np.int64)


def _ranked(indices, score, kind, title, severity, advice):
    """A finding of single images, the highest score first; nothing if there are none."""
    if len(indices):
        indices = indices[np.argsort(-score[indices], kind="stable")].astype(np.int64)
        values = np.asarray(score[indices], float)
        yield Finding(kind, title, severity, len(indices), indices, None, advice, values)


def _copies(seen, groups, kind, title, severity, advice):
    """A finding of groups, the largest first; nothing if there are none."""
    if groups:
        groups = sorted((_kept_first(seen, g) for g in groups), key=lambda g: (-len(g), g[0]))
        members = np.concatenate(groups)
        yield Finding(kind, title, severity, len(members), members, groups, advice)


def _kept_first(seen, group) -> np.ndarray:
    """A group's images, the one to keep first, which is the same one in every kind of finding."""
    part = [_KEPT.index(name) for name in seen.part[group].tolist()]
    area = seen.dataset.widths[group].astype(np.int64) * seen.dataset.heights[group]
    return group[np.lexsort((group, -area, part))].astype(np.int64)


_KEPT = ("test", "validation", "train", "")


def _groups(numbers) -> list[np.ndarray]:
    """Indices of equal numbers, where there are at least two; negative ones belong to none."""
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]
    bounds = np.flatnonzero(np.diff(numbers[order])) + 1
    return [group for group in np.split(order, bounds) if len(group) > 1]


def _all_groups(seen) -> list[np.ndarray]:
    """Groups of copies, exact or nearly: the inspection's hold both."""
    return _groups(seen.pixels["groups"])


def _parts_of(seen, group) -> list[str]:
    """Names of the parts that a group is spread over, in their usual order."""
    present = set(seen.part[group].tolist())
    return [name for name in ("train", "validation", "test") if name in present]


def _plain(seen) -> np.ndarray:
    return (seen.pixels["contrast"] < PLAIN_CONTRAST) | (seen.pixels["entropy"] < PLAIN_ENTROPY)


def _dark_or_bright(seen) -> np.ndarray:
    brightness, spread = seen.pixels["brightness"], 2 * seen.pixels["contrast"]
    return (brightness + spread < DARK) | (brightness - spread > BRIGHT)


def _named(classes, counts, labels) -> str:
    """A few classes with their counts."""
    names = [f"{classes[i]} ({counts[i]})" for i in labels[:5].tolist()]
    return ", ".join(names) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
