"""Images that can no longer be read during a run: they are skipped, counted and reported.

The images of a folder are not copied, so a file can be deleted, cut off or overwritten at any time
after it was prepared. A run then *skips* that image: the next image of its class in its part takes
its place, so that batches keep their shape and labels stay correct. Testing leaves it out. If more
than `UNREADABLE_SHARE` of the run's images cannot be read, the run pauses instead, since it would
no longer be the run that was asked for.

Only what can be read decides which image takes the place, so a resumed run continues as if it had
not been interrupted. A process does not try an unreadable image again. Images that are already in
memory or in the feature cache are not read again, so they are not missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from engine.errors import DatasetError, GraftError, ImageError
from engine.host.signals import Paused, Stopped

if TYPE_CHECKING:
    from engine.data.prepared import Dataset
    from engine.data.splits import Parts

UNREADABLE_SHARE = 0.01
"""Largest share of its images that a run continues without; one image is always allowed. One in a
hundred changes the accuracy by less than chance (with 350 test images the 95% interval is at least
3 points to either side), and a missing folder or disk exceeds it within the first batches."""
NAMED = 20
"""Files that are reported one by one; after that, each doubling of their number is reported."""
READING = (DatasetError, ImageError, OSError)
"""The errors of reading and decoding an image."""
REMEDY = "put them back and resume the run, or prepare the dataset again and start a new run"


class Unreadable:
    """The images of a run that can no longer be read. Any thread may use it.

    Args:
        dataset: an open Dataset.
        split: {"train": indices, "validation": indices, "test": indices}, disjoint.
        warn: called with one sentence.

    Attributes:
        dataset: as given.
        total: number of the run's images.
        allowed: number of unreadable images with which the run continues.
        pause: the Paused that was raised, or None.
    """

    def __init__(self, dataset: Dataset, split: Parts, warn: Callable[[str], object]) -> None:
        self.dataset, self._split, self._warn = dataset, split, warn
        self.total = sum(len(indices) for indices in split.values())
        self.allowed = max(1, int(UNREADABLE_SHARE * self.total))
        self.pause: Paused | None = None
        self._why: dict[int, str] = {}
        self._reported, self._lock = NAMED, threading.Lock()

    def __contains__(self, index: int) -> bool:
        return int(index) in self._why

    def rows(self, indices: Iterable[int] | np.ndarray) -> list[list[str]]:
        """[name, why] of each of these images that is known to be unreadable."""
        return [[self.dataset.names[i], self._why[i]] for i in map(int, indices) if i in self]

    def note(self, index: int, error: Exception) -> None:
        """Counts an image that could not be read, and reports it if it is new.

        Args:
            index: of the image in the dataset.
            error: raised by reading it, one of READING.

        Raises:
            Paused: if the run has more unreadable images than `allowed`.
        """
        index = int(index)
        with self._lock:
            if index in self._why:
                return
            self._why[index] = _why(error)
            count = len(self._why)
            if count > self.allowed:
                self.give_up(
                    f"at least {count:,} of the run's {self.total:,} images can no longer be read, "
                    f"and a run continues without at most {self.allowed:,}"
                )
            elif count <= NAMED:
                name = self.dataset.names[index]
                self._warn(f"{name} is skipped from now on: {self._why[index]}")
            elif count == 2 * self._reported:
                self._reported = count
                self._warn(f"{count:,} files are skipped now, since they can no longer be read")

    def give_up(self, what: str) -> NoReturn:
        """Raises Paused with one sentence, and keeps it as `pause`, since tf.data wraps errors.

        Only the first is kept: other threads may call this before the run has ended.
        """
        if self.pause is None:
            first = self.rows(list(self._why)[:1])
            example = "".join(f" (for example {name}: {why})" for name, why in first)
            self.pause = Paused(f"{what}{example}; {REMEDY}")
        raise self.pause

    def reraise(self, error: Exception) -> None:
        """Raises the pause again if it became a TensorFlow error inside tf.data.

        Args:
            error: raised by fit or evaluate; does nothing if it has another cause.
        """
        if self.pause and not isinstance(error, (GraftError, Paused, Stopped)):
            raise self.pause from None

    def readable(self, indices: Iterable[int] | np.ndarray) -> Iterator[tuple[int, bytes]]:
        """Yields (index, encoded bytes) of the readable images, in order; notes the others."""
        for index in map(int, indices):
            if index in self:
                continue
            try:
                data = self.dataset.image_bytes(index)
            except READING as error:
                self.note(index, error)
            else:
                yield index, data

    def copies(self, index: int) -> Iterator[int]:
        """Yields an image's index, then those of identical images for training or validation:
        if one of them can be read, it is the same image."""
        yield index
        content = self.dataset.contents[index]
        yield from (other for other in self._copies.get(str(content), ()) if other != index)

    def peers(self, index: int) -> Iterator[int]:
        """Yields the images that may take an image's place: the others of its class in its part,
        from the next one to the last, then from the first one."""
        labels = self.dataset.labels
        for part in ("train", "validation"):
            members = self._split[part][labels[self._split[part]] == labels[index]]
            place = np.flatnonzero(members == index)
            if len(place):
                yield from np.roll(members, -place[0])[1:].tolist()

    def none_left(self, index: int) -> NoReturn:
        """Raises Paused, since no image can take this one's place."""
        part = next(p for p, indices in self._split.items() if index in indices)
        name = self.dataset.classes[self.dataset.labels[index]]
        self.give_up(f"no image of {name} in the {part} part can be read any more")

    @cached_property
    def _copies(self) -> dict[str, list[int]]:
        """Indices by content hash, for contents with several; computed when first needed."""
        members = np.concatenate([self._split["train"], self._split["validation"]])
        found: dict[str, list[int]] = {}
        for index, content in zip(
            members.tolist(), self.dataset.contents[members].tolist(), strict=True
        ):
            found.setdefault(content, []).append(index)
        return {content: indices for content, indices in found.items() if len(indices) > 1}


def _why(error: Exception) -> str:
    """The reason as a clause to follow a file's name."""
    if isinstance(error, OSError):
        return f"the file cannot be read ({error.strerror or type(error).__name__})"
    return getattr(error, "why", str(error))
