"""The queue of runs and who has which device: one small SQLite file, GRAFT_HOME/queue.db.

Pages, the CLI and the supervisor all read and write it, so each change is one transaction
(`BEGIN IMMEDIATE`: one writer at a time), acknowledged when it is on the disk (write-ahead log,
`synchronous=FULL`, https://www.sqlite.org/pragma.html#pragma_synchronous).

waiting     runs in the order in which they will start
slots       places on devices, each with the run that has it and the process that executes it
"""

import contextlib
import sqlite3
import time
from pathlib import Path

from engine.errors import GraftError

FILE = "queue.db"
_TABLES = """
CREATE TABLE IF NOT EXISTS waiting (
    run TEXT PRIMARY KEY, place REAL NOT NULL, added REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS slots (
    device TEXT NOT NULL, number INTEGER NOT NULL, run TEXT NOT NULL UNIQUE,
    pid INTEGER NOT NULL, born REAL NOT NULL, claimed REAL NOT NULL,
    PRIMARY KEY (device, number)
);
"""


@contextlib.contextmanager
def _transaction(home, write=True):
    path = Path(home) / FILE
    try:
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_TABLES) if write else None
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise GraftError(
            f"the queue {path} cannot be used ({error}); python -m engine doctor says more"
        ) from None


def _write_ahead(connection, tries: int = 100) -> None:
    """Switches to the write-ahead log. SQLite does not wait by itself while another does the same for
    a new file."""
    for left in reversed(range(tries)):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not left or "locked" not in str(error):
                raise
            time.sleep(0.05)


def add(home, run: str, first: bool = False) -> bool:
    """Puts a run at the end of the queue, or at its head.

    Returns:
        Whether it was added: False if it waits already, or has a device.
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


def remove(home, run: str) -> bool:
    """Takes a waiting run out; False if it did not wait (any more)."""
    with _transaction(home) as db:
        return db.execute("DELETE FROM waiting WHERE run = ?", (run,)).rowcount == 1


def waiting(home) -> list[str]:
    """Ids of the waiting runs, the next one first."""
    return [row["run"] for row in _rows(home, "SELECT run FROM waiting ORDER BY place, added, run")]


def move(home, run: str, to: int) -> None:
    """Moves a waiting run to a position, 0 for the next to start; a run that no longer waits stays
    out."""
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


def slots(home) -> list[dict]:
    """Taken places: dicts of device, number, run, pid, born, claimed (unix seconds)."""
    return [dict(row) for row in _rows(home, "SELECT * FROM slots ORDER BY device, number")]


def claim(home, devices, each: int, launch) -> list[str]:
    """Gives free places to waiting runs, in order, and starts them.

    The start happens inside the transaction, so that no other process can give the place or the run
    away meanwhile; if this process dies in it, the run waits as before, and a worker that was started
    ends by itself because it has no place (`holder`).

    Args:
        devices: names, the preferred one first.
        each: places on a device.
        launch: called with (run id, device); starts the process and returns its
            `engine.host.processes.identity`, or None if the run is not to be started at all.

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
            who = launch(run, free[0][0])
            if who is None:
                continue
            db.execute(
                "INSERT INTO slots VALUES (?, ?, ?, ?, ?, ?)",
                (*free.pop(0), run, who["pid"], who["born"], time.time()),
            )
            started.append(run)
    return started


def holder(home, run: str) -> dict | None:
    """The process that a run's place was given to, `{"pid", "born", "device"}`; None if it has none."""
    found = _rows(home, "SELECT pid, born, device FROM slots WHERE run = ?", run)
    return dict(found[0]) if found else None


def release(home, run: str, pid: int) -> bool:
    """Frees the place of a run whose process has ended; False if it is another's by now."""
    with _transaction(home) as db:
        done = db.execute("DELETE FROM slots WHERE run = ? AND pid = ?", (run, pid))
        return done.rowcount == 1


def busy(home) -> bool:
    """Whether anything waits or runs."""
    return bool(_rows(home, "SELECT 1 FROM waiting UNION ALL SELECT 1 FROM slots LIMIT 1"))


def _rows(home, query, *values):
    if not (Path(home) / FILE).exists():
        return []
    with _transaction(home, write=False) as db:
        try:
            return db.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # its maker has not come to that yet
                return []
            raise
