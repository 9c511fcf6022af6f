"""Zip files of class folders, read without unpacking them.

A zip from somebody else may be made to harm: names that lead out of the folder, links, sizes that lie,
a few kilobytes that unpack to gigabytes. Graft never unpacks one to disk: members are read one by one
into memory, within limits, and their bytes go into Graft's own `images.bin`. So no name in a zip is
ever a path on this host; names are checked all the same, because people read them.
"""

import contextlib
import copy
import hashlib
import io
import os
import re
import shutil
import tempfile
import time
import zipfile
from pathlib import Path

from engine.data.sources import folders, zip_names
from engine.data.sources.zip_names import Entry, shown
from engine.errors import DatasetError, ImageError
from engine.home import size_text
from engine.images.decode import EXTENSIONS

MAX_MEMBERS = 200_000
"""Files and folders in a zip. Their list is held in memory: 200,000 took 270 MB, and 4 s to sort out."""
MAX_DIRECTORY = 40_000_000
"""Bytes of the list of members, checked before it is read: 200 for each of `MAX_MEMBERS`. An entry
takes 46 and its name; 96 with "photos/class_1/a rather usual file name 000001.jpg"."""
MAX_TOTAL = 50_000_000_000
"""Bytes that all images of a zip may unpack to; Graft packs them into one file, which training reads
over and over."""
MAX_RATIO = 200
"""Bytes unpacked for each packed byte, over all images of a zip. Deflate reaches 1,032 at most
(https://zlib.net/zlib_tech.html), and a bomb is near that. Measured: JPEG and PNG 1.0,
BMP of photos 1.3 and of drawings 1.6, scanned text as BMP 17, a blank page as PNG 123 and as BMP 154;
only pictures of a single colour as BMP reach 990."""
RATIO_FROM = 100_000_000
"""Bytes unpacked below which the ratio does not matter: so little harms nobody."""
_BLOCK = 1 << 20


class Archive:
    """The images of a zip, sorted by name.

    Folders that all images share are left out, however many; the first folder below them is the
    class, or, where those are parts (`engine.data.sources.layout`), the part, and the next one the class. Safe to
    read from several threads; close it, or use it in a `with` statement.

    Attributes:
        path: of the zip.
        entries: list of Entry.
        skipped: list of (name, sentence) of what is no image of a class or must not be used.

    Args:
        path: the zip file.
        least_classes: how many classes must hold images; 0: it does not matter which folders are
            classes.
        loose: whether images in no class folder count too, as of the class "".
        title: what messages call it, if not by its own name.

    Raises:
        DatasetError: one sentence, if it cannot be used.
    """

    def __init__(self, path, least_classes: int = 2, title: str | None = None, loose=False):
        self.path = _root(path)
        self.title = title or self.path.name
        self._file, self._zip = _open(self.path, self.title)
        try:
            self.entries, self.skipped, reason, unclear = _sort_out(self._zip, self.title, loose)
            if unclear and least_classes:
                raise DatasetError(f"{self.title} {unclear}")
            labels = sorted({entry.label for entry in self.entries})
            if len(labels) < least_classes:
                raise DatasetError(_too_few(self.title, labels, least_classes, reason))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Closes the file; nothing can be read afterwards."""
        self._zip.close()
        self._file.close()

    @property
    def bytes(self) -> int:
        """What all images unpack to."""
        return sum(entry.size for entry in self.entries)

    def read(self, entry: Entry) -> bytes:
        """The bytes of an image, never more than the zip declares and `images.MAX_BYTES` allows.

        Raises:
            ImageError: if this one is damaged.
            DatasetError: if it unpacks to more than was declared, which no honest zip does.
        """
        # It is let go on a little beyond what is declared, so that a lie shows.
        wanted, found = copy.copy(entry.info), io.BytesIO()
        wanted.file_size = entry.size + 2 * _BLOCK
        try:
            with self._zip.open(wanted) as member:
                while found.tell() <= entry.size and (block := member.read(_BLOCK)):
                    found.write(block)
        except OSError as error:
            raise ImageError(f"the zip cannot be read there ({error.strerror})") from None
        except Exception as error:  # BadZipFile, zlib.error, EOFError, struct.error, RuntimeError …
            raise ImageError(f"it is damaged in the zip ({_short(error)})") from None
        if found.tell() > entry.size:
            raise DatasetError(
                f"{self.title} is not used: {entry.name} unpacks to more than the {entry.size:,} bytes "
                "that the zip declares, as in a file made to fill memory; pack the images again"
            )
        if found.tell() < entry.size:
            raise ImageError("it is damaged in the zip (it ends too early)")
        return found.getvalue()


def check(path, title: str | None = None) -> None:
    """Raises DatasetError, one sentence, for a zip that cannot be used: not there, no zip, damaged,
    protected by a password, too large, or packed too tightly. Its classes are not looked at."""
    Archive(path, least_classes=0, title=title).close()


def listing(path) -> str:
    """A hash of name, size and time: changes when the zip is written again. Raises DatasetError if it
    has gone."""
    path = _root(path)
    try:
        status = os.stat(path)
    except OSError:
        raise DatasetError(_gone(path)) from None
    return folders.listing_hash([[path.name, status.st_size, status.st_mtime_ns]])


def check_space(home, count: int, title: str) -> None:
    """Raises DatasetError if the disk of Graft's home has no room for so many bytes."""
    free = shutil.disk_usage(home).free
    if count > free:
        raise DatasetError(
            f"{title} unpacks to {size_text(count)} of images and only {size_text(free)} are free on "
            f"the disk of {home}; free some space or set GRAFT_HOME to another disk"
        )


