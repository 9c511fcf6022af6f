"""The cache of features and converted networks, with a size limit.

GRAFT_HOME/cache/
    settings.json      {"limit_gib": 10}
    features/KEY/      one store (`engine.features.store`)
    networks/KEY/      network.tflite, a frozen part converted for LiteRT

Everything in it can be deleted at any time; it is computed again when it is needed. An entry in use
is locked (flock, shared). When space is needed, the least recently used entries that are not locked
are deleted first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import BinaryIO

from engine import home as homes
from engine.errors import DamagedFile, GraftError

DEFAULT_LIMIT_GIB = 10.0
RESERVE = 2**30
"""Bytes that stay free on the disk whatever the limit is: runs need room for their files."""
KINDS = {"features": "Cached features", "networks": "Converted network"}


@dataclass(frozen=True)
class Entry:
    """One entry of the cache.

    Attributes:
        kind: "features" or "networks".
        path: its folder.
        title: for people.
        bytes: its size on the disk.
        used: when it was last used, unix seconds.
        busy: whether a run uses it now.
    """

    kind: str
    path: Path
    title: str
    bytes: int
    used: float
    busy: bool


def key(identity: dict) -> str:
    """The folder name for everything that decides an entry's values."""
    return sha256(dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


def entries(home: Path) -> list[Entry]:
    """Everything in the cache, most recently used first."""
    found = []
    for kind in KINDS:
        for path in (Path(home) / homes.CACHE / kind).glob("*"):
            known = identity(path)
            if path.name.startswith(".") or known is None:
                continue
            with contextlib.suppress(FileNotFoundError):  # it may be deleted meanwhile
                used = (path / "used").stat().st_mtime
                size = sum(f.stat().st_blocks * 512 for f in path.iterdir())
                title = known.get("title", path.name)
                found.append(Entry(kind, path, title, size, used, _busy(path)))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def identity(path: Path) -> dict | None:
    """The data that decides an entry's values, with its title; None if there is no entry.

    A damaged entry has only a title: it matches nothing, and is evicted like all others.
    """
    try:
        return homes.read_json(path / "identity.json")
    except NotADirectoryError:  # a file that Graft did not write
        return None
    except DamagedFile:
        return {"title": f"damaged entry {path.name}"}


def limit(home: Path) -> int:
    """Bytes that the cache may take."""
    settings = homes.read_json(Path(home) / homes.CACHE / homes.SETTINGS, {})
    return int(settings.get("limit_gib", DEFAULT_LIMIT_GIB) * 2**30)


def set_limit(home: Path, gib: float) -> None:
    """Sets the cache's limit, and evicts what exceeds it.

    Raises:
        GraftError: for a limit outside 0 to 100,000 GiB.
    """
    if not 0 <= gib <= 100_000:
        raise GraftError(f"the cache's limit must be 0 to 100000 GiB; {gib:g} was given")
    homes.writable(home)
    folder = Path(home) / homes.CACHE
    folder.mkdir(exist_ok=True)
    homes.write_json(folder / homes.SETTINGS, {"limit_gib": float(gib)})
    make_room(home, 0)


def make_room(home: Path, needed: int, keep: Path | None = None) -> bool:
    """Evicts the least recently used entries until `needed` more bytes fit.

    Args:
        home: Graft's home.
        needed: bytes about to be written.
        keep: an entry that must stay.

    Returns:
        Whether they fit, both under the limit and on the disk with 1 GiB to spare.
    """
    present = entries(home)
    total = sum(entry.bytes for entry in present)

    def fits() -> bool:
        free = shutil.disk_usage(home).free
        return total + needed <= limit(home) and needed + RESERVE <= max(free, RESERVE)

    for entry in reversed(present):
        if fits():
            break
        if entry.path != keep and delete(entry):
            total -= entry.bytes
    return fits()


def delete(entry: Entry) -> bool:
    """Deletes an entry unless a run uses it; returns whether it is gone."""
    with contextlib.suppress(FileNotFoundError), open(entry.path / "lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # Renamed first, so that no process opens a half-deleted entry.
        aside = entry.path.with_name(f".deleted-{secrets.token_hex(4)}")
        os.rename(entry.path, aside)
        shutil.rmtree(aside, ignore_errors=True)
    return True


def clear(home: Path) -> tuple[int, int]:
    """Deletes everything that no run uses; returns (bytes freed, entries that stay)."""
    homes.writable(home)
    freed = stay = 0
    for entry in entries(home):
        if delete(entry):
            freed += entry.bytes
        else:
            stay += 1
    return freed, stay


def acquire(
    home: Path, kind: str, identity: dict, fill: Callable[[Path], None] | None = None
) -> tuple[Path, BinaryIO]:
    """The folder of an entry, created if missing, and the shared lock that protects it from
    eviction.

    Args:
        home: Graft's home.
        kind: "features" or "networks".
        identity: plain data; everything that decides the values, and a "title".
        fill: called with a temporary folder to write files into, before it is renamed.

    Returns:
        (folder, open lock file); the entry is in use until the lock file is closed.
    """
    parent = Path(home) / homes.CACHE / kind
    parent.mkdir(parents=True, exist_ok=True)
    path = parent / key({k: v for k, v in identity.items() if k != "title"})
    while True:
        if not (path / "identity.json").exists():
            _make(path, identity, fill)
        try:
            lock = open(path / "lock", "rb")  # noqa: SIM115  returned open; closing releases it
        except FileNotFoundError:  # evicted meanwhile
            continue
        fcntl.flock(lock, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            # Still the same file, or was it renamed between the two calls?
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(path / "lock")):
                os.utime(path / "used")
                return path, lock
        lock.close()


def _make(path: Path, identity: dict, fill: Callable[[Path], None] | None) -> None:
    """Creates an entry in a temporary folder and renames it; if another process was faster, its
    entry stays."""
    aside = path.with_name(f".making-{secrets.token_hex(4)}")
    aside.mkdir()
    try:
        for name in ("lock", "used"):
            (aside / name).touch()
        if fill:
            fill(aside)
        homes.write_json(aside / "identity.json", identity)
        os.rename(aside, path)
    except OSError:
        if not path.exists():
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _busy(path: Path) -> bool:
    with open(path / "lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
