"""Train, validation and test: disjoint, seeded, decided before anything is trained."""

import hashlib
import re

import numpy as np

from engine.errors import DatasetError

PARTS = ("train", "validation", "test")
# How sources name their own parts.
_OWN_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}


def split(spec, labels, contents, sources, classes) -> dict[str, np.ndarray]:
    """Divides images into parts.

    Args:
        spec: a SplitSpec.
        labels: int array (n,), class indices.
        contents: str array (n,), a hash of each image's content. Identical images always fall into
            the same part, so that none is both trained and tested on.
        sources: str array (n,), the source's own part of each image ("train" where it has none).
        classes: names, for messages.

    Returns:
        {"train": indices, "validation": indices, "test": indices}: sorted int64 arrays, disjoint.

    Raises:
        DatasetError: if a part would be empty, or a slice does not exist.
    """
    if spec.method == "slices":
        parts = {part: _slice(getattr(spec, part), sources) for part in PARTS}
        overlap = np.intersect1d(parts["train"], parts["test"]).size + sum(
            np.intersect1d(parts["validation"], parts[other]).size for other in ("train", "test")
        )
        if overlap:
            raise DatasetError(
                f"the slices share {overlap} images; choose slices that do not overlap, such as "
                "train[:10%], train[10%:25%] and train[25%:]"
            )
    elif spec.method == "source":
        parts = _own_parts(spec, labels, contents, sources)
    else:
        everything = np.arange(len(labels))
        test, rest = _cut(everything, spec.test / 100, spec.seed, labels, contents)
        # Of the rest, so that the share of all images comes out as asked.
        share = spec.validation / (100 - spec.test)
        validation, train = _cut(rest, share, spec.seed, labels, contents)
        parts = {"train": train, "validation": validation, "test": test}
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
            f"no training image is left for {names}; add images of it or give train a larger share"
        )
    return parts


def _cut(indices, share, seed, labels, contents):
    """Cuts a share of every class off; returns (cut, rest).

    Images are ranked by a hash of seed and content, so neither file names nor order matter, and
    adding images moves only those next to a boundary.
    """
    ranks = {
        content: hashlib.sha256(f"{seed}:{content}".encode()).digest()
        for content in np.unique(contents[indices]).tolist()
    }
    taken = {}
    for label in np.unique(labels[indices]):
        members = [i for i in indices[labels[indices] == label].tolist()]
        members.sort(key=lambda i: (ranks[contents[i]], i))
        wanted = round(len(members) * share)
        if 0 < share < 1 and len(members) >= 3:
            wanted = min(max(wanted, 1), len(members) - 1)
        for place, i in enumerate(members):
            # The first copy of an image decides for all its copies, in other classes too.
            taken.setdefault(contents[i], place < wanted)
    chosen = np.array([taken[contents[i]] for i in indices.tolist()], bool)
    return indices[chosen], indices[~chosen]


def _own_parts(spec, labels, contents, sources):
    """The source's own parts; a missing validation or test part is cut from train."""
    own = {part: np.flatnonzero(np.isin(sources, names)) for part, names in _OWN_NAMES.items()}
    if not len(own["train"]):
        raise DatasetError(
            f"the source has no train part of its own (it has {', '.join(np.unique(sources))}); use "
            "the stratified method or slices"
        )
    for part in ("test", "validation"):
        if not len(own[part]):
            own[part], own["train"] = _cut(
                own["train"], getattr(spec, part) / 100, spec.seed, labels, contents
            )
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