class _Bounded(io.BufferedReader):
    """A file that reads no list of members beyond `MAX_DIRECTORY`: zipfile takes it all at once."""

    def read(self, size=-1):
        if size is not None and size > MAX_DIRECTORY:
            raise _TooLong
        return super().read(size)


class _TooLong(Exception):
    pass


def _open(path: Path, title: str):
    """(the open file, its ZipFile)."""
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
            f"{path} cannot be read ({error.strerror}); allow it to be read or give another file"
        ) from None
    try:
        return file, zipfile.ZipFile(file)
    except _TooLong:
        problem = (
            f"{title} lists far more than the {MAX_MEMBERS:,} files that Graft takes from a zip"
        )
    except Exception:  # BadZipFile, and a dozen others for bytes that make no sense
        file.seek(0)
        if file.read(2) == b"PK":
            problem = f"{title} is damaged or incomplete: its list of files cannot be read"
        else:
            problem = f"{title} is not a zip file, whatever its name says"
    file.close()
    raise DatasetError(f"{problem}; pack or upload the images again")


def _root(path) -> Path:
    try:
        return folders.root(path)
    except (OSError, ValueError, RuntimeError):  # what no file can be called, an unknown ~user
        raise DatasetError(_gone(shown(str(path)))) from None


def _gone(path) -> str:
    return f"there is no zip file {path} on this host; put it back or give another one"


def _sort_out(opened: zipfile.ZipFile, title: str, loose: bool):
    """(entries, skipped for people, the first telling reason or None, `Layout.unclear`), within all
    limits."""
    members = opened.infolist()
    if len(members) > MAX_MEMBERS:
        raise DatasetError(
            f"{title} holds {len(members):,} files and folders; Graft takes up to {MAX_MEMBERS:,} from "
            "a zip, so unpack it and use the folder"
        )
    files = [info for info in members if not info.filename.endswith("/")]
    if any(info.flag_bits & 1 for info in files):
        raise DatasetError(f"{title} is protected by a password; pack the images without one")
    _check_overlap(files, title)
    images, skipped, seen = [], {}, set()
    for info in files:
        name = zip_names.name_of(info)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        reason = zip_names.refused(info, name, parts)
        if reason is None and tuple(parts) in seen:
            reason = "the zip holds another file of the same name before it"
        if reason:
            skipped.setdefault(reason, []).append(name)
        else:
            seen.add(tuple(parts))
            images.append((parts, info))
    entries, unclear = zip_names.classes(images, skipped, loose)
    _check_size(entries, title)
    telling = next((r for r in skipped if r != zip_names.HIDDEN), None)
    return entries, zip_names.told(skipped), telling, unclear


