"""Groups: images that must stay in one part, since one of them gives the others away.

Near copies (`engine.data.copies`), and images whose names say that they show one patient, scene or
camera: what `SplitSpec.group_by` asks for. scikit-learn uses the word alike (GroupKFold).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from engine.data import splits
from engine.data.copies import in_another
from engine.data.splits import PARTS, Images, Parts
from engine.errors import DatasetError
from engine.host import words
from engine.recipe import SplitSpec


def keys(spec: SplitSpec, names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """What each image's name says about its group.

    Args:
        spec: its `group_by` is "folder" or a pattern; for others no name says anything.
        names: of n images, with their folders.
        classes: names of the classes.

    Returns:
        str array (n,); "" for images without a group.

    Raises:
        DatasetError: if no image has a group.
    """
    if spec.group_by in ("none", "copies"):
        return np.full(len(names), "")
    if spec.group_by == "folder":
        folded = {name.casefold() for name in classes}
        found = [_below(PurePosixPath(name).parts[:-1], folded) for name in names]
        if not any(found):
            raise DatasetError(
                "split.group_by is folder, but no image lies in a folder below its class (such as "
                f"class/patient7/image.jpg; the first image is {names[0]}); set it to copies, or "
                "to a regular expression for the names"
            )
    else:
        matches = [re.search(spec.group_by, name) for name in names]
        found = [(match and match[1]) or "" for match in matches]
        if not any(found):
            raise DatasetError(
                f"split.group_by is {spec.group_by}, but no name has such a group (the first is "
                f"{names[0]}); correct the regular expression, or set it to copies"
            )
    return np.array(found)


def _below(folders: tuple[str, ...], classes: set[str]) -> str:
    """The folders below the last one that is named like a class; "" if there are none."""
    at = max((i for i, name in enumerate(folders) if name.casefold() in classes), default=-1)
    return "/".join(folders[at + 1 :]) if at >= 0 else ""


def joined(images: Images, named: np.ndarray, copies: np.ndarray) -> Images:
    """Images with groups: what must stay together by name or as near copies.

    Images of a later generation join earlier groups, but never join two of them to one: these may
    be in different parts already.

    Args:
        images: without groups.
        named: str array (n,), of `keys`.
        copies: int array (n,), of `engine.data.copies.find`.
    """
    generations = images.generations
    order = np.lexsort((images.contents, generations)).tolist()
    parent, oldest = np.arange(len(named)), generations.copy()

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    first: dict[tuple[str, object], int] = {}
    for i in order:
        for key in (("name", named[i]), ("copy", int(copies[i]))):
            if key[1] == "" or key[1] == -1:
                continue
            a, b = root(first.setdefault(key, i)), root(i)
            if a != b and max(oldest[a], oldest[b]) == generations[i]:
                older, newer = (a, b) if oldest[a] <= oldest[b] else (b, a)
                parent[newer] = older
    return replace(images, groups=np.array([root(i) for i in range(len(named))], np.int64))


def in_words(
    spec: SplitSpec, images: Images, parts: Parts, copies: np.ndarray, classes: Sequence[str]
) -> list[str]:
    """What the groups do to a division: sentences for people, [] if there is nothing to say.

    Args:
        spec: how the images are divided.
        images: of `joined`, or without groups.
        parts: of `engine.data.splits.divide`.
        copies: of `engine.data.copies.find`.
        classes: names.
    """
    said = []
    if spec.group_by not in ("none", "copies") and images.groups is not None:
        count = len(np.unique(images.groups))
        said.append(f"The images form {words.plural(count, 'group')}, each kept in one part.")
    train = parts["train"]
    known = [(part, in_another(copies, parts[part], train).sum()) for part in PARTS[1:]]
    across = [f"{words.plural(int(n), f'{part} image')}" for part, n in known if n]
    if across:
        one = sum(n for _, n in known) == 1
        said.append(
            f"{' and '.join(across)} {'is a copy' if one else 'are copies'} (the same or nearly "
            "the same image) of training images."
        )
    elif images.groups is not None and (n := int((copies >= 0).sum())):
        said.append(
            f"{words.plural(n, 'image')} have copies (the same or nearly the same image), and "
            "copies stay in one part."
        )
    for part in PARTS[1:] if splits.method(spec, images.sources) == "stratified" else ():
        lacking = np.setdiff1d(images.labels, images.labels[parts[part]])
        if len(lacking):
            names = words.listed([classes[i] for i in lacking.tolist()], 5)
            said.append(
                f"The {part} part has no image of {names}: it needs 3 images of a class that need "
                "not stay together."
            )
    return said
