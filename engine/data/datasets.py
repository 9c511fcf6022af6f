"""Datasets: prepared once, then read without TensorFlow.

Preparing a dataset (`engine.data.prepare_worker`, in a process of its own) decodes every image once with the
decoder that will train, names and leaves out what cannot be read, and writes a folder under
`GRAFT_HOME/datasets`:

    manifest.json   title, classes, fingerprint, unreadable files, where it came from
    index.npz       one row an image: label, size, format, own split, content hash, place
    images.bin      the encoded images one after another (a folder source is read where it lies)

What a person decided about single images lies apart (`engine.data.overlay`) and is applied on opening.
A new kind of source is one generator in `engine/data/prepare_worker.py`.
"""

import json
import os
import re
import shutil
import time
from hashlib import sha256
from pathlib import Path

import filelock
import numpy as np

from engine import home as homes
from engine.data import overlay, splits
from engine.data.sources import archive, collection, folders, tfds_catalogue
from engine.data.sources.sample import VERSION
from engine.errors import DatasetError, LostImageError
from engine.host import processes

TFDS_SUGGESTIONS = tfds_catalogue.SUGGESTIONS
"""Names of TensorFlow Datasets to begin with, {name: what it is}."""


def key(spec) -> str:
    """The folder name of a prepared dataset: readable, and different for different sources. Its
    overlay is not part of it."""
    if spec.source == "sample":
        identity = {"sample": spec.images, "version": VERSION}
    elif spec.source == "tfds":
        # The same name in another data directory may be another version.
        identity = {"tfds": spec.name, "data_dir": os.environ.get("TFDS_DATA_DIR", "")}
    elif spec.source == "saved":
        identity = {"saved": spec.name}
    else:
        identity = {spec.source: str(folders.root(spec.path))}
    digest = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    return f"{re.sub(r'[^a-z0-9]+', '-', spec.title.lower()).strip('-')[:40]}-{digest}"


