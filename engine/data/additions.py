"""Adding images to a dataset created in Graft: they are checked, copies are left out, and each
addition is one batch (`engine.data.sources.collection`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sized
from pathlib import Path
from typing import IO, Any, TypeAlias

from engine import home as homes
from engine.data import datasets
from engine.data.sources import archive, collection
from engine.errors import DatasetError, ImageError
from engine.host.parallel import cores, ordered_map
from engine.host.words import shown
from engine.images import decode

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with (images done, images in total or None)."""
_Item: TypeAlias = tuple[str, str, Callable[[], bytes]]
"""(label, file name, function that reads the bytes)."""


def add(
    home: Path,
    name: str,
    label: str,
    files: Iterable[tuple[str, bytes | IO[bytes]]],
    progress: Progress | None = None,
) -> tuple[int, list[tuple[str, str]]]:
    """Adds images of one class, as one batch.

    Args:
        home: Graft's home.
        name: of the dataset.
        label: their class, new or existing.
        files: (file name, bytes or an open binary file) of each image; the names are for people.
        progress: see `Progress`.

    Returns:
        (number of images added, list of (file name, why not) of the others).

    Raises:
        DatasetError: if the name of the class is not valid, there is no such dataset, or the disk
            is full; nothing is added then.
    """
    label = collection.clean_label(label)
    total = len(files) if isinstance(files, Sized) else None
    items = ((label, str(each), lambda data=data: _bytes(data)) for each, data in files)
    return _add(home, name, items, total, progress)


def add_zip(
    home: Path, name: str, path: str | Path, progress: Progress | None = None
) -> tuple[int, list[tuple[str, str]]]:
    """Adds the images of a zip's class folders, as one batch; see `add`.

    The zip's own parts (train, test) are ignored: the recipe's shares divide added images.
    """
    with archive.Archive(path, least_classes=1) as found:
        archive.check_space(home, found.size, found.title)
        labels, refused = {}, list(found.skipped)
        for label in {entry.label for entry in found.entries}:
            try:
                labels[label] = collection.clean_label(label)
            except DatasetError as error:
                refused.append((shown(label), str(error)))
        wanted = [entry for entry in found.entries if entry.label in labels]
        items = ((labels[e.label], e.name, lambda e=e: found.read(e)) for e in wanted)
        added, skipped = _add(home, name, items, len(wanted), progress)
    return added, skipped + refused


def _add(
    home: Path, name: str, items: Iterable[_Item], total: int | None, progress: Progress | None
) -> tuple[int, list[tuple[str, str]]]:
    """Checks images in order, keeps the new ones, and appends one batch."""
    collection.open_(home, name)  # raises if there is no such dataset
    folder = collection.folder_of(home, name)
    with collection.writing(folder), collection.lock(home, name):
        there = collection.open_(home, name)
        rows = there.rows()
        collection.sweep(folder, rows)  # files of an addition that stopped unexpectedly
        seen = {(row["content"], row["label"]) for row in rows} | _contents_of_base(home, there)
        batch = 1 + max((row["batch"] for row in rows), default=-1)
        skipped: list[tuple[str, str]] = []
        added: list[dict[str, Any]] = []
        (folder / "images").mkdir(exist_ok=True)
        try:
            for done, checked in enumerate(ordered_map(_check, items, cores()), 1):
                label, file, outcome = checked
                if isinstance(outcome, str):
                    skipped.append((shown(file), outcome))
                elif (outcome[1], label) in seen:
                    skipped.append((shown(file), f"it is already in {label}"))
                else:
                    data, content, format = outcome
                    seen.add((content, label))
                    kept = f"{content}.{collection.EXTENSIONS.get(format, format.lower())}"
                    if not (folder / "images" / kept).exists():
                        with homes.replacing(folder / "images" / kept, "wb") as out:
                            out.write(data)
                    values = (label, collection.file_name(file), batch, content, kept)
                    added.append(dict(zip(collection.FIELDS, values, strict=True)))
                if progress:
                    progress(done, total)
            collection.append(folder, added)
        except BaseException:
            collection.sweep(folder, rows)
            raise
    return len(added), skipped


def _check(item: _Item) -> tuple[str, str, tuple[bytes, str, str] | str]:
    """(label, file name, (bytes, SHA-256, format) or a sentence)."""
    label, name, read = item
    try:
        data = read()
        return label, name, (data, hashlib.sha256(data).hexdigest(), decode.info(data)[2])
    except ImageError as error:
        return label, name, str(error)
    except OSError as error:
        return label, name, f"the file cannot be read ({error.strerror})"


def _bytes(source: bytes | IO[bytes]) -> bytes:
    """The bytes of an upload or of an open file. Raises ImageError for too large a file."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    else:
        source.seek(0)  # it may have been read before
        data = source.read(decode.MAX_BYTES + 1)
    if len(data) > decode.MAX_BYTES:
        raise ImageError(f"the file is larger than {decode.MAX_BYTES // 10**6} MB")
    return data


def _contents_of_base(home: Path, found: collection.Saved) -> set[tuple[str, str]]:
    """(content, class) of the images that a dataset extends; none if those are not prepared, since
    preparing leaves copies out, too."""
    base = found.base_spec
    if not base or datasets.state(base, home)["state"] != "ready":
        return set()
    opened = datasets.open_dataset(base, home)
    labels = (opened.classes[i] for i in opened.labels.tolist())
    return set(zip(opened.contents.tolist(), labels, strict=True))
