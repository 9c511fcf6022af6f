"""Datasets created in Graft: the images of another dataset, if any, and images added by class.

    GRAFT_HOME/saved/NAME/saved.json     its name, the dataset that it extends, when it was created
    GRAFT_HOME/saved/NAME/added.jsonl    a line per added image: label, name, batch, content, file
    GRAFT_HOME/saved/NAME/images/        their bytes, each file named by its content

Each addition is a batch, and a generation of the dataset (`engine.data.splits`): earlier images
stay in their part. Lines are only appended, or removed again by `undo`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import filelock

from engine import home as homes
from engine.accounts.roles import LOCAL
from engine.data.sources import folders
from engine.errors import DamagedFile, DatasetError, ImageError
from engine.host import words
from engine.host.words import shown
from engine.recipe import SAVED_NAME, DatasetSpec

MAX_LABEL = 80
"""Characters of a class's name: as many as a table or a chart can show."""

EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
_FILE = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{2,5}")
FIELDS = {"label": str, "name": str, "batch": int, "content": str, "file": str}
"""The fields of a line with their types. content is the SHA-256 of the image."""


@dataclass(frozen=True)
class Batch:
    """One addition.

    Attributes:
        number: 0 for the first.
        images: number of images.
        classes: {class: number of images}.
    """

    number: int
    images: int
    classes: dict[str, int]


class Saved:
    """A dataset created in Graft.

    Attributes:
        path: its folder.
        name: its name.
        base: the DatasetSpec that it extends, as plain data, or None.
        owner: who created it; `roles.LOCAL` for one of before accounts.
        description: for people.
        batches: list of Batch, oldest first.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        found = homes.read_json(self.path / "saved.json")
        try:
            self.name: str = found["name"]
            self.base: dict[str, Any] | None = found["base"]
            self.owner: str = found.get("owner", LOCAL)
        except (KeyError, TypeError) as error:
            raise DamagedFile(self.path / "saved.json", error) from None
        self._rows = _read_rows(self.path)

    @property
    def base_spec(self) -> DatasetSpec | None:
        """`base` as a spec. Raises DatasetError if it is no longer valid."""
        return DatasetSpec.stored(self.base) if self.base else None

    def rows(self) -> list[dict[str, Any]]:
        """The added images, oldest first: label, name, batch, content (SHA-256), file."""
        return list(self._rows)

    def path_of(self, row: dict[str, Any]) -> Path:
        """The file of an added image."""
        return self.path / "images" / row["file"]

    def read(self, row: dict[str, Any]) -> bytes:
        """The encoded image of an added image. Raises ImageError if it is not what was added."""
        data = self.path_of(row).read_bytes()
        if sha256(data).hexdigest() != row["content"]:
            raise ImageError("it has changed since it was added; restore it from a backup")
        return data

    def listing(self) -> str:
        """A hash that changes with every addition, and back with `undo`."""
        return folders.listing_hash([[row[k] for k in FIELDS] for row in self._rows])

    @property
    def batches(self) -> list[Batch]:
        found: dict[int, Counter[str]] = {}
        for row in self._rows:
            found.setdefault(row["batch"], Counter())[row["label"]] += 1
        return [Batch(n, counts.total(), dict(counts)) for n, counts in sorted(found.items())]

    @property
    def description(self) -> str:
        times = len({row["batch"] for row in self._rows})
        added = words.plural(len(self._rows), "image") + " added in "
        added += words.plural(times, "batch", "batches")
        added = added if times else "no images added yet"
        if self.base is None:
            return f"Created in Graft: {added}"
        return f"Extends {DatasetSpec.model_construct(**self.base).title}; {added}"


def names(home: Path) -> list[str]:
    """The names of all saved datasets, sorted."""
    return sorted(path.parent.name for path in Path(home).glob(f"{homes.SAVED}/*/saved.json"))


def create(
    home: Path, name: str, base: DatasetSpec | None = None, owner: str = LOCAL
) -> DatasetSpec:
    """Creates a dataset without additions; returns its spec.

    Args:
        home: Graft's home.
        name: at most 60 letters, digits, dots, dashes and underscores.
        base: the dataset that it extends; None for none.
        owner: of the new dataset.

    Raises:
        DatasetError: if the name is not valid or already exists.
    """
    folder = folder_of(home, name)
    if name == "sample":
        raise DatasetError("sample is the name of the built-in sample; choose another name")
    with writing(folder), lock(home, name):
        if (folder / "saved.json").exists():
            raise DatasetError(
                f"there is already a dataset {name}; choose another name or add to it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        dump = None if base is None else base.model_dump(mode="json")
        about = {"name": name, "base": dump, "created": time.time(), "owner": owner}
        homes.write_json(folder / "saved.json", about)
    return DatasetSpec(source="saved", name=name)


def open_(home: Path, name: str) -> Saved:
    """A saved dataset. Raises DatasetError if there is none of that name, or a line is damaged."""
    folder = folder_of(home, name)
    if not (folder / "saved.json").exists():
        there = names(home)
        hint = f"there are {', '.join(there[:5])}" if there else "there is none yet"
        raise DatasetError(
            f"no dataset {name} was created in Graft on this host ({hint}); create it on the "
            "Dataset page, or give another one"
        )
    return Saved(folder)


def owner(home: Path, name: str) -> str:
    """Who created a saved dataset; `roles.LOCAL` if there is none (`open_` says so)."""
    about = homes.read_json(folder_of(home, name) / "saved.json") or {}
    return about.get("owner", LOCAL)


def undo(home: Path, name: str, expected: int | None = None) -> int:
    """Removes the last batch; returns its number of images, 0 if there is none.

    Args:
        home: Graft's home.
        name: of the dataset.
        expected: the number of the batch to remove; if it is no longer the last one (after a second
            click, or in another tab), nothing is removed.

    Raises:
        DatasetError: if there is no such dataset, or it cannot be written.
    """
    folder = open_(home, name).path
    with writing(folder), lock(home, name):
        rows = open_(home, name).rows()
        last = max((row["batch"] for row in rows), default=None)
        if expected is not None and last != expected:
            return 0
        kept = [row for row in rows if row["batch"] != last]
        if last is not None:
            # A batch is some whole lines at the end, so one step removes all of it.
            lines = _whole_lines(folder)[: len(kept)]
            os.truncate(folder / "added.jsonl", sum(map(len, lines)))
        sweep(folder, kept)
    return len(rows) - len(kept)


def delete(home: Path, name: str) -> None:
    """Deletes a saved dataset and the images added to it, but not the dataset that it extends.

    Raises:
        DatasetError: if there is none, or another one extends it.
    """
    open_(home, name)
    users = [other for other in names(home) if _extends(home, other, name)]
    if users:
        raise DatasetError(f"{users[0]} extends {name}; delete {users[0]} first")
    folder = folder_of(home, name)
    with writing(folder), lock(home, name):
        (folder / "saved.json").unlink()  # from here on it is deleted, whatever happens
        shutil.rmtree(folder)


def clean_label(text: str) -> str:
    """A class's name without spaces around it. Raises DatasetError if it is not a valid name."""
    label = unicodedata.normalize("NFC", " ".join(str(text).split()))
    if not 1 <= len(label) <= MAX_LABEL or label.startswith(".") or not label.isprintable():
        raise DatasetError(
            f"{shown(label)!r} cannot be the name of a class; give 1 to {MAX_LABEL} "
            "visible characters, not starting with a dot"
        )
    if "/" in label or "\\" in label:
        raise DatasetError(
            f"{label!r} cannot be the name of a class; leave out the slash, which separates folders"
        )
    return label


