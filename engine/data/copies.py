"""Copies among images: the same bytes, or nearly the same image (`engine.data.pairs`).

Groups are stars: each member is a near copy of the group's centre, so there are no chains from one
image over others to a different one. They are found when a dataset is prepared, and kept with it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from engine import home as homes
from engine.data.pairs import pairs
from engine.errors import DatasetError, ImageError
from engine.host import manifest
from engine.host.background import Report, silent
from engine.host.parallel import cores, ordered_map
from engine.images import decode
from engine.images.measures import GREY_SIDE

FILE = "copies.npz"
"""In a prepared dataset's folder: contents and groups of its images."""


def grey(picture: Image.Image) -> np.ndarray:
    """What copies are recognized by: uint8 array (64, 64).

    Args:
        picture: mode RGB, of any size.
    """
    small = picture.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(small.convert("L"))


class Greys:
    """Grey images on their way to `find`, in a temporary file: 4 kB for each.

    Args:
        folder: for the file; None for that of the system.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file, self._count = tempfile.TemporaryFile(dir=folder), 0

    def add(self, image: np.ndarray) -> None:
        """Adds the `grey` of the next image."""
        self._file.write(image.tobytes())
        self._count += 1

    def array(self) -> np.ndarray:
        """All of them: uint8 array (n, 64, 64), memory-mapped."""
        shape = (self._count, GREY_SIDE, GREY_SIDE)
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r", shape=shape) if self._count else np.zeros(shape)


def find(
    greys: np.ndarray, contents: np.ndarray, generations: np.ndarray, report: Report = silent
) -> np.ndarray:
    """Finds the images that are copies of each other.

    Only content and generation decide: neither names nor the order of the images matter, and
    images that are added later change no earlier group, except that they join it.

    Args:
        greys: uint8 array (n, 64, 64) of `grey`; zeros for an image that cannot be read.
        contents: str array (n,), SHA-256 of each file.
        generations: int array (n,), the addition that each image came with, 0 the first.
        report: see `Report`.

    Returns:
        int32 array (n,): the number of each image's group, from 0; -1 for images without a copy.
        Identical files are always in one group.
    """
    # One row for each content, by generation and content, so that the order does not matter.
    order = np.lexsort((contents, generations))
    _, first, place = np.unique(contents[order], return_index=True, return_inverse=True)
    rows = np.sort(first)
    row_of = np.empty(len(contents), np.int64)
    row_of[order] = np.searchsorted(rows, first[place])
    ages = generations[order[rows]]
    centre = _stars(ages, pairs(greys, order[rows], ages, report))[row_of]
    members = np.bincount(centre, minlength=len(rows))
    number = np.where(members > 1, np.cumsum(members > 1) - 1, -1)
    return number[centre].astype(np.int32)


def save(folder: Path, contents: np.ndarray, found: np.ndarray) -> None:
    """Keeps the result of `find` in a prepared dataset's folder."""
    with (
        manifest.rewriting(Path(folder) / manifest.FILE, FILE),
        homes.replacing(Path(folder) / FILE, "wb") as file,
    ):
        np.savez(file, contents=contents.astype("S64"), groups=found)


def known(folder: Path) -> bool:
    """Whether a prepared dataset's copies have been looked for."""
    return (Path(folder) / FILE).exists()


def of(
    folder: Path,
    contents: np.ndarray,
    generations: np.ndarray,
    image_bytes: Callable[[int], bytes],
) -> np.ndarray:
    """The result of `find` for a prepared dataset. If an earlier version prepared it, the copies
    are looked for now, once, and kept unless the home is read-only.

    Args:
        folder: of the prepared dataset.
        contents, generations: of all its images.
        image_bytes: returns an encoded image.
    """
    path = Path(folder) / FILE
    if known(folder):  # one that is missing is computed again
        manifest.check(path.with_name(manifest.FILE), FILE)
    with contextlib.suppress(FileNotFoundError), homes.reading(path), np.load(path) as file:
        if np.array_equal(file["contents"], contents.astype("S64")):
            return file["groups"]

    def look(index: int) -> np.ndarray:
        try:
            return grey(decode.read(image_bytes(index)))
        except (DatasetError, ImageError, OSError):  # it can no longer be read
            return np.zeros((GREY_SIDE, GREY_SIDE), np.uint8)

    kept = os.access(folder, os.W_OK)
    greys = Greys(folder if kept else None)
    for image in ordered_map(look, range(len(contents)), cores()):
        greys.add(image)
    found = find(greys.array(), contents, generations)
    if kept:
        save(folder, contents, found)
    return found


def in_another(groups: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which images have a copy among others.

    Args:
        groups: int array (n,), of `find`.
        some: int array (m,), images.
        others: int array (k,), images.

    Returns:
        bool array (m,).
    """
    return (groups[some] >= 0) & np.isin(groups[some], groups[others])


def _stars(generations: np.ndarray, found: dict[tuple[int, int], float]) -> np.ndarray:
    """The centre of each image's group: int64 array (n,); of an image alone, itself.

    Images of a later generation join the most similar earlier centre. Among the others, the one
    with the most copies is a centre, all its copies that have none join it, and so on.
    """
    near: dict[int, dict[int, float]] = {}
    for (a, b), score in found.items():
        near.setdefault(a, {})[b] = near.setdefault(b, {})[a] = score
    centre = np.arange(len(generations))
    settled: set[int] = set()
    for generation in np.unique(generations).tolist():
        new = [i for i in sorted(near) if generations[i] == generation]
        for i in new:
            known = {
                j: score
                for j, score in near[i].items()
                if generations[j] < generation and centre[j] == j
            }
            if known:
                centre[i] = max(known, key=lambda j: (known[j], -j))
                settled.add(i)
        among = {i: [j for j in near[i] if generations[j] == generation] for i in new}
        for i in sorted(new, key=lambda i: (-len(among[i]), i)):
            if i not in settled:
                members = [j for j in among[i] if j not in settled]
                centre[members] = i
                settled.update(members, [i])
    return centre
