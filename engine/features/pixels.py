"""A dataset's images at a recipe's size, decoded when they are first needed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from engine.data.prepared import Dataset
from engine.data.unreadable import READING, Unreadable
from engine.host.parallel import cores
from engine.images import decode


class Pixels:
    """The images of a dataset at a recipe's size, each decoded once if they fit the memory budget.

    Nothing is decoded before it is needed: decoding overlaps with the first epoch, or with the
    feature pass.

    Args:
        dataset: an open Dataset.
        indices: int array, the images that will be needed.
        size, resize: see `engine.images.decode.to_pixels`.
        budget: MiB that decoded images may take.
        unreadable: decides what happens to an image that can no longer be read; None where that is
            an error.

    Attributes:
        cached: whether all of them fit.
        unreadable: as given.
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: np.ndarray,
        size: int,
        resize: str,
        budget: int,
        unreadable: Unreadable | None = None,
    ):
        self._dataset, self._size, self._resize = dataset, size, resize
        self.unreadable = unreadable
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        needed = len(indices) * size * size * 3
        self.cached = needed <= budget * 2**20
        if self.cached:
            self._rows = np.full(len(dataset), -1, np.int64)
            self._rows[indices] = np.arange(len(indices))
            # The system provides the memory when a row is first written.
            self._array = np.empty((len(indices), size, size, 3), np.uint8)
            self._decoded = np.zeros(len(indices), bool)

    def one(self, index: int, keep: bool = True) -> np.ndarray:
        """uint8 array (size, size, 3): the image, or the one that replaces it.

        Args:
            index: of the image in the dataset.
            keep: whether to keep the pixels if there is room; False for an image that is not
                needed again.

        Raises:
            DatasetError, ImageError or OSError: if it cannot be read, and there is no `unreadable`.
            Paused: if nothing can replace it, or too many images have been lost.
        """
        found = self.own(index, keep)
        if found is not None:
            return found
        assert self.unreadable is not None  # without it, `own` raises
        for peer in self.unreadable.peers(int(index)):
            found = self._try(peer, keep)
            if found is not None:
                return found
        self.unreadable.none_left(int(index))

    def own(self, index: int, keep: bool = True) -> np.ndarray | None:
        """Like `one`, but None where another image would replace it."""
        if self.unreadable is None:
            return self._kept(index, keep)
        found = (self._try(copy, keep) for copy in self.unreadable.copies(int(index)))
        return next((pixels for pixels in found if pixels is not None), None)

    def get(self, indices: np.ndarray) -> np.ndarray:
        """uint8 array (n, size, size, 3); see `one`."""
        if self.cached:
            rows = self._rows[indices]
            for _ in self._pool.map(self.one, indices[~self._decoded[rows]].tolist()):
                pass
            if self._decoded[rows].all():
                return self._array[rows]
        # Also where an image's own row stays empty, because it can no longer be read.
        return np.stack(list(self._pool.map(self.one, indices)))

    def _try(self, index: int, keep: bool) -> np.ndarray | None:
        """The pixels of one file; None if it cannot be read."""
        assert self.unreadable is not None
        if index not in self.unreadable:
            try:
                return self._kept(index, keep)
            except READING as error:
                self.unreadable.note(index, error)
        return None

    def _kept(self, index: int, keep: bool) -> np.ndarray:
        if not self.cached:
            return self._decode(index)
        row = self._rows[index]
        if self._decoded[row]:
            return self._array[row]
        pixels = self._decode(index)
        if keep:
            self._array[row] = pixels
            self._decoded[row] = True  # after the pixels: other threads may look at any time
        return pixels

    def _decode(self, index: int) -> np.ndarray:
        return decode.load(self._dataset.image_bytes(int(index)), self._size, self._resize)
