"""The file of accounts, GRAFT_HOME/accounts.db. Tokens are kept as SHA-256, passwords as Argon2id.

users       name, password hash (NULL: signs in elsewhere), e-mail address there, role
sessions    who is signed in in which browser
attempts    sign-ins that failed
shares      links to one run for guests
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sqlite3
import tempfile
from pathlib import Path

from engine import home as homes
from engine.errors import DiskError, GraftError
from engine.host import database

_VERSION = 1
_TABLES = (
    "CREATE TABLE users (name TEXT PRIMARY KEY, password TEXT, email TEXT UNIQUE, "
    "role TEXT NOT NULL, created REAL NOT NULL)",
    "CREATE TABLE sessions (token TEXT PRIMARY KEY, user TEXT NOT NULL, created REAL NOT NULL, "
    "seen REAL NOT NULL)",
    "CREATE TABLE attempts (name TEXT NOT NULL, address TEXT NOT NULL, at REAL NOT NULL)",
    "CREATE TABLE shares (token TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, wall TEXT UNIQUE, "
    "run TEXT NOT NULL, by TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL, "
    "uses INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0, collect INTEGER NOT NULL)",
)


class AccountError(GraftError):
    """A user, a session or a share link that does not exist or is not allowed."""


def _upgrade(connection: sqlite3.Connection) -> None:
    """A file is created with its tables, so one without was damaged: nobody may come in by that."""
    raise AccountError(
        "the file of accounts is empty or damaged: put a copy of it back, or delete it, which "
        "removes all users; python -m engine doctor names it"
    )


_ACCOUNTS = database.Database("the file of accounts", _VERSION, _upgrade)


def exists(home: Path) -> bool:
    """Whether a home has a file of accounts; `users.needed` says whether it has users."""
    return (Path(home) / homes.ACCOUNTS).exists()


def stamp(home: Path) -> tuple[int, ...]:
    """Changes whenever the file does: for what is drawn often and may be some milliseconds old.

    SQLite writes to its log, accounts.db-wal, and later from there to the file.
    """
    found: tuple[int, ...] = ()
    path = Path(home) / homes.ACCOUNTS
    for each in (path, path.with_name(f"{path.name}-wal")):
        try:
            status = each.stat()
        except FileNotFoundError:
            continue
        if status.st_size:  # an empty log comes and goes with each reader
            found += (status.st_size, status.st_mtime_ns)
    return found


def transaction(
    home: Path, write: bool = True
) -> contextlib.AbstractContextManager[sqlite3.Connection]:
    """A transaction on the file, which is created, readable by its owner only, if missing.

    Raises:
        GraftError: if it cannot be used.
    """
    path = Path(home) / homes.ACCOUNTS
    if not path.exists():
        try:
            _create(path)
        except sqlite3.Error as error:
            raise _ACCOUNTS.failure(path, error) from None
        except OSError as error:
            why = f"{path} cannot be written ({error.strerror})"
            raise DiskError.of(error) or GraftError(why) from None
    return _ACCOUNTS.transaction(path, write)


def _create(path: Path) -> None:
    """Creates the file with its tables in one step, readable by its owner only."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder, path.name)
        made.touch(mode=0o600)  # SQLite gives its log the same permissions
        with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as connection:
            for table in _TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        homes.to_disk(made)
        with contextlib.suppress(FileExistsError):  # another process was quicker
            os.link(made, path)


def new_token() -> str:
    """A random secret for a cookie or a link: 256 bits, 43 characters of a URL."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What the file keeps of a token. It is random, so it needs no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()
