"""Files of a run folder from elsewhere, or of a zip of one, within bounds; light.

No link is followed, no name leads anywhere, and nothing is longer than it may be, whatever it declares.
"""

import errno
import os
import stat
import zipfile
from pathlib import Path

from engine import home as homes
from engine.data.sources import zip_names
from engine.data.sources.zip_names import shown
from engine.errors import RunError

MAX_MODEL = 2_500_000_000
"""Bytes of final.keras: 500 million weights of four bytes, and room to spare."""
MAX_MEMBERS = 5_000
"""Files in a zip of a run."""
_BLOCK = 1 << 20


class Folder:
    """The files of a folder, opened without following links."""

    def __init__(self, path):
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self):
        """Nothing can be read afterwards."""
        os.close(self._root)

    def open(self, name: str, most: int):
        """An open binary file, or None if there is none of this name.

        Args:
            name: such as "recipe.yaml" or "examples/000.png".
            most: bytes that it may have.

        Raises:
            RunError: if it is a link, no ordinary file, or too large.
        """
        parent, *rest = name.split("/")
        held = self._root
        try:
            if rest:
                held = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=held)
            try:
                # Without O_NONBLOCK a pipe would keep this process waiting for its writer.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                found = os.open(rest[0] if rest else parent, flags, dir_fd=held)
            finally:
                if rest:
                    os.close(held)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise RunError(f"{name} in it is a link, and links are not followed") from None
            raise RunError(f"{name} in it cannot be read ({error.strerror})") from None
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            os.close(found)
            raise RunError(f"{name} in it is not an ordinary file")
        if status.st_size > most:
            os.close(found)
            raise RunError(_too_large(name, status.st_size, most))
        return os.fdopen(found, "rb")


class Zip:
    """The files of a zip, in one folder at most; none is ever written under the name it has there."""

    def __init__(self, opened: zipfile.ZipFile):
        self._zip, self._files, tops = opened, {}, set()
        members = opened.infolist()
        if len(members) > MAX_MEMBERS:
            raise RunError(
                f"it holds {len(members):,} files, and a run has fewer than {MAX_MEMBERS:,}"
            )
        for info in members:
            parts = check_member(info)
            if not info.filename.endswith("/"):
                if parts in self._files:
                    raise RunError(f"it holds {shown(info.filename)} twice")
                self._files[parts] = info
                tops.add(parts[0])
        self._above = tuple(tops) if ("recipe.yaml",) not in self._files and len(tops) == 1 else ()

    def close(self):
        """The zip belongs to the caller."""

    def open(self, name: str, most: int):
        """As `Folder.open`."""
        info = self._files.get((*self._above, *name.split("/")))
        if info is None:
            return None
        if info.file_size > most:
            raise RunError(_too_large(name, info.file_size, most))
        return open_member(self._zip, info, name)


def open_member(archive, info, name: str):
    """A member of a zip, open for reading. Raises RunError if its own header says something else."""
    try:
        return archive.open(info)
    except Exception as error:  # BadZipFile, NotImplementedError, OverflowError …
        raise RunError(f"{name} in it is damaged ({shown(str(error))[:60]})") from None


def check_member(info: zipfile.ZipInfo) -> tuple[str, ...]:
    """The parts of a member's name. Raises RunError if it must not be used."""
    name = zip_names.name_of(info)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not parts or len(name) > zip_names.MAX_NAME or not name.isprintable():
        raise RunError("a file in it has no name, or one that cannot be read")
    if name.startswith("/") or "\\" in name or ":" in parts[0] or ".." in parts:
        raise RunError(f"the name of {shown(name)} in it leads to another place")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RunError(f"{shown(name)} in it is a link or no ordinary file")
    if info.flag_bits & 1:
        raise RunError("it is protected by a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RunError(f"{shown(name)} in it is packed in another way than deflate")
    return parts


def _too_large(name, size, most) -> str:
    return (
        f"{name} in it has {homes.size_text(size)}, and at most {homes.size_text(most)} makes sense"
    )


def read(source, name: str, most: int) -> bytes | None:
    """The bytes of a file, never more than `most`; None if there is none. Raises RunError."""
    file = source.open(name, most)
    if file is None:
        return None
    with file:
        return read_all(file, name, most)


def read_all(file, name: str, most: int) -> bytes:
    """The rest of an open file, never more than `most` bytes, whatever size it declares."""
    try:
        content = file.read(most + 1)
    except Exception as error:  # zlib.error, BadZipFile, EOFError, OSError …
        raise RunError(f"{name} in it is damaged ({shown(str(error))[:60]})") from None
    if len(content) > most:
        raise RunError(_too_large(name, len(content), most))
    return content


def copy(source, name: str, target: Path, most: int) -> bool:
    """Copies a file to a path of ours; False if there is none. Raises RunError."""
    file = source.open(name, most)
    if file is None:
        return False
    with file, open(target, "wb") as kept:
        copy_all(file, kept, name, most)
    return True


def copy_all(file, kept, name: str, most: int) -> None:
    """Copies the rest of an open file, never more than `most` bytes, whatever size it declares."""
    while True:
        try:
            block = file.read(_BLOCK)
        except Exception as error:  # as in `read_all`
            raise RunError(f"{name} in it is damaged ({shown(str(error))[:60]})") from None
        if not block:
            return
        kept.write(block)
        if kept.tell() > most:
            raise RunError(_too_large(name, kept.tell(), most))
