"""Folders of images on the host: do they exist, what is in them, have they changed."""

from __future__ import annotations

import json
import os
import stat
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from engine import roots
from engine.data.sources import tree
from engine.data.sources.tree import File, Tree
from engine.data.sources.zip_names import unseen
from engine.errors import DatasetError
from engine.host import words
from engine.host.words import shown
from engine.images.decode import EXTENSIONS

HEAD = 64
"""Bytes that recognise an image without a usual ending."""
OWN = "it is Graft's home, which pages may not read"
READ_ALREADY = "it is a link to a folder that is read already"


class Place(NamedTuple):
    """Where a file of a folder is: its path from the folder, and its modification time in ns."""

    path: str
    changed: int


def check(path: str | Path) -> None:
    """Raises DatasetError, one sentence, for a folder that does not exist or cannot be read, or
    that a page may not read (`engine.roots`)."""
    roots.check(path)
    try:
        folder = Path(path).expanduser()
    except RuntimeError:  # ~ of an unknown user
        folder = Path(path)
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, ValueError):  # ValueError: a path that no file can have
        raise DatasetError(
            f"there is no folder {shown(str(folder))} on this host; put it back or give another one"
        ) from None
    except NotADirectoryError:
        raise DatasetError(
            f"{folder} is a file; give a folder with one subfolder per class"
        ) from None
    except OSError as error:
        raise DatasetError(
            f"the folder {shown(str(folder))} cannot be read ({error.strerror}); change its "
            "permissions or give another one"
        ) from None


def root(path: str | Path) -> Path:
    """The absolute path that the names of `list_folder` are relative to. Raises DatasetError for
    one that a page may not read (`engine.roots`)."""
    roots.check(path)
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, ValueError):
        # ~ of an unknown user, or a path that no file can have: `check` reports it.
        return Path(os.path.abspath(str(path).replace("\0", "")))


def look(
    path: str | Path, layout: str = "auto", known: Collection[str] = (), loose: bool = False
) -> Tree:
    """The images of a folder, and what is left out; see `engine.data.sources.tree.arrange`.

    Raises:
        DatasetError: if it does not exist or cannot be read.
    """
    check(path)
    top = root(path)

    def head(file: File) -> bytes:
        with open(top / file.origin.path, "rb") as opened:
            return opened.read(HEAD)

    try:
        return tree.arrange(_walk(top), head, layout, known, loose)
    except OSError as error:
        raise DatasetError(
            f"the folder {shown(str(top))} changed while it was read ({error.strerror}); try again"
        ) from None


def list_folder(path: str | Path, layout: str = "auto", least_classes: int = 2) -> Tree:
    """The images of a folder of classes, or of parts and classes (`engine.data.sources.layout`).

    Args:
        path: the folder.
        layout: what its folders are, or "auto".
        least_classes: number of classes that must have images.

    Raises:
        DatasetError: if it cannot be read, parts and classes cannot be told apart, or fewer than
            `least_classes` classes have images.
    """
    found, top = look(path, layout), root(path)
    if found.layout.blocked:
        raise DatasetError(f"{shown(str(top))} {found.layout.question}")
    classes = found.classes
    if len(classes) < least_classes:
        raise DatasetError(f"{shown(str(top))} {too_few(found, least_classes)}")
    return found


def too_few(found: Tree, least: int) -> str:
    """Why a source has too few classes, to follow its name."""
    there = f"only {found.classes[0]!r} has images" if found.classes else "no folder has images"
    telling = next(
        ((why, names) for why, names in found.left_out.items() if why != tree.HIDDEN), None
    )
    more = ""
    if telling and not found.classes:
        more = f"; {words.plural(len(telling[1]), 'file')} left out, because {telling[0]}"
    return (
        f"needs at least {words.plural(least, 'folder')} of images, one per class ({there}{more}); "
        f"file names must end in {', '.join(EXTENSIONS[:8])} or similar"
    )