def _check_overlap(files, title) -> None:
    """No two members may share bytes: that is how one kilobyte is unpacked many times over
    (D. Fifield, A better zip bomb, WOOT 2019)."""
    end = 0
    for info in sorted(files, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise DatasetError(
                f"{title} is not used: files in it overlap each other, as in one made to fill memory; "
                "pack the images again"
            )
        end = info.header_offset + 30 + info.compress_size  # 30: the least that a header takes


def _check_size(entries, title) -> None:
    total = sum(entry.size for entry in entries)
    packed = sum(entry.info.compress_size for entry in entries)
    if total > MAX_TOTAL:
        raise DatasetError(
            f"{title} unpacks to {size_text(total)} of images; Graft takes up to "
            f"{size_text(MAX_TOTAL)} from a zip, so unpack it and use the folder"
        )
    if total > RATIO_FROM and total > MAX_RATIO * packed:
        raise DatasetError(
            f"{title} is not used: {size_text(packed)} in it unpack to {size_text(total)}, which "
            "photos never do; unpack it and use the folder if it is what you expect"
        )


def _too_few(title, labels, least, reason) -> str:
    found = f"only {labels[0]!r} holds images" if labels else "none holds images"
    more = f"; files were left out, the first because {reason}" if reason and not labels else ""
    return (
        f"{title} needs at least {least} folder{'s' * (least > 1)} of images, one for each class "
        f"({found}{more}); files must end in {', '.join(EXTENSIONS[:8])} or the like"
    )


def _short(error: Exception) -> str:
    text = shown(str(error).strip().split("\n")[0]) or type(error).__name__
    return text if len(text) <= 80 else type(error).__name__


def keep_upload(home, name: str, file, progress=None) -> Path:
    """Keeps an uploaded zip in Graft's home, under its content: the same zip again is kept once.

    Args:
        home: Graft's home.
        name: what the user's file is called; never a path here.
        file: an open binary file, such as Streamlit's UploadedFile.
        progress: called with (bytes done, bytes in total or None).

    Returns:
        `GRAFT_HOME/uploads/<16 hexadecimal digits>/<name>.zip`.

    Raises:
        DatasetError: one sentence, if it cannot be used (`check`) or the disk is full; nothing of it
            is left then.
    """
    uploads = Path(home) / "uploads"
    total = getattr(file, "size", None)
    try:
        uploads.mkdir(exist_ok=True)
        _sweep(uploads)
        descriptor, aside = tempfile.mkstemp(dir=uploads, prefix=".upload.")
        try:
            digest = _copy(file, descriptor, total, progress)
            check(aside, shown(name))
            folder = uploads / digest[:16]
            folder.mkdir(exist_ok=True)
            if there := sorted(folder.glob("*.zip")):
                return there[0]
            target = folder / f"{_safe(name)}.zip"
            os.chmod(aside, 0o644)
            os.replace(aside, target)
            return target
        finally:
            Path(aside).unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(_unkept(uploads, error)) from None


@contextlib.contextmanager
def passing_upload(home, file):
    """The path of a copy of an uploaded zip that is there only inside the `with`: it is added to a
    dataset, and not kept.

    Args:
        home: Graft's home.
        file: as for `keep_upload`.

    Raises:
        DatasetError: if the disk is full.
    """
    uploads = Path(home) / "uploads"
    try:
        uploads.mkdir(exist_ok=True)
        _sweep(uploads)
        descriptor, aside = tempfile.mkstemp(dir=uploads, prefix=".upload.")
    except OSError as error:
        raise DatasetError(_unkept(uploads, error)) from None
    try:
        try:
            _copy(file, descriptor, None, None)
        except OSError as error:
            raise DatasetError(_unkept(uploads, error)) from None
        yield Path(aside)
    finally:
        Path(aside).unlink(missing_ok=True)


def _unkept(uploads, error) -> str:
    return (
        f"the zip could not be kept in {uploads} ({error.strerror}); free some space or set "
        "GRAFT_HOME to another disk"
    )


def forget_upload(home, path) -> None:
    """Deletes an upload that `keep_upload` kept. Raises DatasetError for any other path."""
    folder = Path(path).resolve().parent
    if folder.parent != (Path(home) / "uploads").resolve():
        raise DatasetError(
            f"{path} is no upload that Graft keeps; delete it yourself if you want to"
        )
    shutil.rmtree(folder, ignore_errors=True)


def _copy(file, descriptor, total, progress) -> str:
    """Copies a file to disk; returns its SHA-256."""
    digest, done = hashlib.sha256(), 0
    if hasattr(file, "seek"):
        file.seek(0)  # it may have been looked at before
    with os.fdopen(descriptor, "wb") as kept:
        while block := file.read(_BLOCK):
            kept.write(block)
            digest.update(block)
            done += len(block)
            if progress:
                progress(done, total)
        kept.flush()
        os.fsync(kept.fileno())
    return digest.hexdigest()


def _safe(name: str) -> str:
    """A file name of ours for a user's."""
    stem = str(name).replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".zip")
    return re.sub(r"[^\w-]+", "-", stem).strip("-_")[:60] or "upload"


def _sweep(uploads: Path) -> None:
    """Removes what a server that was killed in mid-upload left: nothing was written for an hour."""
    for path in uploads.glob(".upload.*"):
        if path.stat().st_mtime < time.time() - 3600:
            path.unlink(missing_ok=True)
