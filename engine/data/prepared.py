"""A prepared dataset, open: its images, their labels and their parts. Light."""

from __future__ import annotations

import json
import os
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import numpy as np

from engine import home as homes
from engine.data import copies, groups, overlay, splits
from engine.errors import DamagedFile, DatasetError, LostImageError
from engine.host import manifest, words
from engine.recipe import SplitSpec


class Dataset:
    """A prepared dataset.

    Attributes:
        title, description: for people.
        classes: tuple of names; a label is an index into it.
        labels: int64 array (n,).
        widths, heights: int array (n,), pixels, after orientation.
        formats: str array (n,), such as "JPEG".
        bits: int16 array (n,), those that an image of more than 8 bits is scaled by, or 0.
        source_splits: str array (n,), the source's own part.
        contents: str array (n,), SHA-256 of the file's bytes.
        names: list of n file names.
        generations: int array (n,), the addition each image came with, 0 the first.
        moved: str array (n,), the part that a person moved an image to, "" for all others.
        rows: int64 array (n,), each image's place in the dataset without overlay.
        unreadable: list of (name, sentence) of images that cannot be read.
        skipped: list of (name, sentence) of what is left out, for people.
        left_out: {why: number of files and folders} of all that is left out.
        notes: sentences about how the source's folders and names were understood.
        fingerprint: hash of all contents and labels, and of the overlay.
        overlay: the overlay's id, or "".
        source_fingerprint, source_classes: the same without the overlay.

    Args:
        path: the prepared dataset's folder.
        decisions: of `engine.data.overlay.load`, or None.
    """

    def __init__(self, path: Path, decisions: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        # All files of one folder, even if it is prepared again, and replaced, at this moment.
        try:
            self._folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            raise DatasetError(f"{self.path} is not a prepared dataset; prepare it first") from None
        try:
            self._read()
        except FileNotFoundError:
            raise DatasetError(
                f"{self.path} is not a prepared dataset, or is being prepared; try again"
            ) from None
        finally:
            os.close(self._folder)
        self._whole = splits.Images(
            self.labels, self.contents, self.source_splits, self.generations
        )
        self._whole_names = self.names
        self.rows, self.moved = np.arange(len(self)), np.full(len(self), "", "U10")
        self.source_fingerprint, self.source_classes = self.fingerprint, self.classes
        self.overlay = ""
        if decisions:
            self._apply(decisions)

    def _opened(self, name: str) -> IO[bytes]:
        return open(name, "rb", opener=lambda n, flags: os.open(n, flags, dir_fd=self._folder))

    def _read(self) -> None:
        """Manifest, index, and the packed images, open."""
        manifest.check(self.path / manifest.FILE, "manifest.json", "index.npz")
        with self._opened("manifest.json") as file, homes.reading(self.path / "manifest.json"):
            self.manifest = json.loads(file.read())
            self.title = self.manifest["title"]
            self.description = self.manifest["description"]
            self.classes = tuple(self.manifest["classes"])
            self.fingerprint = self.manifest["fingerprint"]
            self.unreadable = [tuple(item) for item in self.manifest["unreadable"]]
            self.skipped = [tuple(item) for item in self.manifest.get("skipped", ())]
            self.left_out = self.manifest.get("left_out", {})
            self.notes = self.manifest.get("notes", [])
        path = self.path / "index.npz"
        with self._opened(path.name) as file, homes.reading(path), np.load(file) as index:
            self.labels = index["labels"].astype(np.int64)
            self.widths, self.heights = index["widths"], index["heights"]
            self.formats, self.source_splits = index["formats"], index["source_splits"]
            zeros = np.zeros(len(self.labels), np.int16)
            self.bits = index["bits"] if "bits" in index else zeros
            self.contents, self.names = index["contents"], index["names"].tolist()
            self._offsets, self._lengths = index["offsets"], index["lengths"]
            paths = index["paths"].tolist() if "paths" in index else self.names
            self._paths = np.array([os.fsencode(path) for path in paths], object)
            count = len(self.labels)
            # Datasets that an earlier version prepared have no such column.
            self.generations = (
                index["generations"] if "generations" in index else np.zeros(count, int)
            )
        # No memory map: if a mapped file is cut off, the process dies.
        try:
            self._packed = None if self.manifest["folder"] else self._opened("images.bin")
        except FileNotFoundError:
            raise DamagedFile(self.path / "images.bin", manifest.MISSING) from None

    def _apply(self, decisions: dict[str, Any]) -> None:
        """Leaves out, relabels and moves images as a person decided."""
        kept, self.labels, self.moved, classes = overlay.apply(
            decisions, self.contents, self.names, self.labels, self.classes
        )
        self.rows, self.names = kept, [self.names[i] for i in kept.tolist()]
        for name in (
            "widths", "heights", "formats", "bits", "source_splits", "contents", "generations",
            "_offsets", "_lengths", "_paths",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[kept])
        self.classes, self.overlay = tuple(classes), decisions["id"]
        self.fingerprint = overlay.fingerprint(self.source_fingerprint, self.overlay)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def remedy(self) -> str:
        """What to do about images that can no longer be read."""
        if self._packed is None:
            return "put the files back or prepare the dataset again"
        return f"delete {self.path}; it is prepared again when it is used next"

    def gone(self) -> np.ndarray:
        """Images whose file is missing or has another length, or that images.bin is too short for.

        Returns:
            int64 array of indices, sorted. Changed bytes show only in `image_bytes`.
        """
        if self._packed is not None:
            there = os.fstat(self._packed.fileno()).st_size
            return np.flatnonzero(self._offsets + self._lengths > there)
        sizes = [_size(self._path(index)) for index in range(len(self))]
        return np.flatnonzero(np.array(sizes, np.int64) != self._lengths)

    @property
    def cut_off(self) -> str:
        """One sentence if images.bin is too short for its images; "" if it is not."""
        if self._packed is None or not (lost := len(self.gone())):
            return ""
        return (
            f"{words.plural(lost, 'image')} of {len(self):,} can no longer be read, because "
            f"{self.path / 'images.bin'} is cut off; python -m engine doctor --fix prepares the "
            "dataset again"
        )

    def image_bytes(self, index: int) -> bytes:
        """The encoded image, the same bytes that were prepared.

        Raises:
            LostImageError: if its file is missing or has changed. The SHA-256 costs 1% of decoding,
                and no other check is sure: features are kept, and parts are split, by that hash.
        """
        start, length = int(self._offsets[index]), int(self._lengths[index])
        if self._packed is not None:
            data = os.pread(self._packed.fileno(), length, start)
            if sha256(data).hexdigest() != self.contents[index]:
                raise LostImageError(
                    f"{self.names[index]} in {self.path / 'images.bin'}",
                    "is cut off or has changed since the dataset was prepared",
                    self.remedy,
                )
            return data
        path = self._path(index)
        try:
            # A file of another length is not read: it may be huge by now, or a pipe.
            data = path.read_bytes() if path.stat().st_size == length else b""
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise LostImageError(path, f"can no longer be read ({why})") from None
        if sha256(data).hexdigest() != self.contents[index]:
            raise LostImageError(path, "has changed since the dataset was prepared")
        return data

    def _path(self, index: int) -> Path:
        """The file of an image that stays in its folder."""
        return Path(self.manifest["folder"]) / os.fsdecode(self._paths[index])

    @property
    def copies(self) -> np.ndarray:
        """int32 array (n,): the number of the group of copies that each image belongs to, or -1
        (`engine.data.copies`). Of a dataset that an earlier version prepared they are looked for
        the first time they are asked for, which takes seconds."""
        return self._whole_copies[self.rows]

    @cached_property
    def _whole_copies(self) -> np.ndarray:
        whole = Dataset(self.path) if self.overlay else self
        images = self._whole
        return copies.of(self.path, images.contents, images.generations, whole.image_bytes)

    def _grouped(self, spec: SplitSpec) -> splits.Images:
        """All images of the source, in the groups that a SplitSpec keeps together."""
        if spec.group_by == "none" or splits.method(spec, self._whole.sources) == "slices":
            return self._whole
        named = groups.keys(spec, self._whole_names, self.source_classes)
        return groups.joined(self._whole, named, self._whole_copies)

    @property
    def left_out_text(self) -> str:
        """How many files of the source are not used, and why; "" if all are used."""
        reasons = self.left_out | ({"it cannot be read": n} if (n := len(self.unreadable)) else {})
        if not reasons:
            return ""
        total = words.plural(sum(reasons.values()), "file or folder", "files and folders")
        most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        return f"{total} left out: {'; '.join(f'{count:,}: {why}' for why, count in most)}."

    def division(self, spec: SplitSpec) -> str:
        """How `split` divides the images, in sentences for people."""
        text = splits.in_words(spec, self._whole.sources)
        if spec.group_by == "none" and not copies.known(self.path):
            return text  # looking for copies takes seconds, and does not change these parts
        try:
            images = self._grouped(spec)
            parts = splits.divide(spec, images)
        except DatasetError:  # `split` says what is wrong
            return text
        kept = groups.in_words(spec, images, parts, self._whole_copies, self.source_classes)
        return " ".join([text, *kept])

    def split(self, spec: SplitSpec) -> dict[str, np.ndarray]:
        """`{"train": indices, "validation": indices, "test": indices}`; see `engine.data.splits`.

        Decisions about single images move no other image: all images of the source are divided by
        the source's labels, then those that were excluded are removed.
        """
        parts = splits.divide(spec, self._grouped(spec))
        place = np.full(len(self._whole.labels), -1)
        place[self.rows] = np.arange(len(self))
        parts = {part: place[rows][place[rows] >= 0] for part, rows in parts.items()}
        return splits.checked(splits.move(parts, self.moved), self.labels, self.classes)


def facts(path: Path) -> dict[str, Any] | None:
    """The manifest.json of a prepared dataset; None if it is not prepared.

    Raises:
        DamagedFile: if it is not what was written.
    """
    if not (path / "manifest.json").exists():
        return None
    manifest.check(path / manifest.FILE, "manifest.json")
    return homes.read_json(path / "manifest.json")


def _size(path: Path) -> int:
    """Bytes of a file; -1 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
