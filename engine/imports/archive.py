"""Reads files of a foreign run folder, or of a zip of one, within limits. Light.

Links are not followed, names cannot lead outside, and no more bytes are read than allowed, whatever
size a file declares.
"""

from __future__ import annotations

import errno
import os
import stat
import zipfile
from pathlib import Path
from typing import IO, TypeAlias

from engine import home as homes
from engine.data.sources import zip_names
from engine.errors import RunError
from engine.host.words import shown
from engine.runs import files

MAX_MODEL = 2_500_000_000
"""Bytes of final.keras: 500 million weights of four bytes, with a reserve."""
MAX_MEMBERS = 5_000
"""Files in a zip of a run."""
_BLOCK = 1 << 20


class Folder:
    """The files of a folder, opened without following links."""

    def __init__(self, path: Path):
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Closes the folder; nothing can be read afterwards."""
        os.close(self._root)

    def open(self, name: str, most: int) -> IO[bytes] | None:
        """An open binary file, or None if there is no file of this name.

        Args:
            name: such as "recipe.yaml" or "examples/000.png".
            most: maximum size in bytes.

        Raises:
            RunError: if it is a link, not an ordinary file, or too large.
        """
        parent, *rest = name.split("/")
        held = self._root
        try:
            if rest:
                held = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=held)
            try:
                # Without O_NONBLOCK, a named pipe would block until somebody writes to it.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                found = os.open(rest[0] if rest else parent, flags, dir_fd=held)
            finally:
                if rest:
                    os.close(held)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise RunError(f"its {name} is a link, and Graft does not follow links") from None
            raise RunError(f"its {name} cannot be read ({error.strerror})") from None
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            os.close(found)
            raise RunError(f"its {name} is not an ordinary file")
        if status.st_size > most:
            os.close(found)
            raise _too_large(name, status.st_size, most)
        return os.fdopen(found, "rb")


class Zip:
    """The files of a zip, whose files may all be in one top folder.

    Args:
        opened: the zip. The caller closes it.

    Raises:
        RunError: if it has too many members, or one that must not be used.
    """

    def __init__(self, opened: zipfile.ZipFile):
        self._zip = opened
        self._files: dict[tuple[str, ...], zipfile.ZipInfo] = {}
        members = opened.infolist()
        if len(members) > MAX_MEMBERS:
            raise RunError(
                f"it contains {len(members):,} files; a run has fewer than {MAX_MEMBERS:,}"
            )
        for info in members:
            parts = check_member(info)
            if not info.filename.endswith("/"):
                if parts in self._files:
                    raise RunError(f"it contains {shown(info.filename)} twice")
                self._files[parts] = info
        tops = {parts[0] for parts in self._files}
        self._above = tuple(tops) if (files.RECIPE,) not in self._files and len(tops) == 1 else ()

    def open(self, name: str, most: int) -> IO[bytes] | None:
        """Like `Folder.open`."""
        info = self._files.get((*self._above, *name.split("/")))
        if info is None:
            return None
        if info.file_size > most:
            raise _too_large(name, info.file_size, most)
        return open_member(self._zip, info, name)


Source: TypeAlias = Folder | Zip
"""Where a run's files are read from."""


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> IO[bytes]:
    """Opens a member of a zip. Raises RunError if the member's own header disagrees."""
    try:
        return archive.open(info)
    except Exception as error:  # BadZipFile, NotImplementedError, OverflowError …
        raise _damaged(name, error) from None


def check_member(info: zipfile.ZipInfo) -> tuple[str, ...]:
    """The parts of a member's name. Raises RunError for a member that must not be used."""
    name = zip_names.name_of(info)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not parts or len(name) > zip_names.MAX_NAME or not name.isprintable():
        raise RunError("one of its files has no name, or a name that cannot be displayed")
    if name.startswith("/") or "\\" in name or ":" in parts[0] or ".." in parts:
        raise RunError(f"the name of its file {shown(name)} leads outside the zip")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RunError(f"its {shown(name)} is a link or not an ordinary file")
    if info.flag_bits & 1:
        raise RunError("it is protected by a password; give a zip without one")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RunError(f"its {shown(name)} is compressed by another method than deflate")
    return parts


def read(source: Source, name: str, most: int) -> bytes | None:
    """The bytes of a file, at most `most`; None if there is no such file. Raises RunError."""
    file = source.open(name, most)
    if file is None:
        return None
    with file:
        return read_all(file, name, most)


def read_all(file: IO[bytes], name: str, most: int) -> bytes:
    """The rest of an open file. Raises RunError if it is longer than `most` bytes."""
    content = _block(file, name, most + 1)
    if len(content) > most:
        raise _too_large(name, len(content), most)
    return content


def copy(source: Source, name: str, target: Path, most: int) -> bool:
    """Copies a file; returns False if there is no such file. Raises RunError."""
    file = source.open(name, most)
    if file is None:
        return False
    with file, open(target, "wb") as kept:
        copy_all(file, kept, name, most)
    return True


def copy_all(file: IO[bytes], kept: IO[bytes], name: str, most: int) -> None:
    """Copies the rest of an open file. Raises RunError if it is longer than `most` bytes."""
    while block := _block(file, name, _BLOCK):
        kept.write(block)
        if kept.tell() > most:
            raise _too_large(name, kept.tell(), most)


def _block(file, name, count) -> bytes:
    try:
        return file.read(count)
    except Exception as error:  # zlib.error, BadZipFile, EOFError, OSError …
        raise _damaged(name, error) from None


def _damaged(name, error) -> RunError:
    return RunError(f"its {name} is damaged ({shown(str(error))[:60]})")


def _too_large(name, size, most) -> RunError:
    return RunError(
        f"its {name} has {homes.size_text(size)}; Graft accepts at most {homes.size_text(most)}"
    )
