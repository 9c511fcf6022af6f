"""Train, validation and test: disjoint, seeded, decided before anything is trained."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from engine.errors import DatasetError
from engine.host import words
from engine.host.words import listed
from engine.recipe import SplitSpec

Parts: TypeAlias = dict[str, np.ndarray]
"""{"train": indices, "validation": indices, "test": indices}."""

PARTS = ("train", "validation", "test")
OWN_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "eval"),
    "test": ("test", "testing"),
}
"""Usual names of a source's own parts."""
ADDED = "added"
"""Own part of images that were added in Graft to a source that has parts."""


@dataclass(frozen=True)
class Images:
    """What decides the part of each of n images.

    Attributes:
        labels: int array (n,), class indices.
        contents: str array (n,), a hash of each image's content. Identical images are always in the
            same part, so that none is used both for training and for testing.
        sources: str array (n,), the source's own part of each image ("train" if it has none).
        generations: int array (n,): the addition that each image came with, 0 the first. Earlier
            images keep their part whatever is added.
        groups: int array (n,): images of one group stay in one part (`engine.data.groups`); None:
            only identical images do, divided exactly as before there were groups.
    """

    labels: np.ndarray
    contents: np.ndarray
    sources: np.ndarray
    generations: np.ndarray
    groups: np.ndarray | None = None

    @property
    def together(self) -> np.ndarray:
        """Array (n,), equal for images that stay in one part."""
        return self.contents if self.groups is None else self.groups


def split(spec: SplitSpec, images: Images, classes: Sequence[str]) -> Parts:
    """Divides images into parts.

    Args:
        spec: how; its `group_by` has already decided `images.groups`.
        images: what decides.
        classes: names, for messages.

    Returns:
        {"train": indices, "validation": indices, "test": indices}: sorted int64 arrays, disjoint.

    Raises:
        DatasetError: if a part would be empty, or a slice does not exist.
    """
    return checked(divide(spec, images), images.labels, classes)


def method(spec: SplitSpec, sources: np.ndarray) -> str:
    """How a source is divided: the spec's method, with auto resolved by the source's own parts:
    "source" if it has train and at least one of the others, else "stratified"."""
    if spec.method != "auto":
        return spec.method
    return "source" if _divides_itself(_own(set(sources.tolist()))) else "stratified"


def in_words(spec: SplitSpec, sources: np.ndarray) -> str:
    """How a source is divided, in one sentence for people."""
    names, chosen = set(sources.tolist()), method(spec, sources)
    own = _own(names)
    if chosen == "slices":
        return "Each part is a slice of the source."
    if chosen == "stratified":
        text = "ll images are divided by percentage within each class"
        if _divides_itself(own):
            return f"A{text}, so the source's own {listed(own[1:])} images may be trained on."
        if spec.method == "auto":
            return f"The source does not have both train and test parts, so a{text}."
        return f"A{text}."
    text = f"The source has its own {listed(own)}" if own else "The source has no parts of its own"
    missing = [f"{part} ({getattr(spec, part):g}%)" for part in PARTS if part not in own]
    if missing:
        text += f"; {listed(missing)} {'is' if len(missing) == 1 else 'are'} taken from train"
    unused = sorted(names - {ADDED}.union(*OWN_NAMES.values()))
    if unused:
        count = words.plural(int(np.isin(sources, unused).sum()), "image")
        text += f"; its {listed(unused)} ({count}) {'is' if len(unused) == 1 else 'are'} not used"
    if ADDED in names:
        text += "; images added here are divided by percentage"
    return f"{text}."


def _own(names: set[str]) -> list[str]:
    """The parts of `PARTS` that a source has."""
    return [part for part in PARTS if not names.isdisjoint(OWN_NAMES[part])]


def _divides_itself(own: list[str]) -> bool:
    return "train" in own and len(own) > 1


def divide(spec: SplitSpec, images: Images) -> Parts:
    """`split` without its last checks: parts may be empty."""
    sources = images.sources
    chosen = method(spec, sources)
    if chosen == "source":
        return _own_parts(spec, images)
    if chosen == "stratified":
        return _by_share(np.arange(len(sources)), spec, images)
    parts = {part: _slice(getattr(spec, part), sources) for part in PARTS}
    overlap = sum(map(len, parts.values())) - len(np.unique(np.concatenate([*parts.values()])))
    if overlap:
        raise DatasetError(
            f"the slices share {words.plural(overlap, 'image')}; choose slices that do not "
            "overlap, such as train[:10%], train[10%:25%] and train[25%:]"
        )
    return parts


