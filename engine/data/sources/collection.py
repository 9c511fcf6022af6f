"""Datasets put together in Graft: images of another dataset, or none, and what was added by class.

    GRAFT_HOME/saved/NAME/saved.json     its name, the dataset that it extends, when it was made
    GRAFT_HOME/saved/NAME/added.jsonl    one line an added image: label, name, batch, content, file
    GRAFT_HOME/saved/NAME/images/        their bytes, each file named by its content

Each addition is a batch, and a generation of the dataset (`engine.data.splits`): images that were there
before stay in the part they are in. Lines are only ever appended, or cut off again by `undo`.
"""

import contextlib
import json
import os
import re
import shutil
import time
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import filelock

from engine import home as homes
from engine.data.sources import folders, zip_names
from engine.errors import DatasetError
from engine.recipe import SAVED_NAME, DatasetSpec

MAX_LABEL = 80
"""Characters of a class's name: what a table or a chart can show."""

EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
_FILE = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{2,5}")
FIELDS = {"label": str, "name": str, "batch": int, "content": str, "file": str}


@dataclass(frozen=True)
class Batch:
    """One addition.

    Attributes:
        number: 0 for the first.
        images: how many.
        classes: {class: images of it}.
    """

    number: int
    images: int
    classes: dict


class Saved:
    """A dataset put together in Graft.

    Attributes:
        path: its folder.
        name: its name.
        base: the dump of a DatasetSpec that it extends, or None.
        description: for people.
        batches: list of Batch, oldest first.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        found = homes.read_json(self.path / "saved.json")
        self.name, self.base = found["name"], found["base"]
        self._rows = _read_rows(self.path)

    @property
    def base_spec(self) -> DatasetSpec | None:
        """`base` as a spec. Raises DatasetError for one that is not taken any more."""
        return self.base and DatasetSpec.stored(self.base)

    def rows(self) -> list[dict]:
        """The added images, oldest first: label, name, batch, content (SHA-256), file."""
        return list(self._rows)

    def path_of(self, row: dict) -> Path:
        """Where the bytes of an added image lie."""
        return self.path / "images" / row["file"]

    def listing(self) -> str:
        """A hash that changes with every addition, and goes back with `undo`."""
        return folders.listing_hash([[row[k] for k in FIELDS] for row in self._rows])

    @property
    def batches(self) -> list[Batch]:
        found = {}
        for row in self._rows:
            found.setdefault(row["batch"], Counter())[row["label"]] += 1
        return [Batch(n, counts.total(), dict(counts)) for n, counts in sorted(found.items())]

    @property
    def description(self) -> str:
        count, times = len(self._rows), len({row["batch"] for row in self._rows})
        added = f"{count:,} image{'s' * (count != 1)} added in {times} batch{'es' * (times != 1)}"
        added = added if count else "nothing added yet"
        if self.base is None:
            return f"Put together in Graft: {added}"
        return f"Begins with {DatasetSpec.model_construct(**self.base).title}; {added}"


def names(home) -> list[str]:
    """The names of all saved datasets, sorted."""
    return sorted(path.parent.name for path in Path(home).glob("saved/*/saved.json"))


def create(home, name: str, base: DatasetSpec | None = None) -> DatasetSpec:
    """Makes a dataset without additions; returns its spec.

    Args:
        home: Graft's home.
        name: letters, digits, dot, dash and underscore, up to 60.
        base: the dataset whose images come first; None for none.

    Raises:
        DatasetError: if the name will not do, or is taken.
    """
    folder = folder_of(home, name)
    if name == "sample":
        raise DatasetError("sample is the name of the built-in sample; choose another name")
    with writing(folder), lock(home, name):
        if (folder / "saved.json").exists():
            raise DatasetError(
                f"there is a dataset {name} already; choose another name or add to it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        dump = None if base is None else base.model_dump(mode="json")
        homes.write_json(
            folder / "saved.json", {"name": name, "base": dump, "created": time.time()}
        )
    return DatasetSpec(source="saved", name=name)


def open_(home, name: str) -> Saved:
    """A saved dataset. Raises DatasetError if there is none of that name, or a line is damaged."""
    folder = folder_of(home, name)
    if not (folder / "saved.json").exists():
        there = names(home)
        hint = f"there are {', '.join(there[:5])}" if there else "there is none yet"
        raise DatasetError(
            f"no dataset {name} was put together in Graft on this host ({hint}); make it on the "
            "Dataset page, or give another one"
        )
    return Saved(folder)


def undo(home, name: str, expected: int | None = None) -> int:
    """Takes the last batch back; returns how many images it had, 0 if there is none.

    Args:
        home, name: as elsewhere.
        expected: the number of the batch that is meant; if another one is the last by now (a second
            click, another tab), nothing is taken back.
    """
    folder = open_(home, name).path
    with writing(folder), lock(home, name):
        rows = open_(home, name).rows()
        last = max((row["batch"] for row in rows), default=None)
        if expected is not None and last != expected:
            return 0
        kept = [row for row in rows if row["batch"] != last]
        if last is not None:
            # A batch is a number of whole lines at the end: cutting them off is one step.
            lines = _whole_lines(folder)[: len(kept)]
            os.truncate(folder / "added.jsonl", sum(map(len, lines)))
        sweep(folder, kept)
    return len(rows) - len(kept)


def delete(home, name: str) -> None:
    """Deletes a saved dataset and the images that were added to it. What it extends is not touched.

    Raises:
        DatasetError: if there is none, or another one extends it.
    """
    open_(home, name)
    users = [other for other in names(home) if _extends(home, other, name)]
    if users:
        raise DatasetError(f"{users[0]} begins with the images of {name}; delete {users[0]} first")
    folder = folder_of(home, name)
    with writing(folder), lock(home, name):
        (folder / "saved.json").unlink()  # from here on it is gone, whatever happens
        shutil.rmtree(folder)


def clean_label(text: str) -> str:
    """A class's name without spaces around it. Raises DatasetError for one that cannot be shown."""
    label = unicodedata.normalize("NFC", " ".join(str(text).split()))
    if not 1 <= len(label) <= MAX_LABEL or label.startswith(".") or not label.isprintable():
        raise DatasetError(
            f"{zip_names.shown(label)!r} cannot be the name of a class; give 1 to {MAX_LABEL} letters, "
            "digits or signs that can be seen, not beginning with a dot"
        )
    if "/" in label or "\\" in label:
        raise DatasetError(
            f"{label!r} cannot be the name of a class; leave the slash out, which separates folders"
        )
    return label


