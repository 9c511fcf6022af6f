"""Datasets: prepared once, then read without TensorFlow.

Preparing a dataset (`engine.ingest`, in a process of its own) decodes every image once with the
decoder that will train, names and leaves out what cannot be read, and writes a folder under
`GRAFT_HOME/datasets`:

    manifest.json   title, classes, fingerprint, unreadable files, where it came from
    index.npz       one row an image: label, size, format, own split, content hash, place
    images.bin      the encoded images one after another (a folder source is read where it lies)

A new kind of source is one generator in `engine/ingest.py`.
"""

import json
import os
import re
import shutil
import time
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import filelock
import numpy as np

from engine import home as homes
from engine import processes, splits
from engine.errors import DatasetError, LostImageError
from engine.images import EXTENSIONS
from engine.sample import VERSION

TFDS_SUGGESTIONS = {
    "tf_flowers": "3,670 photos of 5 kinds of flowers, 218 MiB",
    "beans": "1,295 photos of bean leaves, healthy or with one of 2 diseases, 171 MiB",
    "cats_vs_dogs": "23,262 photos of cats and dogs, 787 MiB",
    "oxford_flowers102": "8,189 photos of 102 kinds of flowers, 329 MiB",
    "rock_paper_scissors": "2,892 rendered hands in 3 poses, 219 MiB",
    "horses_or_humans": "1,283 rendered horses and humans, 154 MiB",
}
"""Image datasets to begin with; sizes from the catalogue of TensorFlow Datasets
(https://www.tensorflow.org/datasets/catalog/overview). Any other image classification name works."""


def key(spec) -> str:
    """The folder name of a prepared dataset: readable, and different for different sources."""
    if spec.source == "sample":
        identity = {"sample": spec.images, "version": VERSION}
    elif spec.source == "tfds":
        # The same name in another data directory may be another version.
        identity = {"tfds": spec.name, "data_dir": os.environ.get("TFDS_DATA_DIR", "")}
    else:
        identity = {"folder": str(Path(spec.path).expanduser().resolve())}
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
        unreadable: list of (name, sentence) that were left out.
        fingerprint: hash of all contents and labels.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.manifest = homes.read_json(self.path / "manifest.json")
        if self.manifest is None:
            raise DatasetError(f"{self.path} is not a prepared dataset; prepare it first")
        self.title = self.manifest["title"]
        self.description = self.manifest["description"]
        self.classes = tuple(self.manifest["classes"])
        self.fingerprint = self.manifest["fingerprint"]
        self.unreadable = [tuple(item) for item in self.manifest["unreadable"]]
        with np.load(self.path / "index.npz") as index:
            self.labels = index["labels"].astype(np.int64)
            self.widths, self.heights = index["widths"], index["heights"]
            self.formats, self.source_splits = index["formats"], index["source_splits"]
            self.contents, self.names = index["contents"], index["names"].tolist()
            self._offsets, self._lengths = index["offsets"], index["lengths"]

    def __len__(self):
        return len(self.labels)

    @property
    def packed_bytes(self) -> int:
        """Bytes that images.bin must hold; 0 for a folder that is read where it lies."""
        return 0 if self.manifest["folder"] else int((self._offsets + self._lengths).max(initial=0))

    @cached_property
    def _packed(self):
        return np.memmap(self.path / "images.bin", np.uint8, "r")

    def image_bytes(self, index: int) -> bytes:
        """The encoded image, the very bytes that were prepared.

        Raises:
            LostImageError: if the file of a folder has gone, or holds anything else by now. Its SHA-256
                costs 1% of decoding it, and no other check is sure: features are kept, and parts
                are split, by that hash.
        """
        start, length = int(self._offsets[index]), int(self._lengths[index])
        if not self.manifest["folder"]:
            return self._packed[start : start + length].tobytes()
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

    def split(self, spec) -> dict[str, np.ndarray]:
        """`{"train": indices, "validation": indices, "test": indices}`; see `engine.splits`."""
        return splits.split(spec, self.labels, self.contents, self.source_splits, self.classes)


