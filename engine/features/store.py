"""Cached features: what the frozen part of a stage gives for every image, computed once.

Light: NumPy only. `engine.features.compute` computes the values; this module decides when that is exact, and
keeps them. A store holds one record for each (image, view), float32, in a memory-mapped file:

    identity.json   everything that decides the values, and a title
    contents.npy    SHA-256 of the images, sorted: the order of the records
    records.f32     one record after another; a hole where none was computed yet
    sums.u32        CRC-32 of each record, 0 where there is none

A record counts only if its sum matches, so a kill or a power cut in mid-write costs that record and
nothing else, and two runs that fill a store at once write the same bytes.
"""

import os
import zlib
from pathlib import Path

import numpy as np

from engine.features import cache
from engine.recipe import AugmentationSpec

FLIP_VIEWS = {"none": 1, "horizontal": 2, "both": 4}


def views(recipe) -> tuple[int, bool]:
    """How many views of every image a stage's cached features need.

    Args:
        recipe: augmentation, feature_cache and cached_views are read.

    Returns:
        (count, exact): count 0 where nothing may be cached. Without augmentation one view is all
        there is, and mirroring alone has 2 or 4, so these are exact; `cached_views` fixed random
        views stand for endlessly many, which is an approximation.
    """
    augmentation = recipe.augmentation
    if recipe.feature_cache == "off":
        return 0, True
    if augmentation == AugmentationSpec(flip=augmentation.flip):
        return FLIP_VIEWS[augmentation.flip], True
    return recipe.cached_views, False


def layout(recipe) -> tuple[int, dict]:
    """What a store keeps of each image.

    Args:
        recipe: see `views`; where nothing may be cached, the plain image alone is kept.

    Returns:
        (slots, what beside the network and the resizing decides their values): slot 0 holds the plain
        image, which validation and the analysis of a dataset take.
    """
    count, exact = views(recipe)
    # Fixed random views come beside the plain one.
    slots = max(1, count if exact else count + bool(count))
    drawn = slots > 1 and not exact
    return slots, {
        "augmentation": recipe.augmentation.model_dump() if slots > 1 else None,
        "seed": recipe.seed if drawn else None,
    }


def draw_views(recipe, drawn, seed) -> np.ndarray:
    """Which view of each image an epoch takes.

    Args:
        recipe: see `views`, which must give a count above 0.
        drawn: float array (n, 8), the changes drawn for the epoch (`engine.images.augment.draw`).
        seed: int or sequence of ints.

    Returns:
        int64 array (n,): 0 is the plain image. Exact views are 1 mirrored left to right, 2 top to
        bottom, 3 both; of fixed random views, one of 1 to `cached_views`.
    """
    count, exact = views(recipe)
    if exact:  # mirroring shows in the signs of the affine's diagonal
        return (drawn[:, 0] < 0).astype(np.int64) + 2 * (drawn[:, 4] < 0)
    return np.random.default_rng(seed).integers(1, count + 1, len(drawn))


def why_not(recipe, trainable: str) -> str | None:
    """Why a stage runs the whole network in every epoch, for people; None if it need not.

    Args:
        recipe: a Recipe.
        trainable: of the stage.
    """
    if recipe.feature_cache == "off":
        return "feature_cache is off"
    if trainable == "all":
        return "nothing is frozen"
    if not views(recipe)[0]:
        return (
            "the augmentation is different in every epoch (cached_views above 0 caches that many "
            "fixed views of every image instead, an approximation)"
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

    def __init__(self, home, identity, contents, fingerprint, views, width):
        self.home, self.views, self.width = Path(home), views, width
        order = np.unique(np.asarray(contents, dtype="S64"))
        identity = identity | {"dataset": fingerprint, "views": views, "width": width}
        count = len(order) * views

        def fill(folder):
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

    def close(self):
        """Gives the store up for eviction; reading ends."""
        for file in self._files:
            os.close(file)
        self._files = []
        self._lock.close()

    def rows(self, contents, view=0) -> np.ndarray:
        """Row numbers of images in one view (int, or an int array of the same length)."""
        place = np.searchsorted(self._contents, np.asarray(contents, dtype="S64"))
        return place * self.views + view

    def known(self, rows) -> np.ndarray:
        """Bool array: which rows hold a record whose sum matches."""
        rows = np.asarray(rows, np.int64)
        for row in rows[~self._checked[rows]].tolist():
            wanted = self._sums[row]
            self._checked[row] = wanted != 0 and _sum(self._records[row]) == wanted
        return self._checked[rows]

    def write(self, row: int, record: np.ndarray) -> None:
        """Keeps a record, float array (width,). Raises OSError if the disk is full."""
        record = np.ascontiguousarray(record, np.float32)
        # Written through the file, not the map: a full disk is then an error and not a signal.
        _write_at(self._files[0], record.tobytes(), 4 * self.width * int(row))
        _write_at(self._files[1], _sum(record).tobytes(), 4 * int(row))
        self._checked[row] = True

    def read(self, rows) -> np.ndarray:
        """float32 array (n, width)."""
        return np.asarray(self._records[rows])

    def borrow(self, rows) -> int:
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


def _sum(record) -> np.uint32:
    """CRC-32 of a record; never 0, which means that there is none."""
    return np.uint32(zlib.crc32(np.ascontiguousarray(record)) or 1)


def _write_at(file, data, offset):
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
