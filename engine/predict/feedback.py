"""Marks on a classifier's answers (right or wrong, and the true label), collected into a dataset.

A marked image is kept with its true label under `GRAFT_HOME/feedback/RUN`. Collecting adds the
marked images to a dataset built in Graft (`engine.data.sources.collection`), usually a new version
of the run's own dataset to train on.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from engine import home as homes
from engine.accounts.roles import LOCAL
from engine.data import additions, curation
from engine.data.sources import collection
from engine.errors import DatasetError
from engine.host.words import shown
from engine.images import decode, thumbnails
from engine.recipe import DatasetSpec

if TYPE_CHECKING:
    from engine.runs.runs import Run

_CONTENT = re.compile(r"[0-9a-f]{64}")
_MARKS = "marks.json"
_NO_IMAGE = "there is no such marked image"


def mark(run: Run, name: str, data: bytes, answer: str, label: str, owner: str = LOCAL) -> None:
    """Keeps an image with its true label.

    A later mark of the same user on the same image replaces an earlier one.

    Args:
        run: the Run that answered.
        name: of the file, for people.
        data: its bytes.
        answer: the run's answer.
        label: the true label, one of the run's classes or a new one.
        owner: who marks it.

    Raises:
        DatasetError: if the label cannot name a class, or the disk is full.
        ImageError: if the data is not an image.
    """
    homes.writable(run.home)
    label = collection.clean_label(label)
    small = thumbnails.encode(decode.read(data))
    content = hashlib.sha256(data).hexdigest()
    row = {"content": content, "name": shown(name), "answer": answer, "label": label}
    row |= {"owner": owner}
    folder = _folder(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / "lock"):
            if not (folder / content).exists():
                for name_, own in ((f"{content}.jpg", small), (content, data)):
                    with homes.replacing(folder / name_, "wb") as file:
                        file.write(own)
            _write(folder, [*_others(run, content, owner), row | {"time": time.time()}])
    except OSError as error:
        raise DatasetError(
            f"{folder} could not be written ({error.strerror or error}); free some space or set "
            "GRAFT_HOME to another disk"
        ) from None


def _others(run: Run, content: str, owner: str) -> list[dict]:
    """All marks but that of a user on an image."""
    return [row for row in marks(run) if (row["content"], row["owner"]) != (content, owner)]


def unmark(run: Run, content: str, owner: str = LOCAL) -> None:
    """Deletes a mark, and its image if nobody else has marked it.

    Raises DatasetError for anything but a SHA-256.
    """
    if not _CONTENT.fullmatch(content):
        raise DatasetError(_NO_IMAGE)
    folder = _folder(run)
    if folder.exists():
        with filelock.FileLock(folder / "lock"):
            others = _others(run, content, owner)
            _write(folder, others)
            if all(row["content"] != content for row in others):
                (folder / content).unlink(missing_ok=True)
                (folder / f"{content}.jpg").unlink(missing_ok=True)


def marks(run: Run) -> list[dict]:
    """All marks of a run, oldest first: content (SHA-256), name, answer, label, owner, time (unix
    s)."""
    try:
        rows = json.loads((_folder(run) / _MARKS).read_bytes())
        return [{"owner": LOCAL} | row for row in rows]  # before accounts, marks had no owner
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):
        raise DatasetError(
            f"{_folder(run) / _MARKS} is damaged; delete it to start again"
        ) from None


def image_of(run: Run, content: str) -> bytes:
    """The bytes of a marked image. Raises DatasetError if there is none."""
    if not _CONTENT.fullmatch(content) or not (_folder(run) / content).exists():
        raise DatasetError(_NO_IMAGE)
    return (_folder(run) / content).read_bytes()


def thumbnail(run: Run, content: str) -> bytes:
    """A marked image's thumbnail, an encoded JPEG. Raises DatasetError if there is none."""
    image_of(run, content)
    return (_folder(run) / f"{content}.jpg").read_bytes()


def label_of(run: Run, data: bytes, owner: str = LOCAL) -> str | None:
    """The true label that a user has marked an image with, or None."""
    own = (hashlib.sha256(data).hexdigest(), owner)
    return next((row["label"] for row in marks(run) if (row["content"], row["owner"]) == own), None)


def suggested_name(run: Run, home: Path) -> str:
    """A free name for the new version: the dataset's name with a number."""
    known, title = collection.names(home), re.sub(r"-v\d+$", "", run.recipe.dataset.title)
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", title).strip("-_")[:40] or "images"
    number = 2
    while f"{stem}-v{number}" in known:
        number += 1
    return f"{stem}-v{number}"


def collect(
    run: Run, home: Path, name: str, rows: list[dict] | None = None, owner: str = LOCAL
) -> tuple[DatasetSpec, int, list[tuple[str, str]]]:
    """Adds marked images of a run to a dataset, then deletes the marks.

    Args:
        run: the Run.
        home: Graft's home.
        name: of a dataset built in Graft. An existing one gets the images as an addition (it may be
            the one that the run was trained on); otherwise a new one is created from the run's own
            dataset.
        rows: of `marks`; None for all of them.
        owner: of a new dataset.

    Returns:
        (its spec, number of images added, (name, reason) of each image that was refused).

    Raises:
        DatasetError: if there is nothing to collect, the name is not valid, or the disk is full.
            The marks are kept then.
    """
    rows = marks(run) if rows is None else rows
    if not rows:
        raise DatasetError("no image is marked yet; mark an answer as right or wrong first")
    spec = DatasetSpec(source="saved", name=name) if name in collection.names(home) else None
    if spec is None:
        base = run.recipe.dataset.model_copy(update={"overlay": ""})
        spec = collection.create(home, name, base, owner)
        if overlay := run.recipe.dataset.overlay:
            # Images keep their parts only if all of them are there, so decisions are copied too.
            curation.adopt(home, spec, overlay, f"Decisions about {base.title}, copied")
    added, refused = 0, list[tuple[str, str]]()
    for label in sorted({row["label"] for row in rows}):
        own = [row for row in rows if row["label"] == label]
        files = [(row["name"], image_of(run, row["content"])) for row in own]
        count, skipped = additions.add(home, name, label, files)
        added, refused = added + count, refused + skipped
        for row in own:
            unmark(run, row["content"], row["owner"])
    return spec, added, refused


def _write(folder: Path, rows) -> None:
    homes.write_json(folder / _MARKS, rows)


def _folder(run) -> Path:
    return run.home / homes.FEEDBACK / run.id
