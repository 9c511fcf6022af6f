"""Prepares a dataset: `prepare` in the background, or `ingest` in this process.

TensorFlow Datasets, and TensorFlow with it, is imported only for source tfds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine import home as homes
from engine.data import copies, datasets, splits
from engine.data.prepared import Dataset
from engine.data.sources import archive, collection, folders, tfds_source, tree
from engine.data.sources.source import Item, Source
from engine.data.sources.tree import Image, Tree
from engine.errors import DatasetError, ImageError
from engine.host import manifest, words
from engine.host.background import Report, silent
from engine.host.parallel import cores, ordered_map
from engine.host.words import shown
from engine.images import decode, depth
from engine.recipe import DatasetSpec

NO_IMAGE = "none of its images can be read, so it is not a class here"


def prepare(spec: DatasetSpec, home: Path, report: Report) -> str | None:
    """The work of `engine.data.datasets.prepare`; returns the dataset's fingerprint."""
    return ingest(spec, home, report).fingerprint


def ingest(
    spec: DatasetSpec,
    home: Path,
    report: Report = silent,
    fingerprint: str | None = None,
) -> Dataset:
    """Prepares a dataset, or opens it if it is ready and unchanged.

    Args:
        spec: a DatasetSpec.
        home: Graft's home.
        report: see `Report`.
        fingerprint: of the dataset that a resumed run started with. A prepared copy that has it is
            opened even if the folder has changed since: its images are still those of the run,
            which skips the ones it can no longer read (`engine.data.unreadable`).

    Returns:
        The open Dataset.

    Raises:
        DatasetError: if the source cannot be used, or the dataset cannot be written.
    """
    home = Path(home)
    datasets.check(spec)
    with datasets.lock(home, spec):
        same = fingerprint is not None and datasets.fingerprint(spec, home) == fingerprint
        if same or not datasets.outdated(spec, home):
            return datasets.open_dataset(spec, home)
        report(f"Opening {spec.title}", 0, None)
        source = SOURCES[spec.source](spec, home, report)
        target = home / "datasets" / datasets.key(spec)
        for leftover in target.parent.glob(f".{target.name}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            _write(source, spec, aside, report)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(aside, target)
        except OSError as error:
            raise DatasetError(
                f"the dataset could not be written to {target.parent} ({error.strerror}); free "
                "some space or set GRAFT_HOME to another disk"
            ) from None
        finally:
            source.close()
            shutil.rmtree(aside, ignore_errors=True)
    return datasets.open_dataset(spec, home)


COLUMNS = {
    "names": None, "labels": np.int32, "source_splits": None, "widths": np.int32,
    "heights": np.int32, "formats": None, "bits": np.int16, "contents": None, "offsets": np.int64,
    "lengths": np.int64, "generations": np.int32, "paths": None,
}  # fmt: skip
"""Arrays of index.npz with their types; None for text, and bytes for paths of files that stay in
their folder: they need not be UTF-8."""


def _write(source: Source, spec: DatasetSpec, folder: Path, report: Report) -> None:
    """Checks every image with the decoder that training uses, and writes index and manifest."""
    greys = copies.Greys(folder)
    rows, unreadable = _pack(source, folder / "images.bin", greys, report)
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    index = {
        name: np.array(column, kind)
        for (name, kind), column in zip(COLUMNS.items(), columns, strict=True)
    }
    present = set(index["labels"].tolist())
    if len(present) < 2:
        raise DatasetError(
            f"{source.title} has readable images of "
            f"{words.plural(len(present), 'class', 'classes')}; "
            f"at least two are needed ({words.plural(len(unreadable), 'file')} could not be read)"
        )
    # A class without a readable image cannot be trained, so it is not a class here.
    kept = [i for i in range(len(source.classes)) if i in present]
    gone = [name for i, name in enumerate(source.classes) if i not in present]
    source.skipped += [(f"{name}/", NO_IMAGE) for name in gone]
    if gone:
        source.notes.append(f"No image of {words.listed(gone)} can be read: not a class here.")
    index["labels"] = np.searchsorted(kept, index["labels"]).astype(np.int32)
    classes = [source.classes[i] for i in kept]
    labelled = zip(*(index[k].tolist() for k in ("contents", "labels", "bits")), strict=True)
    # What is kept of images that earlier versions scaled in another way does not count any more.
    lines = sorted(f"{d}:{classes[label]}{f':{bits}' * (bits > 0)}" for d, label, bits in labelled)
    np.savez(folder / "index.npz", **index)  # type: ignore[arg-type]
    contents = index["contents"]
    copies.save(
        folder, contents, copies.find(greys.array(), contents, index["generations"], report)
    )
    homes.write_json(
        folder / "manifest.json",
        {
            "title": source.title,
            "description": source.description,
            "classes": classes,
            "source": spec.model_dump(),
            "folder": source.folder,
            "listing": source.listing,
            "depth": depth.VERSION,
            "count": len(rows),
            "unreadable": unreadable,
            "skipped": source.skipped,
            "left_out": source.left_out,
            "notes": source.notes,
            "prepared": time.time(),
            "fingerprint": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        },
    )
    # Last. The SHA-256 of each image is in the index: images.bin is checked image by image.
    manifest.write(folder / manifest.FILE, ("manifest.json", "index.npz", copies.FILE))


def _pack(
    source: Source, path: Path, greys: copies.Greys, report: Report
) -> tuple[list[tuple[Any, ...]], list[tuple[str, str]]]:
    """Writes the images that can be read into one file, unless they stay in their folder.

    Returns:
        Rows in the order of `COLUMNS`, and (name, sentence) of each image that cannot be read.
    """
    rows, unreadable, offset, text = [], [], 0, "Checking images"
    report(text, 0, source.total)
    checked = ordered_map(_check, source.items, cores())
    with open(path, "wb") as packed:
        for done, ((name, label, part, generation), outcome) in enumerate(checked, 1):
            if isinstance(outcome, str):
                unreadable.append((name, outcome))
            else:
                data, facts, digest, grey = outcome
                greys.add(grey)
                place = source.paths.get(name, b"")
                stored = (digest, offset, len(data), generation, place)
                rows.append((name, label, part, *facts, *stored))
                if not source.folder:
                    packed.write(data)
                    offset += len(data)
            if done % 50 == 0 or done == source.total:
                report(text, done, source.total)
    return rows, unreadable


def _check(item: Item) -> tuple[tuple[Any, ...], Any]:
    """(name, label, own part, generation), and (bytes, Facts, SHA-256, grey image) or a
    sentence."""
    *head, read = item
    try:
        data = read()
        picture, facts = decode.read_with_facts(data)
        found = (data, facts, hashlib.sha256(data).hexdigest(), copies.grey(picture))
        return tuple(head), found
    except ImageError as error:
        return tuple(head), str(error)
    except OSError as error:
        return tuple(head), f"the file cannot be read ({error.strerror})"


def _sample(spec: DatasetSpec, home: Path, report: Report) -> Source:
    from engine.data.sources import sample

    made = sample.generate(spec.images)
    return Source(
        "sample",
        sample.DESCRIPTION,
        list(sample.CLASSES),
        spec.images,
        ((name, label, "train", 0, partial(bytes, data)) for name, label, data in made),
    )


def _folder(spec: DatasetSpec, home: Path, report: Report) -> Source:
    root = folders.root(spec.path)
    found = folders.list_folder(root, spec.layout)

    def read(image: Image) -> bytes:
        return (root / image.origin.path).read_bytes()

    source = _of_tree(root.name, f"Images in {shown(str(root))}", found, read)
    source.folder, source.listing = str(root), folders.listing(found)
    source.paths = {image.name: os.fsencode(image.origin.path) for image in found.images}
    return source


def _zip(spec: DatasetSpec, home: Path, report: Report) -> Source:
    """The images of a zip, read one by one: nothing is unpacked, so no name in it becomes a path on
    this host."""
    listing = datasets.listing(spec, home)  # first, so that a change while it is read shows
    found = archive.Archive(spec.path, layout=spec.layout)
    try:
        archive.check_space(home, found.size, found.title)
    except DatasetError:
        found.close()
        raise
    source = _of_tree(spec.title, f"Images in {found.title}", found.tree, found.read)
    source.listing, source.close = listing, found.close
    if found.encoding != "utf-8":
        names = (*found.tree.classes, found.tree.above, *(image.name for image in found.entries))
        example = next((name for name in names if not name.isascii()), "")
        source.notes.append(
            f"The zip does not say how its names are spelt; they were read as {found.encoding}"
            f"{f' ({example})' if example else ''}. If they look wrong, pack it again with a "
            "program that writes UTF-8 names, such as 7-Zip."
        )
    return source


def _of_tree(title: str, description: str, found: Tree, read: Callable[[Image], bytes]) -> Source:
    """A source of the images of a folder or a zip.

    Args:
        title, description, found: of the Source.
        read: returns the bytes of an image.
    """
    numbers = {name: i for i, name in enumerate(found.classes)}
    items = (
        (image.name, numbers[image.label], image.part, 0, partial(read, image))
        for image in found.images
    )
    return Source(
        title,
        description,
        found.classes,
        len(found.images),
        items,
        skipped=tree.told(found),
        left_out={why: len(names) for why, names in found.left_out.items()},
        notes=[f"Understood as {found.understood}.", *(f"{title} {note}." for note in found.notes)],
    )


def _saved(spec: DatasetSpec, home: Path, report: Report) -> Source:
    """A dataset that was built in Graft: the images of its base, then those that were added."""
    base_spec = collection.open_(home, spec.name).base_spec
    base = ingest(base_spec, home, report) if base_spec else None
    # Opened again after the base, so that listing and rows agree on what was added meanwhile.
    found = collection.open_(home, spec.name)
    listing = datasets.listing(spec, home, found)
    rows = found.rows()
    labels = {row["label"] for row in rows}
    if not base and len(labels) < 2:
        there = f"only {next(iter(labels))!r}" if labels else "none yet"
        raise DatasetError(
            f"{spec.name} needs images of at least two classes ({there}); add images of another "
            "class"
        )
    classes = [*base.classes, *sorted(labels - set(base.classes))] if base else sorted(labels)
    numbers = {name: i for i, name in enumerate(classes)}
    skipped: list[tuple[str, str]] = []
    if base:
        skipped, copy = list(base.skipped), f"{base.title} has a copy of it"
        present = set(zip(base.contents.tolist(), base.labels.tolist(), strict=True))
        added = []
        for row in rows:
            if (row["content"], numbers[row["label"]]) in present:
                skipped.append((f"{row['label']}/{row['name']}", copy))
            else:
                added.append(row)
        rows = added
    first = 1 + int(base.generations.max(initial=0)) if base else 0
    part = splits.ADDED if base else "train"

    def items() -> Iterator[Item]:
        if base:
            for i in range(len(base)):
                own, generation = str(base.source_splits[i]), int(base.generations[i])
                read = partial(base.image_bytes, i)
                yield base.names[i], int(base.labels[i]), own, generation, read
        for row in rows:
            name, label = f"{row['label']}/{row['name']}", numbers[row["label"]]
            yield name, label, part, first + row["batch"], partial(found.read, row)

    total = len(rows) + (len(base) if base else 0)
    left_out = dict(base.left_out) if base else {}
    if base and len(skipped) > len(base.skipped):
        left_out[copy] = len(skipped) - len(base.skipped)
    return Source(
        spec.name, found.description, classes, total, items(), listing=listing, skipped=skipped,
        left_out=left_out, notes=base.notes if base else [],
    )  # fmt: skip


SOURCES: dict[str, Callable[[DatasetSpec, Path, Report], Source]] = {
    "sample": _sample,
    "folder": _folder,
    "zip": _zip,
    "saved": _saved,
    "tfds": tfds_source.open_source,
}
