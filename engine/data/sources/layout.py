"""Which top folders of a source are parts (train, validation, test) and which are classes: one rule, for
folders and zips alike.

Parts hold class folders, and classes hold images. A folder without images counts for nothing. Where
names and folders do not agree, preparing stops: a classifier of "train" and "test" helps nobody.
"""

import re
from typing import NamedTuple

from engine.data.splits import OWN_NAMES

USUAL = {name: part for part, names in OWN_NAMES.items() for name in names}
"""{a usual name of a part, lower case: the part}."""
_SHOWN = 4


class Layout(NamedTuple):
    """What the top folders of a source are.

    Attributes:
        in_parts: whether they are parts, so that the folders in them are the classes.
        unclear: why that cannot be told and what to do, to follow the source's name; "" if it can.
    """

    in_parts: bool
    unclear: str = ""


def part_of(name: str) -> str | None:
    """What the part is called that a folder is named like: "Val" gives "val", "seg_train" gives "train".

    None if its words (split at everything that is no letter) are those of no part, or of several.
    """
    words = re.split(r"[\W\d_]+", name.lower())
    found = {USUAL[word] for word in words if word in USUAL}
    if name.lower() in USUAL:
        return name.lower()
    return found.pop() if len(found) == 1 else None


def look(images) -> Layout:
    """Tells parts from classes by where images lie.

    Args:
        images: for each image the names of its folders and its own, from the top of the source:
            ("train", "cat", "1.jpg").
    """
    inside = {}  # {top folder: the folders in it that hold images}
    for names in images:
        if len(names) > 1:
            inside.setdefault(names[0], set()).update(names[1:2] if len(names) > 2 else ())
    parts = {top: USUAL[part] for top in inside if (part := part_of(top))}
    others = set(inside) - set(parts)
    kinds, usual = set(parts.values()), {top for top in parts if top.lower() in USUAL}
    # "test" among "cat" and "dog" is a class, unless it alone holds folders, as a part does.
    if not any(inside[top] for top in usual) and not (len(kinds) > 1 and len(parts) > len(others)):
        return Layout(bool(inside) and usual == set(inside), _alike(inside))
    classes = set().union(*(inside[top] for top in parts))
    if others:
        why = f"beside others ({_names(others)})"
    elif len(kinds) < len(parts):
        why = "more than once for one part"
    elif not classes:
        why = "with no class folders in them"
    elif all(map(part_of, classes)) and len({USUAL[part_of(name)] for name in classes}) > 1:
        why = f"that hold folders named like parts again ({_names(classes)})"
    else:
        return Layout(True)
    return Layout(not others, _sentence(f"has folders named like parts ({_names(parts)}) {why}"))


def _alike(inside) -> str:
    """Why folders under other names may be parts: all hold the same folders, as parts do."""
    first = next(iter(inside.values()), set())
    named = any(word in top.lower() for top in inside for word in ("train", "test", "val"))
    if not named or len(inside) < 2 or len(first) < 2 or any(f != first for f in inside.values()):
        return ""
    return _sentence(
        f"has folders that look like parts ({_names(inside)}), as all hold the same ({_names(first)})"
    )


def _sentence(found: str) -> str:
    return (
        f"{found}; name parts train, validation and test, with a folder for each class in each and no "
        "other images beside them, or, if they are classes, give them other names"
    )


def _names(names) -> str:
    shown = ", ".join(map(repr, sorted(names)[:_SHOWN]))
    return shown + f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
