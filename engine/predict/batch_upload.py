"""Stores the images of a batch (`engine.predict.batches`) as one zip. Light."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from engine.data.sources import archive, uploads
from engine.host.words import shown

Upload = list[tuple[str, "IO[bytes] | bytes"]] | IO[bytes]
"""A list of (name, open binary file or bytes), or one open zip file."""


def store(
    home: Path,
    path: Path,
    source: Upload,
    title: str,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Writes images that came through the browser to a zip.

    Args:
        home: Graft's home.
        path: of the new zip.
        source: see `Upload`.
        title: its name in messages.
        progress: called with (done, total) for a list.

    Raises:
        DatasetError: if a zip cannot be used (`archive.check`).
        OSError: if it cannot be written.
    """
    if isinstance(source, list):
        _pack(path, source, progress)
    else:
        with uploads.passing_upload(home, source) as taken:
            archive.Archive(taken, 0, shown(title)).close()
            shutil.move(taken, path)


def _pack(
    path: Path,
    files: list[tuple[str, IO[bytes] | bytes]],
    progress: Callable[[int, int], object] | None,
) -> None:
    """Writes files into a zip, uncompressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for done, (name, data) in enumerate(files, 1):
            if not isinstance(data, bytes):
                data.seek(0)
                data = data.read()
            clean = "/".join(
                part for part in _plain(name).split("/") if part not in ("", ".", "..")
            )
            stem, dot, extension = clean.rpartition(".")
            number = 1
            while clean in packed.NameToInfo:  # both files of one name are classified
                number += 1
                clean = f"{stem or extension} ({number}){dot}{extension if stem else ''}"
            packed.writestr(clean, data)
            if progress:
                progress(done, len(files))


def _plain(name: str) -> str:
    """A user's file name without anything that `archive` refuses."""
    name = shown(str(name).replace("\\", "/")).replace("\\", "_")
    name = re.sub(r"^[A-Za-z]:", "", name).lstrip("/")
    # A hidden file that a person chose is wanted; in a folder, the rules for folders hold.
    return (name if "/" in name else name.lstrip(".")) or "image"