def _walk(top: Path) -> Iterator[File]:
    """All files below a folder. Links are followed where `engine.roots` allows it, each folder is
    visited once, and folders that are there without a link come first."""
    around = {_identity(os.stat(folder)) for folder in top.parents}
    seen = {_identity(os.stat(top))}
    limits = roots.recorded()
    own = limits and _identity(os.stat(limits["home"]))
    folders: list[tuple[str, ...]] = [()]
    links: list[tuple[str, ...]] = []
    while folders or links:
        if not folders:
            place = links.pop(0)
            why = _enter(top.joinpath(*place), seen, around)
            if why:
                yield _file((*place[:-1], f"{place[-1]}/"), os.path.join(*place), why)
                continue
            folders.append(place)
        place = folders.pop()
        try:
            with os.scandir(top.joinpath(*place)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not place:
                raise
            yield _closed(place, error)
            continue
        for entry in found:
            inside = (*place, entry.name)
            path = os.path.join(*inside)
            if entry.is_dir(follow_symlinks=False):
                try:
                    identity = _identity(entry.stat())
                except OSError as error:
                    yield _closed(inside, error)
                    continue
                if identity == own:
                    yield _file((*place, f"{entry.name}/"), path, OWN)
                elif tree.is_system(entry.name) or identity in seen:
                    yield _file((*place, f"{entry.name}/"), path, READ_ALREADY)
                else:
                    seen.add(identity)
                    folders.append(inside)
            elif entry.is_symlink() and not roots.allows(entry.path):
                yield _file(inside, path, roots.OUTSIDE)  # whether there is something or not
            elif entry.is_symlink() and os.path.isdir(entry.path):
                links.append(inside)
            else:
                yield _of_entry(entry, inside, path)


def _enter(path: Path, seen: set[tuple[int, int]], around: set[tuple[int, int]]) -> str:
    """Why a linked folder is not visited, or "" after adding it to the visited ones."""
    identity = _identity(os.stat(path))
    if identity in around:
        return "it is a link to a folder around this one"
    if identity in seen:
        return READ_ALREADY
    seen.add(identity)
    return ""


def _closed(place: tuple[str, ...], error: OSError) -> File:
    why = f"the folder cannot be opened ({error.strerror})"
    return _file((*place[:-1], f"{place[-1]}/"), os.path.join(*place), why)


def _of_entry(entry: os.DirEntry[str], inside: tuple[str, ...], path: str) -> File:
    try:
        status = entry.stat()
    except OSError as error:
        missing = entry.is_symlink()
        why = "it is a link to nothing" if missing else f"it cannot be read ({error.strerror})"
        return _file(inside, path, why)
    why = "" if stat.S_ISREG(status.st_mode) else "it is not a regular file"
    return _file(inside, path, why, status)


def _file(
    names: tuple[str, ...], path: str, why: str, status: os.stat_result | None = None
) -> File:
    size, changed = (status.st_size, status.st_mtime_ns) if status else (0, 0)
    return File(tuple(map(clean, names)), size, Place(path, changed), why)


def clean(name: str) -> str:
    """A file's name as people read it: UTF-8 whatever the locale, with bytes that are none replaced
    by their numbers, and letters with accents as one character each (Unicode's form NFC)."""
    text = os.fsencode(name).decode("utf-8", "surrogateescape")
    text = unicodedata.normalize("NFC", text)
    return "".join(f"\\u{ord(c):04x}" if unseen(c) else c for c in text)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def listing_hash(rows: Sequence[Sequence[object]]) -> str:
    """A hash of names, sizes and times: it changes when files are added, removed or rewritten."""
    return sha256(json.dumps(rows).encode()).hexdigest()


def listing(found: Tree) -> str:
    """`listing_hash` of a folder's images."""
    return listing_hash([[i.name, i.part, i.label, i.size, i.origin.changed] for i in found.images])