class Dataset:
    """A prepared dataset, ready to be looked at, split and trained on.

    Attributes:
        title, description: for people.
        classes: tuple of names; a label is an index into it.
        labels: int64 array (n,).
        widths, heights: int array (n,), pixels, after orientation.
        formats: str array (n,), such as "JPEG".
        source_splits: str array (n,), the source's own part.
        contents: str array (n,), SHA-256 of the file's bytes.
        names: list of n file names.
        generations: int array (n,), the addition each image came with, 0 the first.
        moved: str array (n,), the part a person put an image into, "" for all others.
        rows: int64 array (n,), each image's place in the dataset without overlay.
        unreadable: list of (name, sentence) that were left out.
        skipped: list of (name, sentence) of what lay beside the images of the classes.
        fingerprint: hash of all contents and labels, and of the overlay.
        overlay: the overlay's id, or "".
        source_fingerprint, source_classes: the same without the overlay.

    Args:
        path: the prepared dataset's folder.
        decisions: of `engine.data.overlay.load`, or None.
    """

    def __init__(self, path: Path, decisions: dict | None = None):
        self.path = Path(path)
        # All files of one folder, even if it is prepared anew, and replaced, this moment.
        try:
            self._folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            raise DatasetError(f"{self.path} is not a prepared dataset; prepare it first") from None
        try:
            self._read()
        except FileNotFoundError:
            raise DatasetError(
                f"{self.path} is not a prepared dataset, or is being prepared anew; try again"
            ) from None
        finally:
            os.close(self._folder)
        self._whole = (self.labels, self.contents, self.source_splits, self.generations)
        self.rows, self.moved = np.arange(len(self)), np.full(len(self), "", "U10")
        self.source_fingerprint, self.source_classes = self.fingerprint, self.classes
        self.overlay = ""
        if decisions:
            self._apply(decisions)

    def _opened(self, name):
        return open(name, "rb", opener=lambda n, flags: os.open(n, flags, dir_fd=self._folder))

    def _read(self) -> None:
        """Manifest, index, and the packed images, open."""
        with self._opened("manifest.json") as file, homes.reading(self.path / "manifest.json"):
            self.manifest = json.loads(file.read())
            self.title = self.manifest["title"]
            self.description = self.manifest["description"]
            self.classes = tuple(self.manifest["classes"])
            self.fingerprint = self.manifest["fingerprint"]
            self.unreadable = [tuple(item) for item in self.manifest["unreadable"]]
            self.skipped = [tuple(item) for item in self.manifest.get("skipped", ())]
        path = self.path / "index.npz"
        with self._opened(path.name) as file, homes.reading(path), np.load(file) as index:
            self.labels = index["labels"].astype(np.int64)
            self.widths, self.heights = index["widths"], index["heights"]
            self.formats, self.source_splits = index["formats"], index["source_splits"]
            self.contents, self.names = index["contents"], index["names"].tolist()
            self._offsets, self._lengths = index["offsets"], index["lengths"]
            count = len(self.labels)
            # Datasets prepared by an earlier version have no such column.
            self.generations = (
                index["generations"] if "generations" in index else np.zeros(count, int)
            )
        # No memory map: a file that is cut off while it is mapped ends the process.
        self._packed = None if self.manifest["folder"] else self._opened("images.bin")

    def _apply(self, decisions) -> None:
        """Leaves out, relabels and moves images as a person decided."""
        kept, self.labels, self.moved, classes = overlay.apply(
            decisions, self.contents, self.names, self.labels, self.classes
        )
        self.rows, self.names = kept, [self.names[i] for i in kept.tolist()]
        for name in (
            "widths", "heights", "formats", "source_splits", "contents", "generations",
            "_offsets", "_lengths",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[kept])
        self.classes, self.overlay = tuple(classes), decisions["id"]
        self.fingerprint = overlay.fingerprint(self.source_fingerprint, self.overlay)

    def __len__(self):
        return len(self.labels)

    @property
    def remedy(self) -> str:
        """What to do about images that can no longer be read."""
        if self._packed is None:
            return "put the files back or prepare the dataset again"
        return f"delete {self.path}, and it is prepared again when it is used next"

    def gone(self) -> np.ndarray:
        """Images whose file has gone or has another length, or that images.bin is too short for.

        Returns:
            int64 array of indices, sorted. Whether the bytes are those that were prepared shows when they
            are read.
        """
        if self._packed is not None:
            there = os.fstat(self._packed.fileno()).st_size
            return np.flatnonzero(self._offsets + self._lengths > there)
        sizes = [_size(Path(self.manifest["folder"]) / name) for name in self.names]
        return np.flatnonzero(np.array(sizes, np.int64) != self._lengths)

    def image_bytes(self, index: int) -> bytes:
        """The encoded image, the very bytes that were prepared.

        Raises:
            LostImageError: if its file has gone, or holds anything else by now. The SHA-256 costs 1% of
                decoding it, and no other check is sure: features are kept, and parts are split, by that
                hash.
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
        path = Path(self.manifest["folder"]) / self.names[index]
        try:
            # A file of another length is not even read: it may be huge by now, or a pipe.
            data = path.read_bytes() if path.stat().st_size == length else b""
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise LostImageError(path, f"can no longer be read ({why})") from None
        if sha256(data).hexdigest() != self.contents[index]:
            raise LostImageError(path, "has changed since the dataset was prepared")
        return data

    def division(self, spec) -> str:
        """How `split` divides the images, one sentence for people."""
        return splits.in_words(spec, self._whole[2])

    def split(self, spec) -> dict[str, np.ndarray]:
        """`{"train": indices, "validation": indices, "test": indices}`; see `engine.data.splits`.

        Decisions about single images move no other image: all of the source's are divided, by the labels
        that the source gives them, then those left out are taken away.
        """
        labels, contents, sources, generations = self._whole
        parts = splits.divide(spec, labels, contents, sources, generations)
        place = np.full(len(labels), -1)
        place[self.rows] = np.arange(len(self))
        parts = {part: place[rows][place[rows] >= 0] for part, rows in parts.items()}
        return splits.checked(splits.move(parts, self.moved), self.labels, self.classes)


def _size(path) -> int:
    """Bytes of a file; -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def open_dataset(spec, home: Path) -> Dataset:
    """The prepared dataset of a DatasetSpec, its overlay applied.

    Raises DatasetError if it is not ready, or its overlay is not on this host."""
    path = Path(home) / "datasets" / key(spec)
    if not (path / "manifest.json").exists():
        raise DatasetError(
            f"the dataset {spec.title} is not prepared yet; prepare it on the Dataset page"
        )
    return Dataset(path, overlay.load(home, spec.overlay) if spec.overlay else None)


def state(spec, home: Path) -> dict:
    """How far preparation is.

    Returns:
        A dict: state "missing", "preparing", "ready" or "failed"; done and total (images; total
        None while unknown); eta_seconds (or None); text, one line; error, one sentence or None.
    """
    folder = Path(home) / "datasets"
    name = key(spec)
    progress = homes.read_json(folder / f"{name}.progress.json", {})
    answer = {
        "state": "missing",
        "done": 0,
        "total": None,
        "eta_seconds": None,
        "text": "Not prepared yet",
        "error": None,
    }
    if _preparing(progress):
        done, total = progress.get("done", 0), progress.get("total")
        started = progress.get("started_counting")
        eta = None
        if total and done and started:
            eta = (time.time() - started) / done * (total - done)
        answer |= {
            "state": "preparing",
            "done": done,
            "total": total,
            "eta_seconds": eta,
            "text": progress.get("text", "Starting"),
        }
    elif (folder / name / "manifest.json").exists():
        answer |= {"state": "ready", "text": "Ready"}
    elif progress.get("error"):
        answer |= {"state": "failed", "text": "Failed", "error": progress["error"]}
    elif progress.get("pid") and not progress.get("done_at"):
        answer |= {
            "state": "failed",
            "text": "Stopped",
            "error": "preparation ended before it was done; start it again",
        }
    return answer


