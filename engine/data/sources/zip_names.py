"""The names in a zip: which members are images, of which class, and which are unsafe.

Nothing is unpacked to disk (`engine.data.sources.archive`), so a name is never a path on this host.
It is checked because people read it.
"""

from __future__ import annotations

import re
import stat
import unicodedata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

from engine.data.sources import layout
from engine.host import words
from engine.host.words import shown
from engine.images.decode import EXTENSIONS, MAX_BYTES

MAX_NAME = 255
"""Characters of a member's name: an array of names is as wide as the longest of them."""
NAMED = 50
"""Skipped members that are listed by name for each reason; the others are counted."""

# Python unpacks only these piece by piece; 4 kB of bzip2 can become gigabytes at once.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PACKED = ("zip", "rar", "7z", "tar", "gz", "tgz", "bz2", "xz")
# They change the direction of text, so that a name looks like another one.
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

HIDDEN = "it is a hidden file or a system file"
NO_CLASS = "it is not in a class folder"


@dataclass(frozen=True)
class Entry:
    """One image of a zip.

    Attributes:
        name: for people, without the folders that all images share: "red/00.jpg".
        label: its class.
        part: the zip's own part, "train" if it has none.
        size: bytes, as declared in the zip.
        info: the zip's record of it.
    """

    name: str
    label: str
    part: str
    size: int
    info: zipfile.ZipInfo


def name_of(info: zipfile.ZipInfo) -> str:
    """A member's name as it was written: many programs write UTF-8 without declaring it."""
    name = info.orig_filename
    if not info.flag_bits & 0x800 and not name.isascii():
        try:
            return name.encode("cp437").decode("utf-8")
        except UnicodeError:
            return name  # it really is in the old encoding
    return name


def refused(info: zipfile.ZipInfo, name: str, parts: Sequence[str]) -> str | None:
    """Why a member is not used; None for a file that may be an image."""
    if len(name) > MAX_NAME or not parts:
        return f"its name is longer than {MAX_NAME} characters" if parts else "it has no name"
    if not name.isprintable() and any(_unseen(c) for c in name):
        return "its name has characters that cannot be seen or that reverse the text"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "its name starts at the root of a disk"
    if "\\" in name:
        return "its name has a backslash, but zip files use /"
    if ".." in parts:
        return "its name leads out of the zip's folder"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "it is a link, not a file"
    if kind not in (0, stat.S_IFREG):
        return "it is not a regular file"
    if parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts):
        return HIDDEN
    extension = parts[-1].rsplit(".", 1)[-1].lower() if "." in parts[-1] else ""
    if extension in _PACKED:
        return "it is packed itself; unpack it and pack the images"
    if extension not in EXTENSIONS:
        return "it is not an image by its name"
    if info.compress_type not in _METHODS:
        return "its compression is not deflate, the only one that Graft reads"
    if info.file_size > MAX_BYTES:
        return f"it is larger than {MAX_BYTES // 10**6} MB"
    return None


def _unseen(c: str) -> bool:
    """Whether a character is a control or reverses text; a space of any width is neither."""
    return c in _TURNING or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")


def classes(
    images: Sequence[tuple[list[str], zipfile.ZipInfo]],
    skipped: dict[str, list[str]],
    loose: bool = False,
) -> tuple[list[Entry], str]:
    """Assigns images to classes by their folders.

    Args:
        images: (parts of the name, the zip's record) of each.
        skipped: receives the names of images outside class folders.
        loose: give these the class "" instead.

    Returns:
        (entries sorted by name, `Layout.unclear`).
    """
    depth, own = _shared([parts for parts, _ in images])
    in_parts, unclear = layout.look(parts[depth:] for parts, _ in images)
    entries = []
    for parts, info in images:
        below = parts[depth:]
        if len(below) < 2 + in_parts and loose:
            entries.append(Entry("/".join(below), "", own, info.file_size, info))
            continue
        if len(below) < 2 + in_parts:
            skipped.setdefault(NO_CLASS, []).append("/".join(parts))
            continue
        part = in_parts and layout.part_of(below[0]) or own
        entries.append(Entry("/".join(below), below[in_parts], part, info.file_size, info))
    return sorted(entries, key=lambda entry: entry.name), unclear


def _shared(names: Sequence[list[str]]) -> tuple[int, str]:
    """How many folders all images share, if one is left above most files; and the part that the
    last of them is named after, "train" for none."""
    depth, own = 0, "train"
    while True:
        below = [parts for parts in names if len(parts) > depth + 1]
        tops = {parts[depth] for parts in below}
        deeper = sum(len(parts) > depth + 2 for parts in below)
        if len(tops) != 1 or 2 * deeper <= len(below):
            return depth, own
        top = next(iter(tops)).lower()
        own = top if top in layout.USUAL else own
        depth += 1


def told(skipped: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Skipped files for people: the first names of each reason, and a count of the others."""
    rows = []
    for reason, names in skipped.items():
        if reason == HIDDEN:
            rows.append((words.plural(len(names), "file"), reason))
            continue
        rows += [(shown(name), reason) for name in names[:NAMED]]
        if len(names) > NAMED:
            rows.append((f"and {len(names) - NAMED:,} more", reason))
    return rows
