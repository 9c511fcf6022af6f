"""Zip files that come through the browser: kept by content, or only while they are read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeAlias

from engine import home as homes
from engine.data.sources import archive
from engine.errors import DatasetError
from engine.host import processes
from engine.host.words import file_name, shown

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with (bytes done, bytes in total or None)."""


def keep_upload(home: Path, name: str, file: IO[bytes], progress: Progress | None = None) -> Path:
    """Keeps an uploaded zip in Graft's home, named by its content: the same zip is kept once.

    Args:
        home: Graft's home.
        name: the user's name of the file; never used as a path.
        file: an open binary file, such as Streamlit's UploadedFile.
        progress: see `Progress`.

    Returns:
        `GRAFT_HOME/uploads/<16 hexadecimal digits>/<name>.zip`.

    Raises:
        DatasetError: one sentence, if it cannot be used (`archive.check`) or the disk is full;
            nothing of it is left then.
    """
    uploads = Path(home) / homes.UPLOADS
    aside, digest = _received(uploads, file, progress)
    try:
        with _writing(uploads):
            archive.check(aside, shown(name))
            folder = uploads / digest[:16]
            folder.mkdir(exist_ok=True)
            if there := sorted(folder.glob("*.zip")):
                return there[0]
            target = folder / f"{_safe(name)}.zip"
            os.chmod(aside, 0o644)
            os.replace(aside, target)
            return target
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def passing_upload(home: Path, file: IO[bytes]) -> Iterator[Path]:
    """The path of a copy of an uploaded zip that exists only inside the `with`.

    Args:
        home: Graft's home.
        file: as for `keep_upload`.

    Raises:
        DatasetError: if the disk is full.
    """
    aside, _ = _received(Path(home) / homes.UPLOADS, file)
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def forget_upload(home: Path, path: str | Path) -> None:
    """Deletes an upload that `keep_upload` kept. Raises DatasetError for any other path."""
    folder = Path(path).resolve().parent
    if folder.parent != (Path(home) / homes.UPLOADS).resolve():
        raise DatasetError(f"{path} is not an upload that Graft keeps; delete it yourself")
    shutil.rmtree(folder, ignore_errors=True)


def _received(uploads: Path, file: IO[bytes], progress: Progress | None = None) -> tuple[Path, str]:
    """Copies an upload to a file with a temporary name; returns its path and its SHA-256."""
    homes.writable(uploads.parent)
    digest, done, total = hashlib.sha256(), 0, getattr(file, "size", None)
    with _writing(uploads):
        uploads.mkdir(exist_ok=True)
        _sweep(uploads)
        descriptor, aside = tempfile.mkstemp(dir=uploads, prefix=f".upload.{processes.mark()}")
        try:
            if hasattr(file, "seek"):
                file.seek(0)  # it may have been read before
            with os.fdopen(descriptor, "wb") as kept:
                while block := file.read(1 << 20):
                    kept.write(block)
                    digest.update(block)
                    done += len(block)
                    if progress:
                        progress(done, total)
                kept.flush()
                os.fsync(kept.fileno())
        except BaseException:
            os.unlink(aside)
            raise
    return Path(aside), digest.hexdigest()


@contextlib.contextmanager
def _writing(uploads: Path) -> Iterator[None]:
    """Raises DatasetError for a full or read-only disk."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"the zip could not be kept in {uploads} ({error.strerror}); free some space or set "
            "GRAFT_HOME to another disk"
        ) from None


def _safe(name: str) -> str:
    """A safe file name from a user's."""
    stem = str(name).replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".zip")
    return file_name(stem) or "upload"


def _sweep(uploads: Path) -> None:
    """Removes what killed processes left of uploads."""
    for path in uploads.glob(".upload.*"):
        if processes.abandoned(path):
            path.unlink(missing_ok=True)