def prepare(spec, home: Path) -> None:
    """Starts preparing in the background; does nothing if it is under way or done.

    A folder that has changed since is prepared again. Raises DatasetError for a source that
    cannot be there.
    """
    home = Path(home)
    check(spec)
    if state(spec, home)["state"] == "preparing" or not outdated(spec, home):
        return
    name = key(spec)
    log = home / "datasets" / f"{name}.log"
    log.unlink(missing_ok=True)
    # No GPU: it reads files only, and TensorFlow would take the memory that training needs.
    child = processes.spawn(
        "engine.data.prepare_worker",
        spec.model_dump_json(),
        home,
        log=log,
        CUDA_VISIBLE_DEVICES="-1",
    )
    # Until the child holds its lock, this file says that it is on its way.
    homes.write_json(
        home / "datasets" / f"{name}.progress.json",
        processes.identity(child.pid) | {"text": "Starting"},
    )


def cancel(spec, home: Path) -> None:
    """Ends preparation that is under way; nothing half-made is left behind."""
    folder, name = Path(home) / "datasets", key(spec)
    progress = homes.read_json(folder / f"{name}.progress.json", {})
    if _preparing(progress):
        processes.end(progress)
    for leftover in folder.glob(f".{name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    (folder / f"{name}.progress.json").unlink(missing_ok=True)


def forget(spec, home: Path) -> None:
    """Deletes the prepared copy; the source itself is never touched."""
    cancel(spec, home)
    shutil.rmtree(Path(home) / "datasets" / key(spec), ignore_errors=True)


def check(spec) -> None:
    """Raises DatasetError, one sentence, for a source that cannot be there."""
    if spec.source == "folder":
        folders.check(spec.path)
    elif spec.source == "zip":
        archive.check(spec.path)


def outdated(spec, home: Path) -> bool:
    """Whether the dataset must be prepared (again): it is missing, or its source has changed."""
    manifest = homes.read_json(Path(home) / "datasets" / key(spec) / "manifest.json")
    return manifest is None or manifest["listing"] != listing(spec, home)


def listing(spec, home: Path, found=None) -> str:
    """A hash that changes when the source does; "" for sources that never do.

    Args:
        spec, home: as elsewhere.
        found: the open `engine.data.sources.collection.Saved` to tell of, for source saved; by default as it is now.

    Raises:
        DatasetError: if the source has gone, or holds too few classes.
    """
    if spec.source == "folder":
        return folders.listing_hash(folders.list_folder(spec.path))
    if spec.source == "zip":
        return archive.listing(spec.path)
    if spec.source == "saved":
        found = found or collection.open_(home, spec.name)
        before = ""
        if base := found.base_spec:
            before = listing(base, home) + (fingerprint(base, home) or "")
        return folders.listing_hash([before, found.listing()])
    return ""


def fingerprint(spec, home: Path) -> str | None:
    """The fingerprint of a prepared dataset, overlay included; None if it is not prepared."""
    manifest = homes.read_json(Path(home) / "datasets" / key(spec) / "manifest.json", {})
    found = manifest.get("fingerprint")
    return overlay.fingerprint(found, spec.overlay) if found and spec.overlay else found


_fingerprint = fingerprint  # where an argument has its name


def changed_since(
    spec, home: Path, fingerprint: str | None, since="this run began", count: int | None = None
) -> str | None:
    """Whether the prepared dataset is another one than before.

    Args:
        spec: a DatasetSpec.
        home: Graft's home.
        fingerprint: the dataset's `fingerprint` back then; None if it was not prepared yet.
        since: when that was, to follow "has changed since".
        count: images it had then, if known.

    Returns:
        One sentence that says what changed and what to do; None if nothing has, or if the dataset
        was not prepared then or is not now. A folder's changes count when it is prepared again
        (`outdated`).
    """
    manifest = homes.read_json(Path(home) / "datasets" / key(spec) / "manifest.json")
    if manifest is None or fingerprint is None or _fingerprint(spec, home) == fingerprint:
        return None
    had = "" if count is None else f"had {count:,} images then and now "
    return (
        f"the dataset {manifest['title']} has changed since {since}: it {had}has "
        f"{manifest['count']:,} images in {len(manifest['classes'])} classes; put the images back as "
        "they were and prepare it again, or start a new run on what is there now"
    )


def lock(home: Path, spec) -> filelock.FileLock:
    """The lock that whoever prepares a dataset holds."""
    return filelock.FileLock(Path(home) / "datasets" / f"{key(spec)}.lock")


def _preparing(progress) -> bool:
    """Whether a process is at it."""
    return not progress.get("error") and not progress.get("done_at") and processes.alive(progress)
