"""Cached features: the outputs of a stage's frozen part for every image, computed once.

Light: NumPy only. `engine.features.compute` computes the values; this module decides when caching
is exact, and stores them. A store holds one record for each (image, view), float32, in a
memory-mapped file:

    identity.json   everything that decides the values, and a title
    contents.npy    SHA-256 of the images, sorted: the order of the records
    records.f32     one record after another; a hole where none is computed yet
    sums.u32        CRC-32 of each record, 0 where there is none

A record counts only if its sum matches, so a kill or a power cut during a write costs only that
record. Two runs that fill a store at the same time write the same bytes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.features import cache
from engine.recipe import AugmentationSpec, Recipe

FLIP_VIEWS = {"none": 1, "horizontal": 2, "both": 4}


def views(recipe: Recipe) -> tuple[int, bool]:
    """How many views of every image a stage's cached features need.

    Args:
        recipe: augmentation, feature_cache and cached_views are read.

    Returns:
        (count, exact): count is 0 where nothing may be cached. Without augmentation there is one
        view, and mirroring alone has 2 or 4, so these are exact; `cached_views` fixed random views
        replace an unlimited number, which is an approximation.
    """
    augmentation = recipe.augmentation
    if recipe.feature_cache == "off":
        return 0, True
    if augmentation == AugmentationSpec(flip=augmentation.flip):
        return FLIP_VIEWS[augmentation.flip], True
    return recipe.cached_views, False


def layout(recipe: Recipe) -> tuple[int, dict]:
    """The records that a store keeps for each image.

    Args:
        recipe: see `views`; where nothing may be cached, only the plain image is kept.

    Returns:
        (slots, what decides their values beside the network and the resizing). Slot 0 holds the
        plain image, which validation and the analysis of a dataset use.
    """
    count, exact = views(recipe)
    # Fixed random views come beside the plain one.
    slots = max(1, count if exact else count + bool(count))
    drawn = slots > 1 and not exact
    return slots, {
        "augmentation": recipe.augmentation.model_dump() if slots > 1 else None,
        "seed": recipe.seed if drawn else None,
    }


def draw_views(recipe: Recipe, drawn: np.ndarray, seed: int | Sequence[int]) -> np.ndarray:
    """The view of each image in an epoch.

    Args:
        recipe: see `views`; its count must be above 0.
        drawn: float array (n, 8), the epoch's augmentation (`engine.images.augment.draw`).
        seed: int or sequence of ints.

    Returns:
        int64 array (n,): 0 is the plain image. Exact views are 1 mirrored left to right, 2 top to
        bottom, 3 both; of fixed random views, one of 1 to `cached_views`.
    """
    count, exact = views(recipe)
    if exact:  # the signs of the affine's diagonal show mirroring
        return (drawn[:, 0] < 0).astype(np.int64) + 2 * (drawn[:, 4] < 0)
    return np.random.default_rng(seed).integers(1, count + 1, len(drawn))


def why_not(recipe: Recipe, trainable: str) -> str | None:
    """Why a stage runs the whole network in every epoch, a clause for people; None if its features
    can be cached.

    Args:
        recipe: augmentation, feature_cache and cached_views are read.
        trainable: of the stage.
    """
    if recipe.feature_cache == "off":
        return "feature_cache is off"
    if trainable == "all":
        return "nothing is frozen"
    if not views(recipe)[0]:
        return (
            "random augmentation changes every epoch, so features cannot be reused (cached_views "
            "above 0 caches that many fixed views of each image instead, an approximation)"
        )
    return None


class FeatureStore:
    """The records of one frozen part over one set of images.

    Args:
        home: Graft's home.
        identity: plain data that decides the values: network, resize, runtime, augmentation; and a
            title. The images and the number of views are added here.
        contents: str array, the content hashes of the dataset's images.
        fingerprint: of the dataset, overlay included.
        views: views of each image.
        width: numbers in a record.
    """

    def __init__(
        self,
        home: Path,
        identity: dict,
        contents: np.ndarray,
        fingerprint: str,
        views: int,
        width: int,
    ):
        self.home, self.views, self.width = Path(home), views, width
        order = np.unique(np.asarray(contents, dtype="S64"))
        identity = identity | {"dataset": fingerprint, "views": views, "width": width}
        count = len(order) * views

        def fill(folder: Path) -> None:
            np.save(folder / "contents.npy", order)
            for name, each in (("records.f32", 4 * width), ("sums.u32", 4)):
                with open(folder / name, "wb") as file:
                    file.truncate(count * each)

        self.path, self._lock = cache.acquire(home, "features", identity, fill)
        self._identity = identity
        self._contents = np.load(self.path / "contents.npy")
        self._files = [os.open(self.path / n, os.O_RDWR) for n in ("records.f32", "sums.u32")]
        self._records = np.memmap(self.path / "records.f32", np.float32, "r", shape=(count, width))
        self._sums = np.memmap(self.path / "sums.u32", np.uint32, "r", shape=(count,))
        self._checked = np.zeros(count, bool)

    def close(self) -> None:
        """Releases the store, which may then be evicted; nothing can be read afterwards."""
        for file in self._files:
            os.close(file)
        self._files = []
        self._lock.close()

    def rows(self, contents: np.ndarray, view: int | np.ndarray = 0) -> np.ndarray:
        """Row numbers of images in one view (int, or an int array of the same length)."""
        place = np.searchsorted(self._contents, np.asarray(contents, dtype="S64"))
        return place * self.views + view

    def known(self, rows: np.ndarray) -> np.ndarray:
        """Bool array: which rows hold a record whose sum matches."""
        rows = np.asarray(rows, np.int64)
        for row in rows[~self._checked[rows]].tolist():
            wanted = self._sums[row]
            self._checked[row] = wanted != 0 and _sum(self._records[row]) == wanted
        return self._checked[rows]

    def write(self, row: int, record: np.ndarray) -> None:
        """Stores a record, float array (width,). Raises OSError if the disk is full."""
        record = np.ascontiguousarray(record, np.float32)
        # Written through the file, not the map: a full disk then raises an error, not a signal.
        _write_at(self._files[0], record.tobytes(), 4 * self.width * int(row))
        _write_at(self._files[1], _sum(record).tobytes(), 4 * int(row))
        self._checked[row] = True

    def read(self, rows: np.ndarray) -> np.ndarray:
        """float32 array (n, width)."""
        return np.asarray(self._records[rows])

    def borrow(self, rows: np.ndarray) -> int:
        """Copies missing records from stores of the same frozen part over other sets of images (a
        dataset that has grown); returns how many."""
        rows = np.asarray(rows, np.int64)
        copied = 0
        other_than = ("dataset", "title")
        mine = {k: v for k, v in self._identity.items() if k not in other_than}
        for entry in cache.entries(self.home):
            missing = rows[~self.known(rows)]
            if not len(missing):
                break
            theirs = cache.identity(entry.path) or {}
            theirs = {k: v for k, v in theirs.items() if k not in other_than}
            if entry.kind != "features" or entry.path == self.path or theirs != mine:
                continue
            contents = np.load(entry.path / "contents.npy")
            shape = (len(contents) * self.views, self.width)
            records = np.memmap(entry.path / "records.f32", np.float32, "r", shape=shape)
            sums = np.memmap(entry.path / "sums.u32", np.uint32, "r", shape=shape[:1])
            wanted = self._contents[missing // self.views]
            place = np.searchsorted(contents, wanted)
            for row, name, at in zip(missing.tolist(), wanted, place.tolist(), strict=True):
                if at == len(contents) or contents[at] != name:
                    continue
                source = at * self.views + row % self.views
                if sums[source] and _sum(records[source]) == sums[source]:
                    self.write(row, records[source])
                    copied += 1
        return copied


def _sum(record: np.ndarray) -> np.uint32:
    """CRC-32 of a record; never 0, which means no record."""
    return np.uint32(zlib.crc32(np.ascontiguousarray(record).data) or 1)


def _write_at(file: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
