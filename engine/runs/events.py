"""Events: append-only JSON lines, the one source of every chart. Light.

Each line is a JSON object with `t` (unix seconds), `event` (one of `KINDS`) and the fields of that
kind. A number that is not finite is written as null.

An interrupted run is resumed from its last checkpoint, so what was logged after that is computed
and logged again. The log stays append-only: a `resume` event says where the run continues, and
readers drop what it supersedes.
"""

import json
import math
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NotRequired, Required, TypedDict

from pydantic_core import from_json

_BLOCK = 1 << 16


# -- kinds of events -------------------------------------------------------------------------------


class Left(TypedDict):
    """How long the run still takes (`engine.estimate.outlook`), in seconds."""

    seconds: float
    later: float
    """What of `seconds` comes after the present part of the run."""
    finish: float | None
    """Evaluating and saving the model, if training ended now; None if there is none to save."""
    share: float
    """The share of the run's time that is over, 0 to 0.99."""
    at_most: bool
    """Whether a stage that stops early may make it less."""


class Start(TypedDict):
    """Training begins: the data is split and the network is built."""

    classes: list[str]
    counts: dict[str, int]
    """Images in each part: train, validation, test."""
    steps_per_epoch: int
    total_steps: int
    stages: list[dict[str, Any]]
    """The recipe's stages, as plain data."""
    precision: str


class Phase(TypedDict, total=False):
    """What the worker does now, beside training steps."""

    phase: Required[str]
    text: Required[str]
    done: Required[int]
    total: Required[int | None]
    left: Left
    eta_seconds: float | None
    """In runs of earlier versions."""


class StageStart(TypedDict, total=False):
    """A stage begins."""

    stage: Required[int]
    """Index in the recipe."""
    name: Required[str]
    step: Required[int]
    """Steps of all stages before it."""
    trainable_params: int
    frozen_params: int
    path: str
    """"whole network" or "cached features"; the fields below belong to the latter, see
    `engine.features.compute.Cached`."""
    runtime: str
    views: int
    exact: bool
    computed: int
    known: int
    bytes: int
    seconds: float
    images_per_second: float | None
    conversion_seconds: float | None
    difference: float
    left: Left


class Batch(TypedDict, total=False):
    """Means over the batches since the last event."""

    stage: Required[int]
    epoch: Required[int]
    step: Required[int]
    """Of all stages."""
    loss: float
    accuracy: float
    learning_rate: float
    images_per_second: float
    left: Left
    eta_seconds: float | None
    """In runs of earlier versions."""


class Epoch(Batch, total=False):
    """An epoch ends."""

    val_loss: float
    val_accuracy: float
    seconds: float


class StageEnd(TypedDict, total=False):
    """A stage ends."""

    stage: Required[int]
    name: Required[str]
    step: Required[int]
    helped: bool
    """Whether the best weights so far are from this stage."""
    reason: str
    """completed, early_stopping, diverged or stopped."""
    best_val_loss: float
    best_epoch: int | None
    best_val_loss_before: float
    frozen_intact: bool
    frozen_weights: int
    seconds: float
    peak_memory_mb: float | None
    text: Required[str]


class Note(TypedDict):
    """A sentence for people; also the fields of a warning."""

    text: str


class Resume(TypedDict):
    """The run continues, and what it supersedes no longer holds (`superseded`)."""

    stage: int | None
    """Index of the stage; None from the start."""
    epoch: int
    step: int
    """The last step of all stages that counts."""
    text: str


class End(TypedDict):
    """A worker's last event."""

    status: str
    """One of `engine.runs.runs.STATUSES`."""
    text: str
    seconds: float
    error: NotRequired[str | None]
    kept_stage: NotRequired[str | None]
    proposed_batch_size: NotRequired[int | None]


KINDS: dict[str, type] = {
    "start": Start,
    "phase": Phase,
    "stage_start": StageStart,
    "batch": Batch,
    "epoch": Epoch,
    "stage_end": StageEnd,
    "note": Note,
    "warning": Note,
    "resume": Resume,
    "end": End,
}
"""The fields of every kind, beside `t` and `event`."""


# -- writing and reading ---------------------------------------------------------------------------


