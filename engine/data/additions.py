"""Adding images to a dataset put together in Graft (`engine.data.sources.collection`): checked, copies left out, one batch each."""

import hashlib

from engine import home as homes
from engine.data import datasets
from engine.data.sources import archive, collection, zip_names
from engine.errors import DatasetError, ImageError
from engine.host.parallel import cores, ordered_map
from engine.images import decode


def add(home, name: str, label: str, files, progress=None):
    """Adds images of one class, as one batch.

    Args:
        home: Graft's home.
        name: of the dataset.
        label: their class, a new one or one that is there.
        files: iterable of (file name, bytes or an open binary file); the names are for people.
        progress: called with (images done, images in total or None).

    Returns:
        (how many were added, list of (file name, why not) of the others).

    Raises:
        DatasetError: if the class cannot be called that, there is no such dataset, or the disk is
            full; nothing is added then.
    """
    label = collection.clean_label(label)
    total = len(files) if hasattr(files, "__len__") else None
    items = ((label, str(each), lambda data=data: _bytes(data)) for each, data in files)
    return _add(home, name, items, total, progress)


def add_zip(home, name: str, path, progress=None):
    """Adds the images of a zip's class folders, as one batch: as `add`. Parts of the zip's own (train,
    test) do not matter: what is added is divided by the recipe's shares."""
    with archive.Archive(path, least_classes=1) as found:
        archive.check_space(home, found.bytes, found.title)
        labels, refused = {}, list(found.skipped)
        for label in {entry.label for entry in found.entries}:
            try:
                labels[label] = collection.clean_label(label)
            except DatasetError as error:
                refused.append((zip_names.shown(label), str(error)))
        wanted = [entry for entry in found.entries if entry.label in labels]
        items = ((labels[e.label], e.name, lambda e=e: found.read(e)) for e in wanted)
        added, skipped = _add(home, name, items, len(wanted), progress)
    return added, skipped + refused


def _add(home, name, items, total, progress):
    """Checks (label, file name, read) in order, keeps what is new, and appends one batch."""
    collection.open_(home, name)  # says so if there is none
    folder = collection.folder_of(home, name)
    with collection.writing(folder), collection.lock(home, name):
        there = collection.open_(home, name)
        rows, skipped, added = there.rows(), [], []
        collection.sweep(folder, rows)  # what an addition that was killed left
        seen = {(row["content"], row["label"]) for row in rows} | _contents_of_base(home, there)
        batch = 1 + max((row["batch"] for row in rows), default=-1)
        (folder / "images").mkdir(exist_ok=True)
        try:
            for done, checked in enumerate(ordered_map(_check, items, cores()), 1):
                label, file, outcome = checked
                if isinstance(outcome, str):
                    skipped.append((zip_names.shown(file), outcome))
                elif (outcome[1], label) in seen:
                    skipped.append((zip_names.shown(file), f"it is in {label} already"))
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


def _check(item):
    """(label, file name, (bytes, SHA-256, format) or a sentence)."""
    label, name, read = item
    try:
        data = read()
        return label, name, (data, hashlib.sha256(data).hexdigest(), decode.info(data)[2])
    except ImageError as error:
        return label, name, str(error)
    except OSError as error:
        return label, name, f"the file cannot be read ({error.strerror})"


def _bytes(data) -> bytes:
    """The bytes of an upload, or of a file that is open."""
    if hasattr(data, "read"):
        data.seek(0)  # it may have been looked at before
        data = data.read(decode.MAX_BYTES + 1)
    if len(data) > decode.MAX_BYTES:
        raise ImageError(f"the file is larger than {decode.MAX_BYTES // 10**6} MB")
    return bytes(data)


def _contents_of_base(home, found: collection.Saved) -> set:
    """(content, class) of the images that it extends; of none while those are not prepared (preparing
    leaves copies out all the same)."""
    base = found.base_spec
    if not base or datasets.state(base, home)["state"] != "ready":
        return set()
    opened = datasets.open_dataset(base, home)
    labels = (opened.classes[i] for i in opened.labels.tolist())
    return set(zip(opened.contents.tolist(), labels, strict=True))
