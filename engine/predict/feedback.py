"""What people said of a classifier's answers: right, wrong, and what it is; collected into a dataset.

Light. Each marked image is kept with its true label under `GRAFT_HOME/feedback/RUN`, until it is collected
into a dataset put together in Graft (`engine.data.sources.collection`): the run's own dataset with the marked images as an
addition, a new version to train on.
"""

import hashlib
import json
import re
import time
from pathlib import Path

import filelock

from engine import home as homes
from engine.data import additions, curation
from engine.data.sources import collection, zip_names
from engine.errors import DatasetError
from engine.images import decode, thumbnails
from engine.recipe import DatasetSpec


def mark(run, name: str, data: bytes, answer: str, label: str) -> None:
    """Keeps what an image really shows; a later word on the same image takes the place of an earlier one.

    Args:
        run: the Run that answered.
        name: of the file, for people.
        data: its bytes.
        answer: what the run answered.
        label: what it is, one of the run's classes or a new one.

    Raises:
        DatasetError: if that cannot be a class's name, or the disk is full.
        ImageError: if it is no image.
    """
    label = collection.clean_label(label)
    small = thumbnails.encode(decode.read(data))
    content = hashlib.sha256(data).hexdigest()
    row = {"content": content, "name": zip_names.shown(name), "answer": answer, "label": label}
    folder = _folder(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock"):
            if not (folder / content).exists():
                for name_, own in ((f"{content}.jpg", small), (content, data)):
                    with homes.replacing(folder / name_, "wb") as file:
                        file.write(own)
            others = [r for r in marks(run) if r["content"] != content]
            _write(folder, [*others, row | {"time": time.time()}])
    except OSError as error:
        raise DatasetError(
            f"{folder} could not be written ({error.strerror or error}); free some space or set "
            "GRAFT_HOME to another disk"
        ) from None


def unmark(run, content: str) -> None:
    """Forgets a mark, and the image with it."""
    if not re.fullmatch(r"[0-9a-f]{64}", content):
        raise DatasetError("there is no such marked image")
    folder = _folder(run)
    if folder.exists():
        with filelock.FileLock(folder / "lock"):
            _write(folder, [row for row in marks(run) if row["content"] != content])
            (folder / content).unlink(missing_ok=True)
            (folder / f"{content}.jpg").unlink(missing_ok=True)


def marks(run) -> list[dict]:
    """All marks of a run, oldest first: content (SHA-256), name, answer, label, time (unix seconds)."""
    try:
        return json.loads((_folder(run) / "marks.json").read_text())
    except FileNotFoundError:
        return []
    except ValueError:
        raise DatasetError(
            f"{_folder(run) / 'marks.json'} is damaged; delete it to begin anew"
        ) from None


def image_of(run, content: str) -> bytes:
    """The bytes of a marked image. Raises DatasetError if there is none."""
    if not re.fullmatch(r"[0-9a-f]{64}", content) or not (_folder(run) / content).exists():
        raise DatasetError("there is no such marked image")
    return (_folder(run) / content).read_bytes()


def thumbnail(run, content: str) -> bytes:
    """A marked image made small, an encoded JPEG. Raises DatasetError if there is none."""
    image_of(run, content)
    return (_folder(run) / f"{content}.jpg").read_bytes()


def label_of(run, data: bytes) -> str | None:
    """What an image was marked as, or None."""
    content = hashlib.sha256(data).hexdigest()
    return next((row["label"] for row in marks(run) if row["content"] == content), None)


def suggested_name(run, home) -> str:
    """A name for the new version: the dataset's own with a number that is free."""
    known, title = collection.names(home), re.sub(r"-v\d+$", "", run.recipe.dataset.title)
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", title).strip("-_")[:40] or "images"
    number = 2
    while f"{stem}-v{number}" in known:
        number += 1
    return f"{stem}-v{number}"


def collect(run, home, name: str) -> tuple[DatasetSpec, int, list]:
    """Puts all marked images of a run into a dataset; the marks are then forgotten.

    Args:
        run: the Run.
        home: Graft's home.
        name: of a dataset put together in Graft: one that is there takes them as an addition (also the one
            that the run was trained on, if it is named), another is made from the run's own dataset.

    Returns:
        (its spec, how many images were added, list of (name, why not) of the others).

    Raises:
        DatasetError: if there is nothing to collect, the name will not do, or the disk is full; the marks
            stay then.
    """
    rows = marks(run)
    if not rows:
        raise DatasetError("no image is marked yet; say of an answer whether it is right first")
    spec = DatasetSpec(source="saved", name=name) if name in collection.names(home) else None
    if spec is None:
        base = run.recipe.dataset.model_copy(update={"overlay": ""})
        spec = collection.create(home, name, base)
        if overlay := run.recipe.dataset.overlay:
            # Images stay in their parts only if all of them are there; decisions go along.
            curation.adopt(home, spec, overlay, f"Decisions about {base.title}, taken over")
    added, refused = 0, []
    for label in sorted({row["label"] for row in rows}):
        own = [row for row in rows if row["label"] == label]
        files = [(row["name"], image_of(run, row["content"])) for row in own]
        count, skipped = additions.add(home, name, label, files)
        added, refused = added + count, refused + skipped
        for row in own:
            unmark(run, row["content"])
    return spec, added, refused


def _write(folder: Path, rows) -> None:
    homes.write_json(folder / "marks.json", rows)


def _folder(run) -> Path:
    return run.path.parent.parent / "feedback" / run.id
