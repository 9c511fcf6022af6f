"""Small SQLite files that several processes share: one transaction for each change. Light."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import DiskError, GraftError, ReadOnlyHome

_FULL = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_WRITE")
"""Names of errors that a full disk causes."""


@dataclass(frozen=True)
class Database:
    """A kind of SQLite file.

    Attributes:
        name: what it is, for messages, such as "the queue".
        version: of the tables (PRAGMA user_version); a new file has 0.
        upgrade: brings the tables to that version, inside a transaction; another process may have
            been quicker.
    """

    name: str
    version: int
    upgrade: Callable[[sqlite3.Connection], None]

    @contextlib.contextmanager
    def transaction(self, path: Path, write: bool = True) -> Iterator[sqlite3.Connection]:
        """Opens the file, creates or upgrades its tables, and begins a transaction.

        Each change is acknowledged when it is on the disk (write-ahead log, `synchronous=FULL`,
        https://www.sqlite.org/pragma.html#pragma_synchronous).

        Args:
            path: the file; its folder exists.
            write: whether to be the one writer at a time (`BEGIN IMMEDIATE`).

        Raises:
            GraftError: if the file cannot be used.
            DiskError: if the disk is full.
            ReadOnlyHome: if something is to be written where nothing can be.
        """
        try:
            connection = _connected(path, write)
            try:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA synchronous=FULL")
                if version(connection) < self.version:
                    with _begun(connection, "BEGIN IMMEDIATE"):
                        self.upgrade(connection)
                with _begun(connection, "BEGIN IMMEDIATE" if write else "BEGIN"):
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self.failure(path, error) from None

    def failure(self, path: Path, error: sqlite3.Error) -> GraftError:
        """What SQLite says about the file, as one sentence."""
        if getattr(error, "sqlite_errorname", "") in _FULL:
            if known := DiskError.of(OSError(errno.ENOSPC, str(error), str(path))):
                return known
        return GraftError(
            f"{self.name} {path} cannot be used ({error}); python -m engine doctor says more"
        )


def _connected(path: Path, write: bool) -> sqlite3.Connection:
    """The file, open; where nothing can be written, a copy in memory: readers write beside it too.

    Raises ReadOnlyHome or sqlite3.Error if it is to be written.
    """
    if os.access(path.parent, os.W_OK):
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            _write_ahead(connection)
            version(connection)  # the first look at the file needs room beside it
            return connection
        except sqlite3.Error as error:
            connection.close()
            if write or getattr(error, "sqlite_errorname", "") not in _FULL:
                raise
    elif write:
        raise ReadOnlyHome(path.parent)
    # A log beside it has the latest changes. Without one, SQLite must not try to create it.
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    copy = sqlite3.connect(":memory:", isolation_level=None)
    address = f"{path.absolute().as_uri()}?{mode}"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as file:
        file.backup(copy)
    return copy


@contextlib.contextmanager
def _begun(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _write_ahead(connection: sqlite3.Connection, tries: int = 100) -> None:
    """Switches to the write-ahead log.

    SQLite itself does not wait while another process does the same for a new file.
    """
    for left in reversed(range(tries)):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not left or "locked" not in str(error):
                raise
            time.sleep(0.05)


def version(connection: sqlite3.Connection) -> int:
    """The version of a file's tables."""
    return connection.execute("PRAGMA user_version").fetchone()[0]