def move(parts: Parts, moved: np.ndarray) -> Parts:
    """Parts with some images moved by a person.

    Args:
        parts: of `divide`.
        moved: str array (n,), the part that each image is moved to, "" for none.
    """
    chosen = {part: np.flatnonzero(moved == part) for part in PARTS}
    away = np.concatenate(list(chosen.values()))
    return {part: np.union1d(np.setdiff1d(parts[part], away), chosen[part]) for part in PARTS}


def checked(parts: Parts, labels: np.ndarray, classes: Sequence[str]) -> Parts:
    """Parts as sorted int64 arrays.

    Raises:
        DatasetError: if a part is empty, or a class has no training images.
    """
    parts = {part: np.sort(np.asarray(parts[part], np.int64)) for part in PARTS}
    for part, indices in parts.items():
        if not len(indices):
            raise DatasetError(
                f"the {part} part of the split is empty ({words.plural(len(labels), 'image')} in "
                f"{words.plural(len(classes), 'class', 'classes')}); add images or give it a "
                "larger share"
            )
    missing = np.setdiff1d(np.arange(len(classes)), labels[parts["train"]])
    if len(missing):
        names = listed([classes[i] for i in missing.tolist()])
        raise DatasetError(
            f"no training image is left for {names}; add images of it, give train a larger share, "
            "or, if the source's own train part has none of it, set split.method to stratified"
        )
    return parts


def _by_share(indices: np.ndarray, spec: SplitSpec, images: Images) -> Parts:
    """Images divided by the percentages of a SplitSpec."""
    percent_test, percent_validation = float(spec.test), float(spec.validation)
    test, rest = _cut(indices, percent_test / 100, spec.seed, images, 2)
    # A share of the rest that is the wanted share of all images.
    validation, train = _cut(rest, percent_validation / (100 - percent_test), spec.seed, images, 1)
    return {"train": train, "validation": validation, "test": test}


def _cut(
    indices: np.ndarray, share: float, seed: int, images: Images, left: int
) -> tuple[np.ndarray, np.ndarray]:
    """Takes a share of each class.

    A hash of seed and content ranks the images, so neither file names nor order matter. A later
    generation adds what is missing to the share of all images so far, and moves no earlier image.

    Args:
        indices: int array (m,), of the images to divide.
        share: 0 to 1.
        seed: of the ranks.
        images: what decides.
        left: groups of each class that stay.

    Returns:
        (taken, rest), two int arrays.
    """
    ranks = {
        content: hashlib.sha256(f"{seed}:{content}".encode()).digest()
        for content in np.unique(images.contents[indices]).tolist()
    }
    order = sorted(
        indices.tolist(), key=lambda i: (images.generations[i], ranks[images.contents[i]], i)
    )
    if images.groups is None:
        taken = _alone(order, share, images)
    else:
        taken = _grouped(order, share, images, left)
    chosen = np.array([taken[key] for key in images.together[indices].tolist()], bool)
    return indices[chosen], indices[~chosen]


def _alone(order: list[int], share: float, images: Images) -> dict[Any, bool]:
    """Which contents are taken of images without groups, as before there were groups.

    Args:
        order: the images, by generation and rank.
        share, images: of `_cut`.
    """
    contents = images.contents
    taken: dict[Any, bool] = {}
    seen: dict[int, int] = {}
    cut: dict[int, int] = {}
    keys = lambda i: (int(images.generations[i]), int(images.labels[i]))  # noqa: E731
    # The sort is stable, so the images of a class stay in the order of their ranks.
    for (_, label), found in itertools.groupby(sorted(order, key=keys), keys):
        members = list(found)
        seen[label] = seen.get(label, 0) + len(members)
        wanted = round(seen[label] * share)
        if 0 < share < 1 and seen[label] >= 3:
            wanted = min(max(wanted, 1), seen[label] - 1)
        wanted -= cut.get(label, 0)
        for place, i in enumerate(members):
            # The first copy of an image decides for all its copies, in other classes too.
            taken.setdefault(contents[i], place < wanted)
        cut[label] = cut.get(label, 0) + sum(taken[contents[i]] for i in members)
    return taken