class EventLog:
    """Writes events. A torn last line, left by a kill, is removed when a writer opens the file."""

    def __init__(self, path: Path) -> None:
        # Unbuffered: a line that a full disk refused must not come back at a later flush.
        self._file = open(path, "ab+", buffering=0)
        self._file.truncate(_whole(self._file))
        self._lock = threading.Lock()  # images are decoded, and warned of, on several threads

    @property
    def size(self) -> int:
        """Bytes of the log: where the next event begins."""
        return os.fstat(self._file.fileno()).st_size

    def write(self, kind: str, /, **fields: Any) -> None:
        """Appends one event; readers see it at once.

        Args:
            kind: one of `KINDS`.
            fields: those of the kind (`KINDS`); NumPy scalars become plain numbers.

        Raises:
            OSError: for example when the disk is full; the log is then as it was before.
        """
        line = {"t": round(time.time(), 3), "event": kind} | {
            k: _plain(v) for k, v in fields.items()
        }
        with self._lock:
            self._append(json.dumps(line, allow_nan=False).encode() + b"\n", kind != "batch")

    def _append(self, data: bytes, to_disk: bool) -> None:
        left, before = memoryview(data), self.size
        try:
            while left:
                left = left[self._file.write(left) :]
            if to_disk:
                # Batch events may be lost with the power; what a report is built from may not.
                os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(before)
            raise


def read(path: Path, offset: int = 0) -> tuple[list[dict], int]:
    """Reads the events after a byte offset.

    Returns:
        (events, offset of the next call). A last line still being written is left for the next
        call; a missing file has no events. Lines that hold no event (damage on the disk) are
        skipped, and a warning event with their number takes the place of the first.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    data = data[: data.rfind(b"\n") + 1]
    found, garbage, place = _parse(data)
    if garbage:
        lines = "One line" if garbage == 1 else f"{garbage} lines"
        verb = "is" if garbage == 1 else "are"
        text = f"{lines} of the run's log cannot be read and {verb} left out."
        found.insert(place, {"event": "warning", "text": text})
    return found, offset + len(data)


def last(path: Path, size: int = 8192) -> list[dict]:
    """The events in the last `size` bytes, without reading the rest."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            data = file.read()
            begun = 0 if file.tell() <= size else data.find(b"\n") + 1
    except FileNotFoundError:
        return []
    return _parse(data[begun : data.rfind(b"\n") + 1])[0]


def effective(events: Iterable[dict]) -> list[dict]:
    """The events without those that a later `resume` supersedes; see `superseded`."""
    kept: list[dict] = []
    for event in events:
        if event["event"] == "resume":
            kept = [before for before in kept if not superseded(before, event)]
        kept.append(event)
    return kept


def superseded(event: dict, resume: dict) -> bool:
    """Whether an event that was logged before a `resume` no longer holds.

    Args:
        event: any event.
        resume: a `Resume` event.

    Returns:
        True for an end, for what comes after that step or in a later stage, and for the end of that
        stage, which continues. Notes, warnings and phases stay: they did happen.
    """
    kind, stage = event["event"], resume.get("stage")
    if kind == "end":
        return True
    if stage is None:
        return kind in ("start", "stage_start", "batch", "epoch", "stage_end")
    if kind in ("batch", "epoch"):
        return (event.get("step") or 0) > (resume.get("step") or 0)
    if kind in ("stage_start", "stage_end"):
        return (event.get("stage") or 0) >= stage + (kind == "stage_start")
    return False


def damage(path: Path) -> tuple[int, bool]:
    """What is wrong with a log.

    Returns:
        (number of lines that hold no event, whether the last line is incomplete: cut off, or still
        being written).
    """
    try:
        with open(path, "rb") as file:
            whole = _whole(file)
            torn = whole < file.seek(0, os.SEEK_END)
            file.seek(0)
            data = file.read(whole)
    except FileNotFoundError:
        return 0, False
    return _parse(data)[1], torn


def _whole(file: IO[bytes]) -> int:
    """Bytes of an open file up to the end of its last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        place = file.read(end - begin).rfind(b"\n")
        if place >= 0:
            return begin + place + 1
        end = begin
    return 0


def _parse(data: bytes) -> tuple[list[dict], int, int]:
    """(events of whole lines, number of lines without one, events before the first of those)."""
    if not data:
        return [], 0, 0
    try:
        # All lines as one array: several times as quick as one by one.
        found = from_json(b"[" + data[:-1].replace(b"\n", b",") + b"]")
    except ValueError:
        found = []
    if len(found) == data.count(b"\n") and all(_is_event(value) for value in found):
        return found, 0, 0
    found, garbage, place = [], 0, 0
    for line in data[:-1].split(b"\n"):
        try:
            value = from_json(line)
        except ValueError:
            value = None
        if _is_event(value):
            found.append(value)
        else:
            garbage, place = garbage + 1, place if garbage else len(found)
    return found, garbage, place


def _is_event(value: object) -> bool:
    return type(value) is dict and type(value.get("event")) is str


def _plain(value: Any) -> Any:
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
