"""Prepares a dataset: `python -m engine.data.prepare_worker SPEC_JSON HOME`, or `ingest` in the foreground.

TensorFlow Datasets, and TensorFlow with it, is imported only for source tfds.
"""

import difflib
import hashlib
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine import home as homes
from engine.data import datasets, splits
from engine.data.sources import archive, collection, folders, tfds_download, zip_names
from engine.errors import DatasetError, GraftError, ImageError
from engine.host import processes
from engine.host.parallel import cores, ordered_map
from engine.images import decode
from engine.recipe import tfds_problem


@dataclass
class Source:
    """What a source says of itself, and its images in a fixed order.

    Attributes:
        title, description: for people.
        classes: names; an item's label is an index.
        total: number of items, as far as known.
        items: iterator of (name, label, own part, generation, read), where read() gives the encoded
            bytes; generation 0 but for images that were added later.
        folder: where the files lie, or "" if their bytes are to be copied.
        listing: `engine.data.datasets.listing` of the source.
        skipped: list of (name, sentence) of what is no image of a class.
        close: called when no more is read.
    """

    title: str
    description: str
    classes: list
    total: int
    items: object
    folder: str = ""
    listing: str = ""
    skipped: list = field(default_factory=list)
    close: object = lambda: None


def ingest(spec, home, progress=None, fingerprint=None) -> datasets.Dataset:
    """Prepares a dataset, or opens it if it is ready and unchanged.

    Args:
        spec: a DatasetSpec.
        home: Graft's home.
        progress: called with (text, done, total) now and then.
        fingerprint: of the dataset that a run began with, when it is taken up. A prepared copy that
            has it is opened whatever has become of the folder since: its images are still those of
            the run, which skips the ones it can no longer read (`engine.data.unreadable`).

    Returns:
        The open Dataset.

    Raises:
        DatasetError: one sentence.
    """
    home = Path(home)
    datasets.check(spec)
    with datasets.lock(home, spec):
        same = fingerprint is not None and datasets.fingerprint(spec, home) == fingerprint
        if same or not datasets.outdated(spec, home):
            return datasets.open_dataset(spec, home)
        report = progress or (lambda text, done, total: None)
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
                f"the dataset could not be written to {target.parent} ({error.strerror}); free some "
                "space or set GRAFT_HOME to another disk"
            ) from None
        finally:
            source.close()
            shutil.rmtree(aside, ignore_errors=True)
    return datasets.open_dataset(spec, home)


def _write(source: Source, spec, folder: Path, report) -> None:
    """Checks every image with the decoder that will train, and writes index and manifest."""
    rows, unreadable, offset = [], [], 0
    report("Checking images", 0, source.total)
    checked = ordered_map(_check, source.items, cores())
    with open(folder / "images.bin", "wb") as packed:
        for done, (name, label, part, generation, outcome) in enumerate(checked, 1):
            if isinstance(outcome, str):
                unreadable.append((name, outcome))
            else:
                data, (width, height, format), digest = outcome
                rows.append(
                    (
                        name,
                        label,
                        part,
                        width,
                        height,
                        format,
                        digest,
                        offset,
                        len(data),
                        generation,
                    )
                )
                if not source.folder:
                    packed.write(data)
                    offset += len(data)
            if done % 50 == 0 or done == source.total:
                report("Checking images", done, source.total)
    columns = list(zip(*rows, strict=True)) or [()] * 10
    labels = np.array(columns[1], np.int32)
    present = set(labels.tolist())
    if len(present) < 2:
        raise DatasetError(
            f"{source.title} has readable images of {len(present)} class{'es' * (len(present) != 1)}; "
            f"at least two are needed ({len(unreadable)} files could not be read)"
        )
    # A class whose every image was unreadable cannot be learnt, so it is no class here.
    kept = [i for i in range(len(source.classes)) if i in present]
    labels = np.searchsorted(kept, labels).astype(np.int32)
    classes = [source.classes[i] for i in kept]
    lines = sorted(f"{d}:{classes[i]}" for d, i in zip(columns[6], labels.tolist(), strict=True))
    np.savez(
        folder / "index.npz",
        labels=labels,
        names=np.array(columns[0]),
        source_splits=np.array(columns[2]),
        widths=np.array(columns[3], np.int32),
        heights=np.array(columns[4], np.int32),
        formats=np.array(columns[5]),
        contents=np.array(columns[6]),
        offsets=np.array(columns[7], np.int64),
        lengths=np.array(columns[8], np.int64),
        generations=np.array(columns[9], np.int32),
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
            "count": len(rows),
            "unreadable": unreadable,
            "skipped": source.skipped,
            "prepared": time.time(),
            "fingerprint": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        },
    )


