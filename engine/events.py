"""Events: append-only JSON lines, the one source of every chart.

Each line is a JSON object with `t` (unix seconds) and `event`, one of: start, phase, stage_start,
batch, epoch, stage_end, note, warning, end. A number that is not finite is written as null.
"""

import json
import math
import os
import time
from pathlib import Path


class EventLog:
    """Writes events. A torn last line, left by a kill, is removed when a writer opens the file."""

    def __init__(self, path: Path):
        self._file = open(path, "ab+")
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if line.endswith(b"\n"):
                whole += len(line)
        self._file.truncate(whole)

    def write(self, event: str, **fields) -> None:
        """Appends one event; visible to readers at once."""
        line = {"t": round(time.time(), 3), "event": event} | {
            k: _plain(v) for k, v in fields.items()
        }
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()
        if event != "batch":
            # Batch events may be lost with the power; what a report is built from may not.
            os.fsync(self._file.fileno())


def read(path: Path, offset: int = 0) -> tuple[list[dict], int]:
    """Reads the events after a byte offset.

    Returns:
        (events, offset of the next call). A last line still being written is left for the next
        call; a file that is not there has no events.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    data = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in data.splitlines()], offset + len(data)


def _plain(value):
    """Plain JSON data: NumPy scalars to Python's, numbers that are not finite to None."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
