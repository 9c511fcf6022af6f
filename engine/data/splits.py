"""Train, validation and test: disjoint, seeded, decided before anything is trained."""

import hashlib
import re

import numpy as np

from engine.errors import DatasetError

PARTS = ("train", "validation", "test")
OWN_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "eval"),
    "test": ("test", "testing"),
}
"""How sources usually call their own parts."""
ADDED = "added"
"""Own part of images that were added in Graft to a source that has parts."""


def split(
    spec, labels, contents, sources, classes, generations=None, moved=None
) -> dict[str, np.ndarray]:
    """Divides images into parts.

    Args:
        spec: a SplitSpec.
        labels: int array (n,), class indices.
        contents: str array (n,), a hash of each image's content. Identical images always fall into
            the same part, so that none is both trained and tested on.
        sources: str array (n,), the source's own part of each image ("train" where it has none).
        classes: names, for messages.
        generations: int array (n,): in which addition each image came, 0 the first. What came before
            keeps its part whatever is added; None if all came at once.
        moved: str array (n,): the part a person put an image into, "" for all others; None for none.

    Returns:
        {"train": indices, "validation": indices, "test": indices}: sorted int64 arrays, disjoint.

    Raises:
        DatasetError: if a part would be empty, or a slice does not exist.
    """
    if generations is None:
        generations = np.zeros(len(labels), np.int64)
    parts = divide(spec, labels, contents, sources, generations)
    return checked(parts if moved is None else move(parts, moved), labels, classes)


def method(spec, sources) -> str:
    """How a source is divided: a SplitSpec's method, or what its auto comes to. The source's own parts
    alone decide that: "source" if it has train and at least one of the others, else "stratified"."""
    if spec.method != "auto":
        return spec.method
    return "source" if _divides_itself(_own(set(sources.tolist()))) else "stratified"


def in_words(spec, sources) -> str:
    """How a source is divided, in one sentence for people; arguments as of `method`."""
    names, chosen = set(sources.tolist()), method(spec, sources)
    own = _own(names)
    if chosen == "slices":
        return "Each part is a slice of the source."
    if chosen == "stratified":
        text = "ll images are divided by percentage, every class alike"
        if _divides_itself(own):
            return f"A{text}: those of the source's own {_and(own[1:])} are then trained on, too."
        if spec.method == "auto":
            return f"The source has no train and test of its own, so a{text}."
        return f"A{text}."
    text = f"The source has its own {_and(own)}" if own else "The source has no parts of its own"
    missing = [f"{part} ({getattr(spec, part):g} %)" for part in PARTS if part not in own]
    if missing:
        text += f"; {_and(missing)} {'is' if len(missing) == 1 else 'are'} cut from train"
    unused = sorted(names - {ADDED}.union(*OWN_NAMES.values()))
    if unused:
        count = int(np.isin(sources, unused).sum())
        text += f"; its {_and(unused)} ({count:,} image{'s' * (count != 1)}) are not used"
    if ADDED in names:
        text += "; images added here are divided by percentage"
    return f"{text}."


def _own(names) -> list[str]:
    """Which of `PARTS` a source has of its own."""
    return [part for part in PARTS if not names.isdisjoint(OWN_NAMES[part])]


def _divides_itself(own) -> bool:
    return "train" in own and len(own) > 1


def _and(words) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def divide(spec, labels, contents, sources, generations) -> dict[str, np.ndarray]:
    """`split` without its last checks: parts may be empty."""
    chosen = method(spec, sources)
    if chosen == "slices":
        parts = {part: _slice(getattr(spec, part), sources) for part in PARTS}
        overlap = np.intersect1d(parts["train"], parts["test"]).size + sum(
            np.intersect1d(parts["validation"], parts[other]).size for other in ("train", "test")
        )
        if overlap:
            raise DatasetError(
                f"the slices share {overlap} images; choose slices that do not overlap, such as "
                "train[:10%], train[10%:25%] and train[25%:]"
            )
    elif chosen == "source":
        parts = _own_parts(spec, labels, contents, sources, generations)
    else:
        parts = _by_share(np.arange(len(labels)), spec, labels, contents, generations)
    return parts


def move(parts, moved) -> dict[str, np.ndarray]:
    """Parts with images moved where a person put them; arguments as of `split`."""
    chosen = {part: np.flatnonzero(moved == part) for part in PARTS}
    away = np.concatenate(list(chosen.values()))
    return {part: np.union1d(np.setdiff1d(parts[part], away), chosen[part]) for part in PARTS}