def _check(item):
    """(name, label, own part, generation) and (bytes, (width, height, format), SHA-256) or a sentence."""
    *head, read = item
    try:
        data = read()
        return *head, (data, decode.info(data), hashlib.sha256(data).hexdigest())
    except ImageError as error:
        return *head, str(error)
    except OSError as error:
        return *head, f"the file cannot be read ({error.strerror})"


def _sample(spec, home, report) -> Source:
    from engine.data.sources import sample

    made = sample.generate(spec.images)
    return Source(
        "sample",
        sample.DESCRIPTION,
        list(sample.CLASSES),
        spec.images,
        ((name, label, "train", 0, lambda data=data: data) for name, label, data in made),
    )


def _folder(spec, home, report) -> Source:
    root = folders.root(spec.path)
    skipped = {}
    rows = folders.list_folder(root, skipped=skipped)
    classes = sorted({row[2] for row in rows})
    numbers = {name: i for i, name in enumerate(classes)}

    def reader(name, size):
        if size > decode.MAX_BYTES:
            return lambda: decode.read(root / name)  # raises the sentence, without reading it all
        return lambda: (root / name).read_bytes()

    items = ((name, numbers[cls], part, 0, reader(name, size)) for name, part, cls, size, _ in rows)
    return Source(
        root.name,
        f"Images in {root}",
        classes,
        len(rows),
        items,
        str(root),
        folders.listing_hash(rows),
        zip_names.told(skipped),
    )


def _zip(spec, home, report) -> Source:
    """The images of a zip, read from it one by one: nothing is unpacked, so no name in it is ever a
    path on this host."""
    listing = datasets.listing(spec, home)  # before it is read, so that a change meanwhile shows
    found = archive.Archive(spec.path)
    try:
        archive.check_space(home, found.bytes, found.title)
    except DatasetError:
        found.close()
        raise
    classes = sorted({entry.label for entry in found.entries})
    numbers = {name: i for i, name in enumerate(classes)}

    items = (
        (entry.name, numbers[entry.label], entry.part, 0, lambda e=entry: found.read(e))
        for entry in found.entries
    )
    return Source(
        spec.title,
        f"Images in {found.title}",
        classes,
        len(found.entries),
        items,
        listing=listing,
        skipped=found.skipped,
        close=found.close,
    )


def _saved(spec, home, report) -> Source:
    """A dataset put together in Graft: those of another one first, then what was added."""
    base = collection.open_(home, spec.name).base_spec
    if base:
        base = ingest(base, home, report)
    # After the base, whose fingerprint is part of the listing: what is added meanwhile belongs to both.
    found = collection.open_(home, spec.name)
    listing = datasets.listing(spec, home, found)
    before = base.classes if base else ()
    rows = found.rows()
    labels = {row["label"] for row in rows}
    if not base and len(labels) < 2:
        there = f"only {next(iter(labels))!r}" if labels else "none yet"
        raise DatasetError(
            f"{spec.name} needs images of at least two classes ({there}); add images of another class"
        )
    classes = [*before, *sorted(labels - set(before))]
    numbers = {name: i for i, name in enumerate(classes)}
    first = 1 + int(base.generations.max(initial=0)) if base else 0
    skipped = list(base.skipped) if base else []
    present = set(zip(base.contents.tolist(), base.labels.tolist(), strict=True)) if base else set()
    added = []
    for row in rows:
        if (row["content"], numbers[row["label"]]) in present:
            skipped.append((f"{row['label']}/{row['name']}", f"{base.title} holds a copy of it"))
        else:
            added.append(row)

    def items():
        for i in range(len(base) if base else 0):
            yield (
                base.names[i], int(base.labels[i]), str(base.source_splits[i]),
                int(base.generations[i]), lambda i=i: base.image_bytes(i),
            )  # fmt: skip
        for row in added:
            yield (
                f"{row['label']}/{row['name']}", numbers[row["label"]],
                splits.ADDED if base else "train", first + row["batch"],
                lambda row=row: found.path_of(row).read_bytes(),
            )  # fmt: skip

    total = len(added) + (len(base) if base else 0)
    return Source(
        spec.name, found.description, classes, total, items(), listing=listing, skipped=skipped
    )


