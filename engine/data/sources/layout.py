"""Which top folders of a source are parts (train, validation, test) and which are classes.

Folders and zips follow one rule: parts contain class folders, and classes contain images. Folders
without images are ignored. If names and folders contradict each other, preparing stops: nobody
wants a classifier of "train" and "test".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from engine.data.splits import OWN_NAMES

USUAL = {name: part for part, names in OWN_NAMES.items() for name in names}
"""{a usual name of a part, lower case: the part}."""
_SHOWN = 4


class Layout(NamedTuple):
    """The meaning of a source's top folders.

    Attributes:
        in_parts: whether they are parts, so that the folders in them are the classes.
        unclear: why it is unclear and what to do, to follow the source's name; "" if it is clear.
    """

    in_parts: bool
    unclear: str = ""


def part_of(name: str) -> str | None:
    """The part that a folder's name stands for: "Val" gives "val", "seg_train" gives "train".

    None if its words (split at everything but letters) name no part, or several parts.
    """
    words = re.split(r"[\W\d_]+", name.lower())
    found = {USUAL[word] for word in words if word in USUAL}
    if name.lower() in USUAL:
        return name.lower()
    return found.pop() if len(found) == 1 else None


def look(images: Iterable[Sequence[str]]) -> Layout:
    """Decides whether the top folders are parts or classes, by the places of the images.

    Args:
        images: for each image the names of its folders and its own, from the top of the source:
            ("train", "cat", "1.jpg").
    """
    inside: dict[str, set[str]] = {}  # {top folder: the folders in it that contain images}
    for names in images:
        if len(names) > 1:
            inside.setdefault(names[0], set()).update(names[1:2] if len(names) > 2 else ())
    parts = {top: USUAL[part] for top in inside if (part := part_of(top))}
    others = set(inside) - set(parts)
    kinds, usual = set(parts.values()), {top for top in parts if top.lower() in USUAL}
    # "test" beside "cat" and "dog" is a class, unless it alone contains folders, as a part does.
    if not any(inside[top] for top in usual) and not (len(kinds) > 1 and len(parts) > len(others)):
        return Layout(bool(inside) and usual == set(inside), _alike(inside))
    classes: set[str] = set().union(*(inside[top] for top in parts))
    named = [part_of(name) for name in classes]
    if others:
        why = f"beside other folders ({_names(others)})"
    elif len(kinds) < len(parts):
        why = "more than once for the same part"
    elif not classes:
        why = "without class folders in them"
    elif all(named) and len({USUAL[part] for part in named if part}) > 1:
        why = f"whose folders are named like parts again ({_names(classes)})"
    else:
        return Layout(True)
    return Layout(not others, _sentence(f"has folders named like parts ({_names(parts)}) {why}"))


def _alike(inside: dict[str, set[str]]) -> str:
    """Why folders under other names may be parts: all contain the same folders, as parts do."""
    first = next(iter(inside.values()), set())
    named = any(word in top.lower() for top in inside for word in ("train", "test", "val"))
    if not named or len(inside) < 2 or len(first) < 2 or any(f != first for f in inside.values()):
        return ""
    return _sentence(
        f"has folders that look like parts ({_names(inside)}), since all contain the same folders "
        f"({_names(first)})"
    )


def _sentence(found: str) -> str:
    return (
        f"{found}; if they are parts, name them train, validation and test, with a folder per "
        "class in each and no other images beside them; if they are classes, give them other names"
    )


def _names(names: Iterable[str]) -> str:
    every = sorted(names)
    shown = ", ".join(map(repr, every[:_SHOWN]))
    return shown + f" and {len(every) - _SHOWN} more" * (len(every) > _SHOWN)