def checked(parts, labels, classes) -> dict[str, np.ndarray]:
    """Parts as sorted int64 arrays. Raises DatasetError for an empty one, and for a class without
    training images."""
    parts = {part: np.sort(np.asarray(parts[part], np.int64)) for part in PARTS}
    for part, indices in parts.items():
        if not len(indices):
            raise DatasetError(
                f"the {part} part of the split is empty ({len(labels)} images in {len(classes)} "
                "classes); add images or give it a larger share"
            )
    missing = np.setdiff1d(np.arange(len(classes)), labels[parts["train"]])
    if len(missing):
        names = ", ".join(classes[i] for i in missing[:5])
        raise DatasetError(
            f"no training image is left for {names}; add images of it, give train a larger share or, if "
            "the source's own parts leave it out, set split.method to stratified"
        )
    return parts


def _by_share(indices, spec, labels, contents, generations):
    """Images divided by the percentages of a SplitSpec."""
    test, rest = _cut(indices, spec.test / 100, spec.seed, labels, contents, generations)
    # Of the rest, so that the share of all images comes out as asked.
    share = spec.validation / (100 - spec.test)
    validation, train = _cut(rest, share, spec.seed, labels, contents, generations)
    return {"train": train, "validation": validation, "test": test}


def _cut(indices, share, seed, labels, contents, generations):
    """Cuts a share of every class off; returns (cut, rest).

    Images are ranked by a hash of seed and content, so neither file names nor order matter. A later
    generation makes up what the share of all images so far lacks, and moves none of the earlier ones.
    """
    ranks = {
        content: hashlib.sha256(f"{seed}:{content}".encode()).digest()
        for content in np.unique(contents[indices]).tolist()
    }
    taken, seen, cut = {}, {}, {}
    for generation in np.unique(generations[indices]).tolist():
        present = indices[generations[indices] == generation]
        for label in np.unique(labels[present]).tolist():
            members = present[labels[present] == label].tolist()
            members.sort(key=lambda i: (ranks[contents[i]], i))
            seen[label] = seen.get(label, 0) + len(members)
            wanted = round(seen[label] * share)
            if 0 < share < 1 and seen[label] >= 3:
                wanted = min(max(wanted, 1), seen[label] - 1)
            wanted -= cut.get(label, 0)
            for place, i in enumerate(members):
                # The first copy of an image decides for all its copies, in other classes too.
                taken.setdefault(contents[i], place < wanted)
            cut[label] = cut.get(label, 0) + sum(taken[contents[i]] for i in members)
    chosen = np.array([taken[contents[i]] for i in indices.tolist()], bool)
    return indices[chosen], indices[~chosen]


def _own_parts(spec, labels, contents, sources, generations):
    """The source's own parts; a missing validation or test part is cut from train. Images that were
    added later are divided by the percentages."""
    own = {part: np.flatnonzero(np.isin(sources, names)) for part, names in OWN_NAMES.items()}
    if not len(own["train"]):
        raise DatasetError(
            f"the source has no train part of its own (it has {', '.join(np.unique(sources))}); "
            "choose the method auto, stratified or slices"
        )
    for part in ("test", "validation"):
        if not len(own[part]):
            own[part], own["train"] = _cut(
                own["train"], getattr(spec, part) / 100, spec.seed, labels, contents, generations
            )
    added = _by_share(np.flatnonzero(sources == ADDED), spec, labels, contents, generations)
    # A copy of an image that was there before goes where that one is.
    before = {c: part for part in PARTS for c in contents[own[part]].tolist()}
    for part in PARTS:
        for index in added[part].tolist():
            home = before.get(contents[index], part)
            own[home] = np.append(own[home], index)
    return own


_PIECE = re.compile(r"^\s*(?P<name>[\w.-]+)\s*(\[(?P<low>-?\d+%?)?:(?P<high>-?\d+%?)?\])?\s*$")


def _slice(expression: str, sources: np.ndarray) -> np.ndarray:
    """Indices of a TFDS slicing expression such as "train[:10%]" or "train[:50]+test".

    Percentages round to the closest image, as TFDS does
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


def _bound(text, default, count):
    if text is None:
        return default
    value = round(int(text[:-1]) * count / 100) if text.endswith("%") else int(text)
    return min(max(value + count if value < 0 else value, 0), count)