def append(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Appends the lines of a batch, after removing an incomplete line at the end."""
    whole = sum(map(len, _whole_lines(folder)))
    with open(folder / "added.jsonl", "ab") as file:
        file.truncate(whole)
        file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(folder: Path) -> list[bytes]:
    """The lines of added.jsonl with their ends, without an incomplete last one."""
    try:
        lines = (folder / "added.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [line + b"\n" for line in lines[:-1]]


def _read_rows(folder: Path) -> list[dict[str, Any]]:
    """All whole lines. Raises DatasetError if one of them is damaged."""
    rows = []
    for number, line in enumerate(_whole_lines(folder), 1):
        try:
            row = json.loads(line)
            sound = all(type(row.get(k)) is kind for k, kind in FIELDS.items())
        except (ValueError, AttributeError):
            sound = False
        if not sound or not _FILE.fullmatch(row["file"]):
            raise DatasetError(
                f"line {number} of {folder / 'added.jsonl'} is damaged; delete that line to "
                "continue without its image, or restore the file from a copy"
            )
        rows.append(row)
    return rows


def sweep(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Deletes the files of images that are not among `rows`."""
    used = {row["file"] for row in rows}
    for path in (folder / "images").glob("*"):
        if path.name not in used:
            path.unlink(missing_ok=True)
    for path in (folder / "images").glob(".*"):  # half-written, `homes.replacing`
        path.unlink(missing_ok=True)


def file_name(name: str) -> str:
    """The last part of a user's file name, for people."""
    return shown(name.replace("\\", "/").rsplit("/", 1)[-1])[:120] or "image"


def _extends(home: Path, other: str, name: str) -> bool:
    """Whether another saved dataset extends this one."""
    base = homes.read_json(folder_of(home, other) / "saved.json", {}).get("base")
    return bool(base) and (base["source"], base["name"]) == ("saved", name)


def folder_of(home: Path, name: str) -> Path:
    """The folder of a saved dataset. Raises DatasetError if the name is not valid."""
    if not re.fullmatch(SAVED_NAME, str(name)):
        raise DatasetError(
            f"{shown(str(name))!r} cannot be the name of a dataset; use at most 60 "
            "letters, digits, dots, dashes and underscores, starting with a letter or a digit"
        )
    return Path(home) / homes.SAVED / name


def lock(home: Path, name: str) -> filelock.FileLock:
    """The lock for writing to a dataset. It is beside its folder, which may be deleted."""
    homes.writable(home)
    path = Path(home) / homes.SAVED / f".{name}.lock"
    path.parent.mkdir(exist_ok=True)
    return filelock.FileLock(path)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raises DatasetError for a full or read-only disk."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{folder} could not be written ({error.strerror or error}); free some space or set "
            "GRAFT_HOME to another disk"
        ) from None
