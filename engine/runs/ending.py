"""How a run ends: first its last event, then its status. Light.

A reader that waits for a status reads the log next, so all of it must be there by then. A worker
can die between the two: the supervisor then writes the status that the last event names
(`complete`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import filelock

from engine.errors import RunError
from engine.host import manifest
from engine.runs import checkpoint, files
from engine.runs.events import EventLog

if TYPE_CHECKING:
    from engine.runs.runs import Run

STATE = ("error", "kept_stage", "proposed_batch_size")
"""Fields of status.json that the last event has too."""
BUSY = 5
"""Seconds to wait for another process that is ending the run."""


def end(
    run: Run,
    status: str,
    text: str,
    seconds: float = 0.0,
    ended: float | None = None,
    **state: Any,
) -> None:
    """Writes a run's last event, then its status.

    Its worker calls this, or a process that is `alone` with the run.

    Args:
        run: its work is over: everything that is read with the status is on the disk.
        status: one of `runs.STATUSES`.
        text: one sentence, for the log.
        seconds: duration of its worker.
        ended: unix seconds; now by default.
        state: those of `STATE` that are not None, and other fields of status.json.
    """
    kept = {name: state.get(name) for name in STATE}
    with contextlib.suppress(OSError):  # the disk is full; the status below matters more
        log = EventLog(run.path / files.EVENTS)
        log.write("end", status=status, text=text, seconds=seconds, **kept)
    _write_status(run, status, time.time() if ended is None else ended, state | kept)


def complete(run: Run, begins: int | None) -> bool:
    """Writes the status of a run whose worker wrote its last event and then died.

    Args:
        run: no process executes it.
        begins: where that worker's events begin in the log, in bytes; None if it wrote none.

    Returns:
        Whether the worker's last event was the run's last.
    """
    found = [] if begins is None else run.events(begins)[0]
    if not found or found[-1]["event"] != "end":
        return False
    last = found[-1]
    _write_status(run, last["status"], last["t"], {name: last.get(name) for name in STATE})
    return True


@contextlib.contextmanager
def alone(run: Run) -> Iterator[None]:
    """Inside the `with`, no worker and no other process writes how the run ended.

    Raises RunError if another process keeps working on it.
    """
    lock = filelock.FileLock(run.path / files.LOCK)
    try:
        lock.acquire(timeout=BUSY)
    except filelock.Timeout:
        raise RunError(f"another process still works on run {run.id}; try again") from None
    try:
        yield
    finally:
        lock.release()


def _write_status(run: Run, status: str, ended: float, state: dict) -> None:
    kept = status in ("finished", "stopped") and (run.path / files.LITERT).exists()
    if kept:
        with contextlib.suppress(OSError):  # the disk is full; the doctor can record them later
            manifest.write(run.path / files.MANIFEST, files.lasting(run.path))
    run.update(status=status, ended=ended, stop_asked=None, **state)
    if kept:
        # Only now: if killed before this line, the run finishes again from its checkpoint.
        checkpoint.Checkpoints(run.path).clear()