def _tfds(spec, home, report) -> Source:
    # Once more, right where it matters: some names make the builder run code from elsewhere.
    if problem := tfds_problem(spec.name):
        raise DatasetError(problem)
    report("Starting TensorFlow Datasets", 0, None)
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(spec.name)
    except tfds.core.registered.DatasetNotFoundError:
        near = difflib.get_close_matches(
            spec.name.split("/")[0].split(":")[0], sorted(set(tfds.list_builders())), 3
        )
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise DatasetError(f"TensorFlow Datasets knows no dataset {spec.name!r}{hint}") from None
    except Exception as error:  # an unknown config or version, in several exception types
        raise DatasetError(
            f"TensorFlow Datasets cannot open {spec.name!r}: {_line(error)}"
        ) from None
    features = builder.info.features
    pictures = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    if builder.info.supervised_keys and len(builder.info.supervised_keys) == 2:
        wanted, answer = builder.info.supervised_keys
        pictures = [wanted] if wanted in pictures else pictures
        labels = [answer] if answer in labels else labels
    if not pictures or not labels:
        raise DatasetError(
            f"{spec.name} is not an image classification dataset (its features are "
            f"{', '.join(features)}); choose one with an image and a class label"
        )
    try:
        if not builder.is_prepared():
            _reach(list(builder.url_infos or {}))
            tfds_download.download(builder, spec.name, report)
    except Exception as error:  # network, disk, checksum and manual-download errors of many types
        raise DatasetError(
            f"{spec.name} could not be downloaded ({_line(error)}); without a network, copy a "
            f"prepared {spec.name} into {builder.data_dir} or set TFDS_DATA_DIR to where it lies, "
            "use a folder of images, or the built-in sample"
        ) from None
    picture, label = pictures[0], labels[0]
    names = list(features[label].names)
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}

    def items():
        # One file at a time, so that positions are those that slices such as train[:10%] mean.
        reading = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        for part in counts:
            data = builder.as_dataset(
                split=part,
                shuffle_files=False,
                read_config=reading,
                decoders={picture: tfds.decode.SkipDecoding()},
            )
            for place, example in enumerate(data.as_numpy_iterator()):
                number = int(example[label])
                if number < 0:  # a part published without labels
                    continue
                content = bytes(example[picture])
                yield f"{part}/{names[number]}/{place:06d}", number, part, 0, lambda c=content: c

    return Source(
        spec.name,
        builder.info.description.strip().split("\n")[0],
        names,
        sum(counts.values()),
        items(),
    )


SOURCES = {"sample": _sample, "folder": _folder, "zip": _zip, "saved": _saved, "tfds": _tfds}


def _reach(urls) -> None:
    """Raises OSError at once if the first host cannot be reached: the downloader itself would try
    again for minutes. Behind a proxy the downloader is left to find out."""
    if not urls or urllib.request.getproxies():
        return
    address = urllib.parse.urlsplit(urls[0])
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError:
        raise OSError(f"{address.hostname} cannot be reached") from None


def _line(error: Exception) -> str:
    """The first line of an error, shortened."""
    text = (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")
    return text if len(text) < 160 else text[:157] + "…"


def main(spec_json: str, home: str) -> int:
    """Entry of the background process: keeps the progress file, which the pages read."""
    from engine.recipe import DatasetSpec

    spec = DatasetSpec.model_validate_json(spec_json)
    path = Path(home) / "datasets" / f"{datasets.key(spec)}.progress.json"
    facts = processes.identity()
    last = [0.0, ""]

    def report(text, done, total):
        # At most five writes a second: a page looks once a second.
        if text == last[1] and time.time() - last[0] < 0.2 and done != total:
            return
        if text.split(":")[0] != last[1].split(":")[0]:  # what follows a colon are figures
            facts["started_counting"] = time.time()
        last[:] = time.time(), text
        homes.write_json(path, facts | {"text": text, "done": done, "total": total})

    try:
        ingest(spec, home, report)
    except GraftError as error:
        homes.write_json(path, facts | {"error": str(error)})
        print(error, file=sys.stderr)
        return 1
    homes.write_json(path, facts | {"done_at": time.time()})
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
