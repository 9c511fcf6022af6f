"""Zip files of class folders, read without unpacking them.

A zip file can be made to do harm: names that lead out of the folder, links, wrong sizes, a few
kilobytes that unpack to gigabytes. Graft never unpacks one to disk. It reads members one by one
into memory, within limits, and writes their bytes into its own `images.bin`. So no name in a zip is
ever used as a path on this host; names are checked anyway, because people read them.
"""

from __future__ import annotations

import copy
import io
import os
import shutil
import zipfile
from collections.abc import Collection
from pathlib import Path

from engine.data.sources import folders, tree, zip_names
from engine.data.sources.tree import File, Image
from engine.errors import DatasetError, ImageError
from engine.home import size_text
from engine.host.words import shown

MAX_MEMBERS = 200_000
"""Files and folders in a zip. Their list is in memory: 200,000 took 270 MB and 4 s to read."""
MAX_DIRECTORY = 40_000_000
"""Bytes of the list of members, checked before it is read: 200 for each of `MAX_MEMBERS`. An entry
takes 46 bytes and its name: 96 with "photos/class_1/a rather usual file name 000001.jpg"."""
MAX_TOTAL = 50_000_000_000
"""Bytes that all images of a zip may unpack to. Graft writes them into one file, which training
reads in every epoch."""
MAX_RATIO = 200
"""Bytes unpacked for each packed byte, over all images of a zip. Deflate reaches 1,032 at most
(https://zlib.net/zlib_tech.html), and zip bombs come close to that. Measured: JPEG and PNG 1.0, BMP
of photos 1.3 and of drawings 1.6, scanned text as BMP 17, a blank page as PNG 123 and as BMP 154.
Only images of a single colour as BMP reach 990."""
RATIO_FROM = 100_000_000
"""Bytes unpacked below which the ratio is not checked: so few bytes do no harm."""
_BLOCK = 1 << 20


class Archive:
    """The images of a zip. Several threads may read from it. Close it, or use it in a `with`
    statement.

    Attributes:
        path: of the zip.
        title: its name in messages.
        tree: its images, and what is left out (`engine.data.sources.tree`).
        entries: the tree's images.
        encoding: of names that do not say theirs, see `zip_names.encoding_of`.
        skipped: list of (name, sentence) of what is left out, for people.

    Args:
        path: the zip file.
        least_classes: number of classes that must have images. 0: the folders need not be classes.
        title: its name in messages; None for its file name.
        layout: what its folders are, or "auto".
        known: classes of a finished run that the images are compared with.

    Raises:
        DatasetError: one sentence, if it cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        least_classes: int = 2,
        title: str | None = None,
        layout: str = "auto",
        known: Collection[str] | None = None,
    ) -> None:
        self.path = _root(path)
        self.title = title or self.path.name
        self._file, self._zip = _open(self.path, self.title)
        try:
            self.encoding = zip_names.encoding_of(self._zip.infolist())
            files = _files(self._zip, self.title, self.encoding)
            loose = least_classes == 0
            self.tree = tree.arrange(files, self._head, layout, known or (), loose)
            _check_size(self.entries, self.title)
            if self.tree.layout.blocked and least_classes:
                raise DatasetError(f"{self.title} {self.tree.layout.question}")
            if len(self.tree.classes) < least_classes:
                raise DatasetError(f"{self.title} {folders.too_few(self.tree, least_classes)}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file. Nothing can be read afterwards."""
        self._zip.close()
        self._file.close()

    @property
    def entries(self) -> list[Image]:
        """The images, sorted by name."""
        return self.tree.images

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Names and reasons of what is left out, for people."""
        return tree.told(self.tree)

    def _head(self, file: File) -> bytes:
        try:
            with self._zip.open(file.origin) as member:
                return member.read(folders.HEAD)
        except Exception as error:  # as in `read`
            raise ImageError(f"damaged in the zip: {_short(error)}") from None

    @property
    def size(self) -> int:
        """Bytes that all images unpack to."""
        return sum(entry.size for entry in self.entries)

    def read(self, entry: Image) -> bytes:
        """The bytes of an image, never more than the zip declares and `decode.MAX_BYTES` allows.

        Raises:
            ImageError: if this image is damaged.
            DatasetError: if it unpacks to more bytes than the zip declares.
        """
        # Reads a little more than is declared, to detect a wrong size.
        wanted, found = copy.copy(entry.origin), io.BytesIO()
        wanted.file_size = entry.size + 2 * _BLOCK
        try:
            with self._zip.open(wanted) as member:
                while found.tell() <= entry.size and (block := member.read(_BLOCK)):
                    found.write(block)
        except OSError as error:
            raise ImageError(f"the zip cannot be read ({error.strerror})") from None
        except Exception as error:  # BadZipFile, zlib.error, EOFError, struct.error, RuntimeError …
            raise ImageError(f"it is damaged in the zip ({_short(error)})") from None
        if found.tell() > entry.size:
            raise DatasetError(
                f"{self.title} is not used: {entry.name} unpacks to more than the {entry.size:,} "
                "bytes that the zip declares, as in a zip bomb; pack the images again"
            )
        if found.tell() < entry.size:
            raise ImageError("it is damaged in the zip (it ends too early)")
        return found.getvalue()


def check(path: str | Path, title: str | None = None) -> None:
    """Raises DatasetError, one sentence, for a zip that cannot be used: it is missing, not a zip,
    damaged, password-protected, too large, or packed too tightly. Its classes are not checked."""
    Archive(path, least_classes=0, title=title).close()


def listing(path: str | Path) -> str:
    """A hash of name, size and time: it changes when the zip is written again.

    Raises:
        DatasetError: if there is no such file.
    """
    path = _root(path)
    try:
        status = os.stat(path)
    except OSError:
        raise DatasetError(_gone(path)) from None
    return folders.listing_hash([[path.name, status.st_size, status.st_mtime_ns]])


def check_space(home: Path, count: int, title: str) -> None:
    """Raises DatasetError if fewer than `count` bytes are free on the disk of Graft's home."""
    free = shutil.disk_usage(home).free
    if count > free:
        raise DatasetError(
            f"{title} unpacks to {size_text(count)} of images, and only {size_text(free)} are free "
            f"on the disk of {home}; free some space or set GRAFT_HOME to another disk"
        )