def _grouped(order: list[int], share: float, images: Images, left: int) -> dict[Any, bool]:
    """Which groups are taken.

    Args:
        order: the images, by generation and rank; a group has the rank of its first image.
        share, images, left: of `_cut`.
    """
    taken: dict[Any, bool] = {}
    # Of each class: images seen and taken, groups seen and not taken.
    seen, cut, known, stay = (Counter[int]() for _ in range(4))
    for _, found in itertools.groupby(order, lambda i: images.generations[i]):
        new: dict[Any, Counter[int]] = {}
        for i in found:
            group, label = images.groups[i], int(images.labels[i])  # type: ignore[index]
            seen[label] += 1
            if group in taken:
                cut[label] += taken[group]
            else:
                new.setdefault(group, Counter())[label] += 1
        for counts in new.values():
            known.update(counts.keys())
            stay.update(counts.keys())
        wanted = {
            label: max(round(seen[label] * share), int(groups > left and share > 0))
            for label, groups in known.items()
        }
        taken |= _take(new, wanted, cut, stay, left)
    return taken


def _take(
    new: dict[Any, Counter[int]],
    wanted: dict[int, int],
    cut: Counter[int],
    stay: Counter[int],
    left: int,
) -> dict[Any, bool]:
    """Which groups of one generation are taken: first those that fit into what is wanted of each of
    their classes; then small ones that bring the part closer to it, or of which it has none yet.

    Args:
        new: {group: images of each class}, by rank.
        wanted: images of each class.
        cut: images taken of each class so far; updated.
        stay: groups not taken of each class so far; updated.
        left: of `_cut`.
    """
    taken = dict.fromkeys(new, False)

    def best(counts: Counter[int], fits: bool) -> bool:
        room = {label: wanted[label] - cut[label] for label in counts}
        if fits:
            return all(count <= room[label] for label, count in counts.items())
        gain = sum(count * (2 * room[label] - count) for label, count in counts.items())
        return gain > 0 or any(room[label] > 0 and not cut[label] for label in counts)

    for fits in (True, False):
        # The sort is stable: groups of one size stay in the order of their ranks.
        for group, counts in new.items() if fits else sorted(new.items(), key=_size):
            enough = all(stay[label] > left for label in counts)
            if not taken[group] and enough and best(counts, fits):
                taken[group] = True
                cut.update(counts)
                stay.subtract(counts.keys())
    return taken


def _size(item: tuple[Any, Counter[int]]) -> int:
    """Images of a group."""
    return item[1].total()


def _own_parts(spec: SplitSpec, images: Images) -> Parts:
    """The source's own parts; a missing validation or test part is taken from train. Images that
    were added later are divided by the percentages."""
    sources, together = images.sources, images.together
    own = {part: np.flatnonzero(np.isin(sources, names)) for part, names in OWN_NAMES.items()}
    if not len(own["train"]):
        raise DatasetError(
            f"the source has no train part (it has {', '.join(np.unique(sources))}); set "
            "split.method to auto, stratified or slices"
        )
    for part in ("test", "validation"):
        if not len(own[part]):
            share = getattr(spec, part) / 100
            own[part], own["train"] = _cut(own["train"], share, spec.seed, images, 1)
    added = _by_share(np.flatnonzero(sources == ADDED), spec, images)
    # A copy of an earlier image goes into the same part.
    before = {key: part for part in PARTS for key in together[own[part]].tolist()}
    for part in PARTS:
        for index in added[part].tolist():
            home = before.get(together[index].item(), part)
            own[home] = np.append(own[home], index)
    return own


_PIECE = re.compile(r"^\s*(?P<name>[\w.-]+)\s*(\[(?P<low>-?\d+%?)?:(?P<high>-?\d+%?)?\])?\s*$")


def _slice(expression: str, sources: np.ndarray) -> np.ndarray:
    """Indices of a TFDS slicing expression such as "train[:10%]" or "train[:50]+test".

    Percentages are rounded to the closest image, as in TFDS
    (https://www.tensorflow.org/datasets/splits).
    """
    chosen = []
    for piece in expression.split("+"):
        match = _PIECE.match(piece)
        names = np.unique(sources).tolist()
        if not match:
            raise DatasetError(f"{piece.strip()!r} is not a slice; write it like train[10%:25%]")
        if match["name"] not in names:
            raise DatasetError(
                f"the dataset has no split {match['name']!r} to slice; it has {', '.join(names)}"
            )
        members = np.flatnonzero(sources == match["name"])
        count = len(members)
        chosen.append(members[_bound(match["low"], 0, count) : _bound(match["high"], count, count)])
    return np.unique(np.concatenate(chosen))


def _bound(text: str | None, default: int, count: int) -> int:
    if text is None:
        return default
    value = round(int(text[:-1]) * count / 100) if text.endswith("%") else int(text)
    return min(max(value + count if value < 0 else value, 0), count)