def open_dataset(spec, home: Path) -> Dataset:
    """The prepared dataset of a DatasetSpec. Raises DatasetError if it is not ready."""
    path = Path(home) / "datasets" / key(spec)
    if not (path / "manifest.json").exists():
        raise DatasetError(
            f"the dataset {spec.title} is not prepared yet; prepare it on the Dataset page"
        )
    return Dataset(path)


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
        "engine.ingest", spec.model_dump_json(), home, log=log, CUDA_VISIBLE_DEVICES="-1"
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
    """Raises DatasetError, one sentence, for a folder that is not there, is a file, or may not be
    read."""
    if spec.source != "folder":
        return
    folder = Path(spec.path).expanduser()
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, ValueError):  # ValueError: a path that no file can have
        raise DatasetError(
            f"there is no folder {folder} on this host; put it back or give another one"
        ) from None
    except NotADirectoryError:
        raise DatasetError(
            f"{folder} is a file; give a folder that holds one folder for each class"
        ) from None
    except OSError as error:
        raise DatasetError(
            f"the folder {folder} cannot be read ({error.strerror}); allow it to be read or give "
            "another one"
        ) from None


def outdated(spec, home: Path) -> bool:
    """Whether the dataset must be prepared (again): it is missing, or its folder has changed."""
    manifest = homes.read_json(Path(home) / "datasets" / key(spec) / "manifest.json")
    if manifest is None:
        return True
    return spec.source == "folder" and manifest["listing"] != listing_hash(list_folder(spec.path))


def fingerprint(spec, home: Path) -> str | None:
    """The fingerprint of a prepared dataset; None if it is not prepared."""
    return homes.read_json(Path(home) / "datasets" / key(spec) / "manifest.json", {}).get(
        "fingerprint"
    )


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
    if manifest is None or fingerprint is None or manifest["fingerprint"] == fingerprint:
        return None
    had = "" if count is None else f"had {count:,} images then and now "
    return (
        f"the dataset {manifest['title']} has changed since {since}: it {had}has "
        f"{manifest['count']:,} images in {len(manifest['classes'])} classes; put the images back as "
        "they were and prepare it again, or start a new run on what is there now"
    )


def folder_root(path) -> Path:
    """The absolute path that the names of `list_folder` are relative to."""
    return Path(path).expanduser().resolve()


def list_folder(path, least_classes: int = 2) -> list[tuple[str, str, str, int, int]]:
    """The image files of a class-per-folder directory.

    Either `root/class/…/file` or, where root holds nothing but folders named like parts (train,
    val, test), `root/part/class/…/file`.

    Returns:
        Sorted rows (relative path, own part, class, bytes, modification time in ns). Hidden files
        and files without an image extension are left out; so are classes without any image.

    Raises:
        DatasetError: if fewer than `least_classes` classes hold images, or the folder has gone.
    """
    root = folder_root(path)
    try:
        top_folders = sorted(
            p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")
        )
    except OSError as error:
        raise DatasetError(
            f"the folder {root} cannot be read ({error.strerror}); put it back or give another one"
        ) from None
    own_names = {name for names in splits._OWN_NAMES.values() for name in names}
    in_parts = bool(top_folders) and all(name.lower() in own_names for name in top_folders)
    rows = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        parts = Path(folder).relative_to(root).parts
        if len(parts) < 1 + in_parts:
            continue
        part = parts[0].lower() if in_parts else "train"
        for file in files:
            if file.startswith(".") or file.rsplit(".", 1)[-1].lower() not in EXTENSIONS:
                continue
            full = os.path.join(folder, file)
            try:
                status = os.stat(full)
            except OSError:  # a dangling link: named as unreadable when it is prepared
                rows.append((os.path.relpath(full, root), part, parts[in_parts], 0, 0))
                continue
            rows.append(
                (
                    os.path.relpath(full, root),
                    part,
                    parts[in_parts],
                    status.st_size,
                    status.st_mtime_ns,
                )
            )
    classes = {row[2] for row in rows}
    if len(classes) < least_classes:
        found = f"only {next(iter(classes))!r} holds images" if classes else "none holds images"
        raise DatasetError(
            f"{root} needs at least {least_classes} folder{'s' * (least_classes > 1)} of images, one for each class ({found}); files must "
            f"end in {', '.join(EXTENSIONS[:8])} or the like"
        )
    return sorted(rows)


def listing_hash(rows) -> str:
    """A hash of names, sizes and times: changes when files are added, removed or rewritten."""
    return sha256(json.dumps(rows).encode()).hexdigest()


def lock(home: Path, spec) -> filelock.FileLock:
    """The lock that whoever prepares a dataset holds."""
    return filelock.FileLock(Path(home) / "datasets" / f"{key(spec)}.lock")


def _preparing(progress) -> bool:
    """Whether a process is at it."""
    return not progress.get("error") and not progress.get("done_at") and processes.alive(progress)
