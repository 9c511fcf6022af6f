"""Images that can no longer be read while a run works with them: skipped, counted and named.

Light. A folder is read where it lies, so a file may go, be cut off or be overwritten at any time
after it was prepared. A run then *skips* that image: wherever it is due, the next image of its
class in its part takes its place, so that a batch keeps its shape and its answers stay right.
Testing leaves it out. Beyond `UNREADABLE_SHARE` of the run's images the run pauses instead, since
it would no longer be the run that was asked for.

Which image takes the place follows from what can be read and from nothing else, so a run that is
taken up goes on as it would have done. What was once unreadable is not tried again by the same
process; what the memory or the feature cache holds already is not read again, and so not missed.
"""

import threading
from functools import cached_property

import numpy as np

from engine.errors import DatasetError, GraftError, ImageError
from engine.host.signals import Paused, Stopped

UNREADABLE_SHARE = 0.01
"""Largest part of its images that a run goes on without; one file is always allowed. One in a
hundred moves the accuracy by less than chance does (on 350 test images the 95% interval reaches 3
points and more to either side), while a folder or a disk that has gone is far beyond it within the
first batches."""
NAMED = 20
"""Files that are named one by one; after that, every doubling of their number is told."""
READING = (DatasetError, ImageError, OSError)
"""What reading and decoding an image may raise."""
REMEDY = "put them back and resume the run, or prepare the dataset again and start a new run"


class Unreadable:
    """The images of a run that can no longer be read; may be used from any thread.

    Args:
        dataset: an open Dataset.
        split: {"train": indices, "validation": indices, "test": indices}, disjoint.
        warn: called with one sentence.

    Attributes:
        dataset: as given.
        total: images of the run.
        allowed: how many of them it goes on without.
        pause: the Paused that was raised, or None.
    """

    def __init__(self, dataset, split, warn):
        self.dataset, self._split, self._warn = dataset, split, warn
        self.total = sum(len(indices) for indices in split.values())
        self.allowed = max(1, int(UNREADABLE_SHARE * self.total))
        self.pause = None
        self._why, self._told, self._lock = {}, NAMED, threading.Lock()

    def __contains__(self, index):
        return int(index) in self._why

    def rows(self, indices) -> list[list[str]]:
        """[name, why] of those among images that are known to be unreadable."""
        return [[self.dataset.names[i], self._why[i]] for i in map(int, indices) if i in self]

    def note(self, index: int, error: Exception) -> None:
        """Counts an image that could not be read, and names it if it is new.

        Args:
            index: of the image in the dataset.
            error: what reading it raised, one of READING.

        Raises:
            Paused: if the run has lost more than it goes on without.
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
                    f"more than the {self.allowed:,} it goes on without"
                )
            elif count <= NAMED:
                name = self.dataset.names[index]
                self._warn(f"{name} is skipped from now on: {self._why[index]}")
            elif count == 2 * self._told:
                self._told = count
                self._warn(f"{count:,} files are skipped by now, since they can no longer be read")

    def give_up(self, what: str):
        """Raises Paused, one sentence, and keeps it as `pause`: tf.data wraps what is raised in it.

        The first one stays: other threads may come here before the run has ended.
        """
        if self.pause is None:
            example = next(iter(self._why), None)
            named = (
                "" if example is None else " (for example {}: {})".format(*self.rows([example])[0])
            )
            self.pause = Paused(f"{what}{named}; {REMEDY}")
        raise self.pause

    def reraise(self, error: Exception) -> None:
        """Raises the pause that was raised inside tf.data, where it becomes a TensorFlow error.

        Args:
            error: what fit or evaluate raised; nothing happens if it has another cause.
        """
        if self.pause and not isinstance(error, (GraftError, Paused, Stopped)):
            raise self.pause from None

    def readable(self, indices):
        """Yields (index, encoded bytes) of the images that can be read, in order; notes the others."""
        for index in map(int, indices):
            if index in self:
                continue
            try:
                data = self.dataset.image_bytes(index)
            except READING as error:
                self.note(index, error)
            else:
                yield index, data

    def copies(self, index: int):
        """Yields an image's index, then those of identical images that the run learns from or
        validates with: whichever can be read is the same image."""
        yield index
        content = self.dataset.contents[index]
        yield from (other for other in self._copies.get(str(content), ()) if other != index)

    def peers(self, index: int):
        """Yields the other images of an image's class in its part, from the next one on and round to
        the first: those that may take its place."""
        labels = self.dataset.labels
        for part in ("train", "validation"):
            members = self._split[part][labels[self._split[part]] == labels[index]]
            place = np.flatnonzero(members == index)
            if len(place):
                yield from np.roll(members, -place[0])[1:].tolist()

    def none_left(self, index: int):
        """Raises Paused, since nothing can take an image's place."""
        part = next(p for p, indices in self._split.items() if index in indices)
        name = self.dataset.classes[self.dataset.labels[index]]
        self.give_up(f"no image of {name} in the {part} part can be read any more")

    @cached_property
    def _copies(self) -> dict[str, list[int]]:
        """Indices by content hash, where there are several; made when it is first needed."""
        members = np.concatenate([self._split["train"], self._split["validation"]])
        found = {}
        for index, content in zip(
            members.tolist(), self.dataset.contents[members].tolist(), strict=True
        ):
            found.setdefault(content, []).append(index)
        return {content: indices for content, indices in found.items() if len(indices) > 1}


def _why(error) -> str:
    """The reason as a clause that follows a file's name."""
    if isinstance(error, OSError):
        return f"the file cannot be read ({error.strerror or type(error).__name__})"
    return getattr(error, "why", str(error))
