"""The SHA-256 of files, recorded in a file beside them, so that a later change is noticed. Light.

A finished run has such a record, and so has a prepared dataset. It is written last. What reads a
file calls `check` first, which hashes each state of a file once for each process. Folders of
earlier versions have no record or a smaller one; what is not recorded is read as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import filelock

from engine import home as homes
from engine.errors import DamagedFile

FILE = "sums.json"
"""The record of a prepared dataset; that of a run is `engine.runs.files.MANIFEST`."""
MISSING, CHANGED = "it is missing", "it is not the file that was written"
"""What can be wrong with a recorded file."""

_State: TypeAlias = tuple[int, int, int]


def write(record: Path, names: Iterable[str]) -> None:
    """Records files, and nothing else.

    Args:
        record: path of the record, in the folder of the files.
        names: of the files, relative to that folder; missing ones are left out.
    """
    found = {name: digest(record.parent / name) for name in names}
    _save(record, {name: made for name, made in found.items() if made})


@contextlib.contextmanager
def rewriting(record: Path, *names: str) -> Iterator[None]:
    """Files are written or deleted inside the `with`. Nothing is recorded where there is no record.

    Meanwhile, and if this process is killed, they are not recorded, so that nobody takes a new file
    for a damaged one.

    Raises:
        DamagedFile: if the record cannot be read.
    """
    _edit(record, names, keep=False)
    yield
    _edit(record, names, keep=True)


def recorded(record: Path) -> dict[str, str] | None:
    """{name: SHA-256} of the recorded files; None if there is no record.

    Raises:
        DamagedFile: if the record cannot be read.
    """
    state = _state(record)
    return None if state is None else dict(_read(record, state))


def has(record: Path, name: str) -> bool:
    """Whether a file exists, or should: it is recorded, as far as the record can be read."""
    try:
        return (record.parent / name).exists() or name in (recorded(record) or {})
    except DamagedFile:
        return False


def check(record: Path, *names: str) -> None:
    """Raises DamagedFile if the record, or a recorded file among `names`, was damaged since.

    Hashing takes 0.6 s for each GB, once for each state of a file (inode, size, time) and process;
    after that a check takes 15 µs.
    """
    while True:
        state = _state(record)
        wrong = next(iter(changed(record, *names).items()), None)
        if wrong is None:
            return
        if _state(record) == state:  # otherwise the files were replaced at this moment
            raise DamagedFile(record.parent / wrong[0], wrong[1])


def changed(record: Path, *names: str) -> dict[str, str]:
    """What is wrong with recorded files: {name: why}, empty if nothing is.

    Args:
        record: path of the record.
        names: look only at these; by default at all.

    Raises:
        DamagedFile: if the record cannot be read.
    """
    sums, wrong = recorded(record) or {}, {}
    for name in names or sums:
        if name in sums and (found := digest(record.parent / name)) != sums[name]:
            wrong[name] = CHANGED if found else MISSING
    return wrong


def digest(path: Path) -> str:
    """A file's SHA-256 in hexadecimal digits; "" if there is no such file.

    Raises:
        OSError: if it cannot be read.
    """
    state = _state(path)
    return _digest(path, state) if state else ""


def _state(path: Path) -> _State | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=20_000)
def _digest(path: Path, state: _State) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=2_000)
def _read(record: Path, state: _State) -> dict[str, str]:
    with homes.reading(record):
        found = json.loads(record.read_bytes())
        sums = found.pop("files")
        # Records of earlier versions have no sum of their own.
        if found and found != {"sum": _own_sum(sums)}:
            raise ValueError(CHANGED)
        return dict(sums)


def _save(record: Path, sums: dict[str, str]) -> None:
    homes.write_json(record, {"files": sums, "sum": _own_sum(sums)})


def _own_sum(sums: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


def _edit(record: Path, names: Iterable[str], keep: bool) -> None:
    """Takes files into a record, or out of it."""
    if not record.exists():
        return
    with filelock.FileLock(record.with_name(f".{record.name}.lock")):
        sums = recorded(record) or {}
        left = {name: made for name, made in sums.items() if name not in names}
        if keep:
            left |= {name: made for name in names if (made := digest(record.parent / name))}
        if left != sums:
            _save(record, left)
