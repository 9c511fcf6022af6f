"""What the folders of a source mean: parts (train, validation, test), classes, or neither.

Folders and zips follow one rule (docs/datasets.md). It looks at the names of folders and at which
folders repeat inside others: parts contain the same classes. If names and folders contradict each
other, preparing stops with a question, since nobody wants a classifier of "train" and "test".
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from engine.data.splits import OWN_NAMES
from engine.host import words

Kind = Literal["class", "part/class", "class/part"]

USUAL = {name: part for part, names in OWN_NAMES.items() for name in names}
"""{a usual name of a part, lower case: the part}."""
_MORE = {"evaluation": "validation", "holdout": "test", "unseen": "test"}
_WORD = re.compile(
    r"(train|training|test|testing|val|valid|dev|eval|validation)"
    r"(?:set|sets|data|dataset|images|split)?"
)
_SHOWN = 4


@dataclass(frozen=True)
class Layout:
    """The meaning of a source's folders.

    Attributes:
        kind: what the folders are, from the top: classes, parts of classes, or classes of parts.
        parts: {a part's folder as it is named: the source's own part}, for the last two kinds.
        inner: {a part's folder: folders below it that are neither part nor class}.
        question: what may be meant instead and what to do, to follow the source's name; "" if the
            folders are clear.
        blocked: whether the question must be answered before the source can be used.
    """

    kind: Kind = "class"
    parts: dict[str, str] = field(default_factory=dict)
    inner: dict[str, int] = field(default_factory=dict)
    question: str = ""
    blocked: bool = False

    def place(self, names: Sequence[str], own: str) -> tuple[str, str] | None:
        """(class, own part) of an image; None if it is in no class folder.

        Args:
            names: of its folders and its own, from the top: ("train", "cat", "1.jpg").
            own: part of a source that has no parts.
        """
        if self.kind == "class":
            return (names[0], own) if len(names) > 1 else None
        if self.kind == "class/part":
            known = len(names) > 2 and names[1] in self.parts
            return (names[0], self.parts[names[1]]) if known else None
        if names[0] not in self.parts:
            return None
        below = names[1 + self.inner.get(names[0], 0) :]
        return (below[0], self.parts[names[0]]) if len(below) > 1 else None


def part_of(name: str) -> str | None:
    """The part that a folder's name stands for: "Val" gives "val", "seg_train" gives "train".

    None if its words (split at everything but letters, and before a capital that follows a small
    letter) name no part, or several parts.
    """
    if name.lower() in USUAL:
        return name.lower()
    found = _parts_in(name)
    return found.pop() if len(found) == 1 else None


def _parts_in(name: str) -> set[str]:
    """The parts that the words of a name stand for."""
    found = set()
    for word in re.split(r"[\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()):
        match = _WORD.fullmatch(word)
        word = match[1] if match else word
        found |= {part for part in (USUAL.get(word), _MORE.get(word)) if part}
    return found


def look(
    images: Iterable[Sequence[str]], choice: str = "auto", known: Collection[str] = ()
) -> Layout:
    """What the top folders are, by the places of the images.

    Args:
        images: for each image the names of its folders and its own, from the top of the source.
        choice: a `Kind` that a person chose, or "auto".
        known: classes of a finished run, if the images are to be compared with them: folders of
            these names are classes.
    """
    places = [tuple(names[:-1]) for names in images if len(names) > 1]
    tops = dict.fromkeys(place[0] for place in sorted(places))
    named = {top: part for top in tops if (part := part_of(top))}
    if choice == "class":
        return Layout()
    if choice == "class/part":
        seconds = dict.fromkeys(place[1] for place in sorted(places) if len(place) > 1)
        return Layout("class/part", {name: part_of(name) or name for name in seconds})
    inner = _inner(places, named if choice == "auto" else tops)
    inside = _inside(places, inner)
    if choice == "part/class":
        return Layout("part/class", {top: named.get(top, top) for top in tops}, inner)
    if known:
        for skipped in ({}, _inner(places, tops) | inner):
            if found := _by_known(_inside(places, skipped), named, skipped, known):
                return found
    return _found(places, inside, named, inner)


def _found(
    places: list[tuple[str, ...]],
    inside: dict[str, set[str]],
    named: dict[str, str],
    inner: dict[str, int],
) -> Layout:
    """`look` without a choice."""
    kinds = {USUAL[part] for part in named.values()}
    others = set(inside) - set(named)
    usual = any(inside[top] for top in named if top.lower() in USUAL)
    alike = _alike(inside)
    seconds: set[str] = set().union(*inside.values())
    second_parts = {USUAL[part] for name in seconds if (part := part_of(name))}
    divided = {"train"} < second_parts and all(map(part_of, seconds))
    if divided and not named and all(inside.values()):
        return Layout("class/part", {name: part_of(name) or name for name in seconds})
    if not named or not (usual or alike or (len(kinds) > 1 and len(named) > len(others))):
        if set(named) == set(inside) and inside and all(top.lower() in USUAL for top in inside):
            return _stop(f"has folders named like parts ({_names(named)}) without class folders")
        if doubt := _divided_inside(inside) or _copies_inside(inside):
            return Layout(question=doubt, blocked=True)
        same = alike or _alike(_inside(places, _inner(places, inside)))
        question = same and (
            f"has {words.plural(len(inside), 'folder')} that all contain the same folders "
            f"({_names(same)}); the outer ones are taken for the classes. If the inner ones are "
            "the classes, choose the layout part/class (groups, with a folder per class in each)"
        )
        return Layout(question=question or "")
    unknown = _unknown(places, inside, named, inner)
    doubtful = unknown and (
        f"has only {_names(set().union(*(inside[top] for top in unknown)))} in "
        f"{_names(unknown)}, and no such folder in its train part, so it is not taken for a class; "
        "if it is one, choose the layout part/class"
    )
    inner = inner | unknown
    inside = _inside(places, inner)
    classes: set[str] = set().union(*(inside[top] for top in named))
    extra = {top for top in others if inside[top] & classes}
    unclear = ""
    if not classes:
        unclear = "without class folders in them"
    elif divided:
        unclear = f"whose folders are named like parts again ({_names(classes)})"
    elif unsure := {top for top in others if _parts_in(top) or top in classes}:
        unclear = f"beside other folders ({_names(unsure)})"
    elif len(kinds) == 1 and others - extra:
        unclear = f"beside other folders ({_names(others - extra)})"
    if unclear:
        return _stop(f"has folders named like parts ({_names(named)}) {unclear}")
    parts = named | {top: top for top in sorted(extra)}
    return Layout("part/class", parts, inner, doubtful or "")


def _divided_inside(inside: dict[str, set[str]]) -> str:
    """The question where train and test are inside some of the folders, beside others: whether
    the folders are classes decides if test images are trained on."""
    parts = {
        top: {name: USUAL[part] for name in names if (part := part_of(name))}
        for top, names in inside.items()
    }
    divided = [top for top, found in parts.items() if {"train"} < set(found.values())]
    if not divided:
        return ""
    named = _names(set().union(*(parts[top] for top in divided)))
    return (
        f"has folders named like parts ({named}) in {_names(divided)}; if the outer folders are "
        "the classes, choose the layout class/part, or class to divide all images again; if not, "
        "use the folder that holds the parts"
    )


def _copies_inside(inside: dict[str, set[str]]) -> str:
    """The question where a folder contains others that are beside it: "rose", "tulip" and
    "flowers/rose", "flowers/tulip"."""
    for top, names in sorted(inside.items()):
        again = names & inside.keys() - {top}
        if len(again) > 1:
            return (
                f"has {top!r}, with folders in it that are also beside it ({_names(again)}); move "
                f"{top!r} elsewhere if it is a copy, or choose the layout class if it is a class"
            )
    return ""


def _unknown(
    places: list[tuple[str, ...]],
    inside: dict[str, set[str]],
    named: dict[str, str],
    inner: dict[str, int],
) -> dict[str, int]:
    """`_inner` of the parts whose only folder is no class of the train part: the "images" of
    "test/images/1.jpg", where nobody knows the classes."""
    keys = {top: set(map(key, found)) for top, found in inside.items()}
    trained = set().union(*(keys[top] for top, part in named.items() if USUAL[part] == "train"))
    found = {
        top: inner.get(top, 0) + 1
        for top in named
        if len(trained) > 1 and len(keys[top]) == 1 and not keys[top] & trained
    }
    deeper = _inside(places, inner | found)
    return {top: n for top, n in found.items() if set(map(key, deeper[top])) <= trained}


def _by_known(
    inside: dict[str, set[str]], named: dict[str, str], inner: dict[str, int], known: Collection
) -> Layout | None:
    """The layout that puts folders of known names where classes are; None if no folder has one."""
    wanted = {spelling(name) for name in known}
    outer = sum(spelling(top) in wanted for top in inside)
    deeper = {top: sum(spelling(name) in wanted for name in inside[top]) for top in inside}
    if not outer and not any(deeper.values()):
        return None
    if outer >= max(deeper.values()):
        return Layout()
    return Layout("part/class", {top: named.get(top, top) for top in inside if deeper[top]}, inner)


def key(name: str) -> str:
    """What names that mean one class have in common: "Cat" and "cat"."""
    return name.casefold()


def spelling(name: str) -> str:
    """What names have in common that differ in case, Unicode form, or signs between words."""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(re.sub(r"[\s_-]+", " ", text).split()) or text


def _inner(places: list[tuple[str, ...]], tops: Iterable[str]) -> dict[str, int]:
    """{top folder: 1} where the classes are one folder deeper: "train/images/cat", or
    "seg_train/seg_train/cat"."""
    seconds: dict[str, Counter[str]] = {top: Counter() for top in tops}
    deeper: Counter[str] = Counter()
    for place in places:
        if place[0] in seconds and len(place) > 1:
            seconds[place[0]][place[1]] += 1
            deeper[place[0]] += len(place) > 2
    single = {top: next(iter(found)) for top, found in seconds.items() if len(found) == 1}
    shared = len(single) == len(seconds) > 1 and len(set(single.values())) == 1
    return {
        top: 1
        for top, name in single.items()
        if deeper[top] == seconds[top].total()
        and (shared or (part_of(name) and _parts_in(name) == _parts_in(top)))
    }


def _inside(places: list[tuple[str, ...]], inner: dict[str, int]) -> dict[str, set[str]]:
    """{top folder: the folders in it that contain images}."""
    found: dict[str, set[str]] = {}
    for place in places:
        depth = 1 + inner.get(place[0], 0)
        found.setdefault(place[0], set()).update(place[depth : depth + 1])
    return found


def _alike(inside: dict[str, set[str]]) -> set[str]:
    """The folders that most top folders contain alike; empty if they differ."""
    common: set[str] = set.intersection(*inside.values()) if len(inside) > 1 else set()
    every: set[str] = set().union(*inside.values())
    return common if len(common) > 1 and 2 * len(common) > len(every) else set()


def _stop(found: str) -> Layout:
    return Layout(
        question=f"{found}; if they are parts, name them train, validation and test, with a folder "
        "per class in each and no other images beside them, or choose the layout part/class; if "
        "they are classes, choose the layout class",
        blocked=True,
    )


def _names(names: Iterable[str]) -> str:
    every = sorted(names)
    shown = ", ".join(map(repr, every[:_SHOWN]))
    return shown + f" and {len(every) - _SHOWN} more" * (len(every) > _SHOWN)