class _Bounded(io.BufferedReader):
    """A file that limits the list of members to `MAX_DIRECTORY`: zipfile reads it all at once."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise _TooLong
        return super().read(size)


class _TooLong(Exception):
    """The list of members is larger than `MAX_DIRECTORY`."""


def _open(path: Path, title: str) -> tuple[_Bounded, zipfile.ZipFile]:
    """The open file and its ZipFile. Raises DatasetError."""
    try:
        if path.is_dir():
            raise DatasetError(
                f"{path} is a folder, not a zip file; choose the source folder for it"
            )
        if path.exists() and not path.is_file():
            raise DatasetError(f"{path} is not a file; give a zip file of class folders")
        file = _Bounded(io.FileIO(path))
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(_gone(path)) from None
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror}); change its permissions or give another file"
        ) from None
    try:
        return file, zipfile.ZipFile(file)
    except _TooLong:
        problem = (
            f"{title} lists far more files than the {MAX_MEMBERS:,} that Graft reads from a zip"
        )
    except Exception:  # BadZipFile, and a dozen others for damaged bytes
        try:
            file.seek(0)
            start = file.read(2)
        except OSError as error:
            start, problem = b"", f"{title} cannot be read ({error.strerror})"
        else:
            problem = f"{title} is not a zip file, despite its name"
        if start == b"PK":
            problem = f"{title} is damaged or incomplete: its list of files cannot be read"
    file.close()
    raise DatasetError(f"{problem}; pack or upload the images again")


def _root(path: str | Path) -> Path:
    try:
        return folders.root(path)
    except (OSError, ValueError, RuntimeError):  # not a valid file name, or an unknown ~user
        raise DatasetError(_gone(shown(str(path)))) from None


def _gone(path: str | Path) -> str:
    return f"there is no zip file {path} on this host; put it back or give another one"


def _files(opened: zipfile.ZipFile, title: str, encoding: str) -> list[File]:
    """The members, after checking all limits."""
    members = opened.infolist()
    if len(members) > MAX_MEMBERS:
        raise DatasetError(
            f"{title} holds {len(members):,} files and folders; Graft reads at most "
            f"{MAX_MEMBERS:,} from a zip, so unpack it and use the folder"
        )
    # `filename` ends at the first NUL, and then a file may look like a folder.
    files = [info for info in members if not info.orig_filename.endswith(("/", "\\"))]
    if any(info.flag_bits & 1 for info in files):
        raise DatasetError(f"{title} is protected by a password; pack the images without one")
    _check_overlap(files, title)
    names = [zip_names.name_of(info, encoding) for info in files]
    # Some programs for Windows write backslashes, and then all of them are meant as slashes.
    if not any("/" in name for name in names):
        names = [name.replace("\\", "/") for name in names]
    found, seen = [], set[tuple[str, ...]]()
    for info, name in zip(files, names, strict=True):
        parts, written = _split(name), _split(info.orig_filename)
        why = zip_names.refused(info, name, parts)
        if not why and written in seen:
            why = "the zip has an earlier file with the same name"
        if not why:  # an unsafe name does not stand in the way of a safe one
            seen.add(written)
        found.append(File(parts, info.file_size, info, why))
    return found


def _split(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _check_overlap(files: list[zipfile.ZipInfo], title: str) -> None:
    """Raises DatasetError if two members share bytes: with that, a bomb unpacks one kilobyte many
    times (D. Fifield, A better zip bomb, WOOT 2019)."""
    end = 0
    for info in sorted(files, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise DatasetError(
                f"{title} is not used: files in it overlap, as in a zip bomb; pack the images again"
            )
        end = info.header_offset + 30 + info.compress_size  # 30: the shortest header


def _check_size(entries: list[Image], title: str) -> None:
    total = sum(entry.size for entry in entries)
    packed = sum(entry.origin.compress_size for entry in entries)
    if total > MAX_TOTAL:
        raise DatasetError(
            f"{title} unpacks to {size_text(total)} of images; Graft reads at most "
            f"{size_text(MAX_TOTAL)} from a zip, so unpack it and use the folder"
        )
    if total > RATIO_FROM and total > MAX_RATIO * packed:
        raise DatasetError(
            f"{title} is not used: {size_text(packed)} in it unpack to {size_text(total)}, and "
            "photos never do; if this is what you expect, unpack it and use the folder"
        )


def _short(error: Exception) -> str:
    text = shown(str(error).strip().split("\n")[0]) or type(error).__name__
    return text if len(text) <= 80 else type(error).__name__
