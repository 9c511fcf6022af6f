"""The queue of runs and who has which device: one small SQLite file, GRAFT_HOME/queue.db.

Pages, the CLI and the supervisor all read and write it (`engine.host.database`).

waiting     runs in the order in which they will start
slots       places on devices, each with its run and the handle of the run's worker
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import home as homes
from engine.errors import GraftError
from engine.host import database, processes

_WAITING = """CREATE TABLE IF NOT EXISTS waiting (
    run TEXT PRIMARY KEY, place REAL NOT NULL, added REAL NOT NULL
)"""
_SLOTS = """CREATE TABLE slots (
    device TEXT NOT NULL, number INTEGER NOT NULL, run TEXT NOT NULL UNIQUE,
    executor TEXT NOT NULL, token TEXT NOT NULL, claimed REAL NOT NULL,
    PRIMARY KEY (device, number)
)"""
_VERSION = 1
"""Of the tables (PRAGMA user_version); in version 0, slots had `pid` and `born` of a process."""


@dataclass(frozen=True)
class Handle:
    """Identifies a run's worker.

    Attributes:
        executor: a name in `engine.jobs.executors.EXECUTORS`.
        token: plain JSON data that the executor recognizes the worker by.
    """

    executor: str
    token: dict[str, Any]


def _upgrade(connection: sqlite3.Connection) -> None:
    """Creates the tables, or brings those of an earlier version up to date."""
    if database.version(connection) >= _VERSION:  # another process was quicker
        return
    connection.execute(_WAITING)
    earlier = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'slots'").fetchone()
    rows = connection.execute("SELECT * FROM slots").fetchall() if earlier else []
    if alive := [row["run"] for row in rows if processes.alive(dict(row))]:
        # That version's supervisor cannot read the new table, and would take them for dead.
        raise GraftError(
            f"an earlier version of Graft is still training run {alive[0]} here; wait for its end, "
            "or pause it with that version, then try again"
        )
    connection.execute("DROP TABLE IF EXISTS slots")
    connection.execute(_SLOTS)
    for row in rows:
        handle = Handle("local", {"pid": row["pid"], "born": row["born"]})
        _take(connection, (row["device"], row["number"]), row["run"], handle, row["claimed"])
    connection.execute(f"PRAGMA user_version = {_VERSION}")


_QUEUE = database.Database("the queue", _VERSION, _upgrade)


def _transaction(
    home: Path, write: bool = True
) -> contextlib.AbstractContextManager[sqlite3.Connection]:
    return _QUEUE.transaction(Path(home) / homes.QUEUE, write)


def _take(
    connection: sqlite3.Connection, place: tuple[str, int], run: str, handle: Handle, when: float
) -> None:
    values = (*place, run, handle.executor, _text(handle), when)
    connection.execute("INSERT INTO slots VALUES (?, ?, ?, ?, ?, ?)", values)


def _text(handle: Handle) -> str:
    return json.dumps(handle.token, sort_keys=True)


def add(home: Path, run: str, first: bool = False) -> bool:
    """Puts a run at the end of the queue, or at its head.

    Returns:
        Whether it was added: False if it already waits, or has a device.
    """
    with _transaction(home) as db:
        if db.execute("SELECT 1 FROM slots WHERE run = ?", (run,)).fetchone():
            return False
        low, high = db.execute("SELECT min(place), max(place) FROM waiting").fetchone()
        place = 0.0 if low is None else low - 1 if first else high + 1
        done = db.execute(
            "INSERT OR IGNORE INTO waiting VALUES (?, ?, ?)", (run, place, time.time())
        )
        return done.rowcount == 1


def remove(home: Path, run: str) -> bool:
    """Removes a waiting run from the queue; False if it does not wait (any more)."""
    with _transaction(home) as db:
        return db.execute("DELETE FROM waiting WHERE run = ?", (run,)).rowcount == 1


def waiting(home: Path) -> list[str]:
    """Ids of the waiting runs, the next one first."""
    return [row["run"] for row in _rows(home, "SELECT run FROM waiting ORDER BY place, added, run")]


def move(home: Path, run: str, to: int) -> None:
    """Moves a waiting run to a position, 0 for the next to start; other runs are ignored."""
    with _transaction(home) as db:
        rows = db.execute("SELECT run FROM waiting ORDER BY place, added, run").fetchall()
        order = [row["run"] for row in rows]
        if run not in order:
            return
        order.remove(run)
        order.insert(max(0, to), run)
        db.executemany(
            "UPDATE waiting SET place = ? WHERE run = ?",
            [(place, each) for place, each in enumerate(order)],
        )


def slots(home: Path) -> list[dict]:
    """Taken places: dicts of device, number, run, handle (a Handle), claimed (unix seconds)."""
    found = _rows(home, "SELECT * FROM slots ORDER BY device, number")
    return [
        {name: row[name] for name in ("device", "number", "run", "claimed")}
        | {"handle": _handle(row)}
        for row in found
    ]


def _handle(row: sqlite3.Row) -> Handle:
    return Handle(row["executor"], json.loads(row["token"]))


def claim(
    home: Path, devices: Sequence[str], each: int, launch: Callable[[str, str], Handle | None]
) -> list[str]:
    """Gives free places to waiting runs, in order, and starts them.

    A run starts inside the transaction, so no other process can give away the place or the run
    meanwhile. If this process dies in it, the run still waits, and a worker that was started exits
    because it has no place (`holder`).

    Args:
        home: Graft's home.
        devices: names, the preferred one first.
        each: places on a device.
        launch: called with (run id, device); starts the worker and returns its handle, or None if
            the run must not start at all.

    Returns:
        Ids of the runs that were started.
    """
    if not waiting(home):
        return []
    started = []
    with _transaction(home) as db:
        taken = {(r["device"], r["number"]) for r in db.execute("SELECT * FROM slots")}
        # One run a device before a second one anywhere.
        free = [(d, n) for n in range(each) for d in devices if (d, n) not in taken]
        for row in db.execute("SELECT run FROM waiting ORDER BY place, added, run").fetchall():
            if not free:
                break
            run = row["run"]
            db.execute("DELETE FROM waiting WHERE run = ?", (run,))
            if db.execute("SELECT 1 FROM slots WHERE run = ?", (run,)).fetchone():
                continue
            handle = launch(run, free[0][0])
            if handle is None:
                continue
            _take(db, free.pop(0), run, handle, time.time())
            started.append(run)
    return started


def holder(home: Path, run: str, claimed: bool = False) -> Handle | None:
    """The handle of the worker that a run's place was given to; None if the run has no place.

    Args:
        home: Graft's home.
        run: its id.
        claimed: wait until a `claim` that may be giving the place away just now is over.
    """
    if claimed:
        with _transaction(home):
            pass  # there is one writer at a time
    found = _rows(home, "SELECT executor, token FROM slots WHERE run = ?", run)
    return _handle(found[0]) if found else None


def release(home: Path, run: str, handle: Handle) -> bool:
    """Frees the place of a run whose worker has ended; False if another worker has it by now."""
    with _transaction(home) as db:
        done = db.execute(
            "DELETE FROM slots WHERE run = ? AND executor = ? AND token = ?",
            (run, handle.executor, _text(handle)),
        )
        return done.rowcount == 1


def busy(home: Path) -> bool:
    """Whether anything waits or runs."""
    return bool(_rows(home, "SELECT 1 FROM waiting UNION ALL SELECT 1 FROM slots LIMIT 1"))


def _rows(home: Path, query: str, *values: object) -> list[sqlite3.Row]:
    if not (Path(home) / homes.QUEUE).exists():
        return []
    with _transaction(home, write=False) as db:
        return db.execute(query, values).fetchall()
