"""Keys for the endpoint: who may ask for what. Light.

A key is 256 random bits, shown once, when it is created. The home keeps its SHA-256 only: as nobody
can guess a random key, a slow hash as for passwords would add nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from engine import home as homes
from engine.errors import DamagedFile, GraftError
from engine.host import words

SCOPES = {
    "classify": "classify images",
    "about": "read what is served, and the documentation of the API",
}
"""What a key may be for."""
PREFIX = "graft_"
"""Of every key, so that people and scanners of leaked secrets recognise one."""
LONGEST = 64
"""Characters of a key's name."""


@dataclass(frozen=True)
class Key:
    """What is kept of a key.

    Attributes:
        name: what it was called when it was created.
        scopes: some of `SCOPES`.
        sha256: of the key, in hexadecimal.
        created: unix seconds.
    """

    name: str
    scopes: tuple[str, ...]
    sha256: str
    created: float


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def listed(home: Path) -> list[Key]:
    """The keys of a home, the oldest first. Raises DamagedFile if their file cannot be read."""
    path = Path(home) / homes.KEYS
    with homes.reading(path):
        rows = homes.read_json(path, [])
        return [Key(r["name"], tuple(r["scopes"]), r["sha256"], float(r["created"])) for r in rows]


def create(home: Path, name: str, scopes: Sequence[str]) -> str:
    """Creates a key and returns it; it cannot be shown again.

    Raises:
        GraftError: if the name is empty, too long or taken, or a scope is unknown.
    """
    name = name.strip()
    if not name or len(name) > LONGEST or not name.isprintable():
        raise GraftError(
            f"the name of a key must have 1 to {LONGEST} visible characters, such as laptop"
        )
    if not scopes or not set(scopes) <= set(SCOPES):
        given = words.shown(", ".join(scopes)) or "nothing"
        raise GraftError(f"the scopes of a key are {' and '.join(SCOPES)}; {given} was given")
    key = PREFIX + secrets.token_urlsafe(32)
    kept = Key(name, tuple(s for s in SCOPES if s in scopes), _hash(key), round(time.time(), 3))
    with filelock.FileLock(f"{Path(home) / homes.KEYS}.lock"):
        known = listed(home)
        if any(other.name == name for other in known):
            raise GraftError(f"there is a key {name} already; choose another name or revoke it")
        _write(home, [*known, kept])
    return key


def revoke(home: Path, name: str) -> None:
    """Deletes a key; an endpoint that is running refuses it from its next request on.

    Raises:
        GraftError: if there is none of this name.
    """
    with filelock.FileLock(f"{Path(home) / homes.KEYS}.lock"):
        known = listed(home)
        left = [key for key in known if key.name != name]
        if left == known:
            names = words.listed([words.shown(key.name) for key in known]) or "none"
            raise GraftError(f"there is no key {words.shown(name)}; there is: {names}")
        _write(home, left)


def _write(home: Path, keys: list[Key]) -> None:
    path = Path(home) / homes.KEYS
    homes.write_json(path, [asdict(key) for key in keys])
    path.chmod(0o600)


class Keys:
    """The keys of a home, read again whenever their file has changed.

    Args:
        home: whose keys are valid.

    Raises:
        GraftError: if it has no keys, or their file is damaged.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._stamp = home, (0, 0, 0)
        self._known: dict[str, Key] = {}
        self._read()
        if not self._known:
            raise GraftError(
                "there are no keys yet; create one with: python -m engine keys create NAME"
            )

    def find(self, key: str) -> Key | None:
        """What is kept of a key; None if it is not valid. Raises DamagedFile as `listed` does."""
        self._read()
        return self._known.get(_hash(key))

    def _read(self) -> None:
        path = Path(self._home) / homes.KEYS
        try:
            found = os.stat(path)
        except FileNotFoundError:
            self._known, self._stamp = {}, (0, 0, 0)
            return
        except OSError as error:
            raise DamagedFile(path, error.strerror) from None
        # A file is replaced, never changed, so that its inode differs.
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            self._known = {kept.sha256: kept for kept in listed(self._home)}
            self._stamp = stamp