def append(folder: Path, rows) -> None:
    """Appends the lines of a batch, after cutting off what a kill left of another one."""
    whole = sum(map(len, _whole_lines(folder)))
    with open(folder / "added.jsonl", "ab") as file:
        file.truncate(whole)
        file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(folder: Path) -> list[bytes]:
    """The lines of added.jsonl with their ends, without a last one that was broken off."""
    try:
        lines = (folder / "added.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [line + b"\n" for line in lines[:-1]]


def _read_rows(folder: Path) -> list[dict]:
    """All whole lines. Raises DatasetError if one of them is no added image."""
    rows = []
    for number, line in enumerate(_whole_lines(folder), 1):
        try:
            row = json.loads(line)
            sound = all(type(row.get(k)) is kind for k, kind in FIELDS.items())
        except (ValueError, AttributeError):
            sound = False
        if not sound or not _FILE.fullmatch(row["file"]):
            raise DatasetError(
                f"line {number} of {folder / 'added.jsonl'} is damaged; delete that line to go on without its image, or "
                "put back a copy of the file"
            )
        rows.append(row)
    return rows


def sweep(folder: Path, rows) -> None:
    """Deletes the files of images that are in no line."""
    used = {row["file"] for row in rows}
    for path in (folder / "images").glob("*"):
        if path.name not in used:
            path.unlink(missing_ok=True)
    for path in (folder / "images").glob(".*"):  # half-written, `homes.replacing`
        path.unlink(missing_ok=True)


def file_name(name: str) -> str:
    """The last part of a user's file name, for people."""
    return zip_names.shown(name.replace("\\", "/").rsplit("/", 1)[-1])[:120] or "image"


def _extends(home, other: str, name: str) -> bool:
    """Whether another saved dataset begins with the images of this one."""
    base = homes.read_json(folder_of(home, other) / "saved.json", {}).get("base")
    return bool(base) and (base["source"], base["name"]) == ("saved", name)


def folder_of(home, name: str) -> Path:
    if not re.fullmatch(SAVED_NAME, str(name)):
        raise DatasetError(
            f"{zip_names.shown(str(name))!r} cannot be the name of a dataset; use letters, digits, dot, "
            "dash and underscore, up to 60, beginning with a letter or a digit"
        )
    return Path(home) / "saved" / name


def lock(home, name: str) -> filelock.FileLock:
    """Whoever writes to it holds this. Beside its folder, which may be deleted."""
    path = Path(home) / "saved" / f".{name}.lock"
    path.parent.mkdir(exist_ok=True)
    return filelock.FileLock(path)


@contextlib.contextmanager
def writing(folder: Path):
    """A full or read-only disk in one sentence."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{folder} could not be written ({error.strerror or error}); free some space or set GRAFT_HOME to "
            "another disk"
        ) from None
