"""Which class of a run a folder of images counts as, when answers are compared with folders. Light.

A name that differs only in case, Unicode form, or underscores and hyphens for spaces is the same
class, and Graft says so. For a similar name (rose for roses), the class is offered, and a person
decides.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engine.data.sources.layout import spelling
from engine.errors import DatasetError
from engine.host.words import listed, plural, same, shown

ALIKE = 0.75
"""Least similarity of names that are offered, 0 to 1 (`difflib.SequenceMatcher.ratio`)."""
OFFERED = 10
"""Folders that `sentences` names one by one with the class that is offered."""


@dataclass(frozen=True)
class Folder:
    """A folder whose images have answers.

    Attributes:
        name: of the folder.
        images: in it, also those that could not be read.
        label: the class it counts as, "" for none.
        how: "name" or "spelling" if the names are the same, "choice" if a person decided, or "".
        near: a class with a similar name, if how is "" and there is one.
    """

    name: str
    images: int
    label: str
    how: str
    near: str = ""


def match(
    counts: Mapping[str, int], classes: Sequence[str], chosen: Mapping[str, str] | None = None
) -> list[Folder]:
    """Finds the class of each folder.

    Args:
        counts: {name of a folder: images}.
        classes: of the run.
        chosen: {name of a folder: class, or "" for none}, which a person decided.

    Returns:
        Folders sorted by name. If several classes have the same spelling, only the exact name
        counts.
    """
    every, spellings = tuple(classes), dict[str, list[str]]()
    for label in every:
        spellings.setdefault(spelling(label), []).append(label)
    found = []
    for name, images in sorted(counts.items()):
        same = spellings.get(spelling(name), [])
        if name in (chosen or {}):
            found.append(Folder(name, images, (chosen or {})[name], "choice"))
        elif name in every:
            found.append(Folder(name, images, name, "name"))
        elif len(same) == 1:
            found.append(Folder(name, images, same[0], "spelling"))
        else:
            found.append(Folder(name, images, "", "", same[0] if same else near(name, every)))
    return found


@lru_cache(maxsize=4096)
def near(name: str, classes: tuple[str, ...]) -> str:
    """The class with the most similar name, "" for none.

    Singular and plural come first. Names with different numbers ("class 1", "class 12") are never
    similar.
    """
    wanted = spelling(name)
    spellings, singulars, letters = _indexed(classes)
    for single in sorted(_singulars(wanted), key=len, reverse=True):
        if single in singulars:
            return singulars[single]
    # No more letters can match than both have: cheap, and it leaves few names to compare.
    most = 2 * np.minimum(letters, _letters(wanted)).sum(axis=1)
    lengths = letters.sum(axis=1) + len(wanted)
    alike = {
        spellings[i]: classes[i]
        for i in np.flatnonzero(most >= ALIKE * lengths).tolist()
        if _numbers(spellings[i]) == _numbers(wanted)
    }
    best = difflib.get_close_matches(wanted, alike, 1, ALIKE)
    return alike[best[0]] if best else ""


@lru_cache(maxsize=4)
def _indexed(classes: tuple[str, ...]) -> tuple[list[str], dict[str, str], np.ndarray]:
    """(spellings, {what a class may be the plural of: class}, `_letters` of each spelling)."""
    spellings, singulars = [spelling(label) for label in classes], dict[str, str]()
    for label, spelt in zip(classes, spellings, strict=True):
        for single in _singulars(spelt):
            singulars.setdefault(single, label)
    return spellings, singulars, np.array([_letters(spelling) for spelling in spellings])


def _letters(spelling: str) -> np.ndarray:
    """How often each letter occurs, int array (64,); different letters may share a place."""
    return np.bincount([ord(letter) % 64 for letter in spelling], minlength=64)


def _numbers(spelling: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", spelling))


def _singulars(spelling: str) -> set[str]:
    """A name, and what it may be the English plural of."""
    endings = (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"))
    return {spelling} | {
        spelling.removesuffix(end) + single for end, single in endings if spelling.endswith(end)
    }


def chosen(texts: Iterable[str], folders: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """{folder: class} of texts like "rose=roses"; names may contain equals signs.

    Raises:
        DatasetError: for a text that names no such folder or class, or that has two meanings.
    """
    there, found = set(folders), {}
    for text in texts:
        ways = [(text[:i], text[i + 1 :]) for i, sign in enumerate(text) if sign == "="]
        meant = [
            (folder, label)
            for left, right in ways
            if (folder := same(left, there)) and (label := same(right, classes))
        ]
        if len(meant) != 1:
            raise DatasetError(f"{shown(text)!r} {_unclear(ways, meant, there, classes)}")
        found[meant[0][0]] = meant[0][1]
    return found


def _unclear(
    ways: Sequence[tuple[str, str]],
    meant: Sequence[tuple[str, str]],
    there: set[str],
    classes: Sequence[str],
) -> str:
    """Why a text of `chosen` cannot be used."""
    if meant:
        both = " or ".join(f"{shown(f)!r} as {shown(label)!r}" for f, label in meant)
        return f"can mean {both}; rename the folder"
    if not ways:
        return "does not name a folder and a class; write FOLDER=CLASS, such as rose=roses"
    if any(same(folder, there) for folder, _ in ways):
        return f"does not end with a class of this run; its classes are {listed(classes)}"
    return (
        f"does not start with a folder of the images; there are {listed(sorted(there)) or 'none'}"
    )


def sentences(folders: Sequence[Folder]) -> list[str]:
    """What a person should know of the folders; nothing of those with equal names.

    Returns:
        Sentences: folders that are offered first, then those without a class, then those that count
        as a class of another name.
    """
    offered = [folder for folder in folders if folder.near][:OFFERED]
    others = [folder for folder in folders if not folder.how and folder not in offered]
    found = [
        f"{shown(f.name)}: did you mean {shown(f.near)}? {_not_counted(f.images)}" for f in offered
    ]
    if others:
        found.append(
            f"{listed([f.name for f in others])}: no class of this run has such a name. "
            + _not_counted(sum(f.images for f in others))
        )
    for how, why in (("spelling", "only the spelling differs"), ("choice", "your choice")):
        counted = [
            f"{f.name} {f'counts as {f.label}' if f.label else 'is not counted'}"
            for f in folders
            if f.how == how
        ]
        if counted:
            found.append(f"{listed(counted)} ({why}).")
    return found


def _not_counted(images: int) -> str:
    return f"{plural(images, 'image')} {'was' if images == 1 else 'were'} not counted."
