"""The names in a zip: how they are spelt, which members may be read, and which are unsafe.

Nothing is unpacked to disk (`engine.data.sources.archive`), so a name is never a path on this host.
It is checked because people read it.
"""

from __future__ import annotations

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence

from engine.data.sources import code_pages

MAX_NAME = 255
"""Characters of a member's name: an array of names is as wide as the longest of them."""

# Python unpacks only these piece by piece; 4 kB of bzip2 can become gigabytes at once.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# They change the direction of text, so that a name looks like another one.
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNICODE_PATH = 0x7075

METHOD = (
    "its compression is not deflate, the only one that Graft reads; pack the images again as an "
    "ordinary zip, or unpack it and use the folder"
)


def encoding_of(members: Iterable[zipfile.ZipInfo]) -> str:
    """The encoding of names that do not say theirs: "utf-8", or a guessed code page.

    Many programs write UTF-8 without declaring it, and Windows writes its own code page.
    """
    undeclared = {
        raw for info in members if _declared(info) is None and not (raw := _raw(info)).isascii()
    }
    return code_pages.guess(undeclared) if undeclared else "utf-8"


def name_of(info: zipfile.ZipInfo, encoding: str = "utf-8") -> str:
    """A member's name as it was written, in Unicode's form NFC.

    Args:
        info: the zip's record of it.
        encoding: of `encoding_of`, for names that do not say theirs.
    """
    name = _declared(info)
    if name is None:
        try:
            name = _raw(info).decode(encoding)
        except UnicodeError:
            name = info.orig_filename  # the old encoding of zip files, cp437
    return unicodedata.normalize("NFC", name)


def _declared(info: zipfile.ZipInfo) -> str | None:
    """The name, if the zip says how it is spelt: in UTF-8, or in Info-ZIP's Unicode path field
    (PKWARE APPNOTE 4.6.9), which counts only while the older name is unchanged."""
    if info.flag_bits & 0x800:
        return info.orig_filename
    extra = info.extra
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        value = extra[4 : 4 + length]
        if kind == _UNICODE_PATH and len(value) > 5:
            version, checksum = struct.unpack("<BL", value[:5])
            if version == 1 and checksum == zlib.crc32(_raw(info)):
                return value[5:].decode("utf-8", "replace")
        extra = extra[4 + length :]
    return None


def _raw(info: zipfile.ZipInfo) -> bytes:
    """The bytes of a name; zipfile reads names that are not declared as UTF-8 as cp437."""
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")


def refused(info: zipfile.ZipInfo, name: str, parts: Sequence[str]) -> str:
    """Why a member cannot be read or is unsafe; "" if it may be read."""
    if len(name) > MAX_NAME or not parts:
        return f"its name is longer than {MAX_NAME} characters" if parts else "it has no name"
    if not name.isprintable() and any(unseen(c) for c in name):
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
    return METHOD if info.compress_type not in _METHODS else ""


def unseen(c: str) -> bool:
    """Whether a character is a control or reverses text; a space of any width is neither."""
    return c in _TURNING or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
