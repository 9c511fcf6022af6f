"""How a run ends: first its last event, then its status.

Whoever waits for a status reads the log next, so all of it must be there by then. A worker may
die between the two: the supervisor then writes the status that its last event names (`complete`).
Light.
"""

import contextlib
import time

import filelock

from engine.errors import RunError
from engine.runs import checkpoint
from engine.runs.events import EventLog

STATE = ("error", "kept_stage", "proposed_batch_size")
"""Fields of status.json that the last event holds too."""
BUSY = 5
"""Seconds to wait for another process that ends the run."""


def end(run, status: str, text: str, seconds: float = 0.0, ended: float | None = None, **state):
    """Writes a run's last event, then its status: its worker, or who is `alone` with the run.

    Args:
        run: a Run whose work is over: everything that is read with the status is on the disk.
        status: one of `runs.STATUSES`.
        text: one sentence, for the log.
        seconds: that its worker took.
        ended: unix seconds; by default now.
        state: of `STATE`, what is not None; and further fields of status.json.
    """
    kept = {name: state.get(name) for name in STATE}
    with contextlib.suppress(OSError):  # the disk is full; the status, below, matters more
        EventLog(run.path / "events.jsonl").write(
            "end", status=status, text=text, seconds=seconds, **kept
        )
    _write_status(run, status, time.time() if ended is None else ended, state | kept)


def complete(run, begins: int | None) -> bool:
    """Writes the status of a run whose worker wrote its last event and died before it.

    Args:
        run: a Run that no process executes.
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
def alone(run):
    """Inside the `with`, neither a worker nor another process writes how the run ended.

    Raises RunError if one works on it for long.
    """
    lock = filelock.FileLock(run.path / "worker.lock")
    try:
        lock.acquire(timeout=BUSY)
    except filelock.Timeout:
        raise RunError(f"another process still works on run {run.id}; try again") from None
    try:
        yield
    finally:
        lock.release()


def _write_status(run, status, ended, state) -> None:
    run.update(status=status, ended=ended, stop_asked=None, **state)
    if status in ("finished", "stopped") and (run.path / "inference.tflite").exists():
        # Only now: killed before this line, the run is finished once more from its checkpoint.
        checkpoint.Checkpoints(run.path).clear()
