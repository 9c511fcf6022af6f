"""A run's events, collected for charts while the run grows, and thinned if there are many."""

from collections.abc import Iterable
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike

from engine.runs.events import superseded

POINTS = 600
"""Most points in one trace; more would slow down every refresh and not be visible."""


class History:
    """A run's events, collected for charts step by step.

    A `resume` event removes what it supersedes (`engine.runs.events`), so this is always one run
    without gaps or repeats.

    Attributes:
        start: the start event, or {}.
        phase: the latest phase event, or {}.
        stages: list of dicts: the fields of stage_start, the first and last step (last is None
            while it runs), and the fields of stage_end.
        batches, epochs: `{field: list}`, one item for each event.
        notes: list of note, warning and resume events.
        end: the end event, or None.
        count: number of events so far; a chart needs to be drawn again only when it changes.
    """

    _BATCH = ("stage", "epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second")
    _EPOCH = (*_BATCH, "val_loss", "val_accuracy", "seconds")

    def __init__(self, events: Iterable[dict] = ()) -> None:
        self.start: dict = {}
        self.phase: dict = {}
        self.stages: list[dict] = []
        self.notes: list[dict] = []
        self.end: dict | None = None
        self.batches: dict[str, list] = {field: [] for field in self._BATCH}
        self.epochs: dict[str, list] = {field: [] for field in self._EPOCH}
        self.count = 0
        self._marks: list[dict] = []
        self.add(events)

    def add(self, events: Iterable[dict]) -> "History":
        """Adds events that follow those it has; returns itself."""
        for kind, grouped in groupby(events, lambda event: event.get("event")):
            group = list(grouped)
            self.count += len(group)
            if kind in ("batch", "epoch"):
                # Many at once: a run of ten hours has 150,000.
                columns = self.batches if kind == "batch" else self.epochs
                for field, values in columns.items():
                    values.extend([event.get(field) for event in group])
            else:
                for event in group:
                    self._take(kind, event)
        return self

    def _take(self, kind: str | None, event: dict) -> None:
        if kind == "start":
            self.start = event
        elif kind == "phase":
            self.phase = event
        elif kind in ("stage_start", "stage_end"):
            self._marks.append(event)
            self.stages = _stages(self._marks)
        elif kind == "end":
            self.end = event
        elif kind in ("note", "warning", "resume"):
            self.notes.append(event)
            if kind == "resume":
                self._go_back(event)

    def _go_back(self, resume: dict) -> None:
        """Removes what a resume event supersedes."""
        self.end = None
        if superseded({"event": "start"}, resume):
            self.start = {}
        self._marks = [mark for mark in self._marks if not superseded(mark, resume)]
        self.stages = _stages(self._marks)
        for kind, columns in (("batch", self.batches), ("epoch", self.epochs)):
            kept = [
                place
                for place, step in enumerate(columns["step"])
                if not superseded({"event": kind, "step": step}, resume)
            ]
            for values in columns.values():
                values[:] = [values[place] for place in kept]

    @property
    def latest(self) -> dict:
        """The fields of the latest batch and epoch; where both have one, that of the later event.

        {} before there is any.
        """
        seen = [columns for columns in (self.batches, self.epochs) if columns["step"]]
        seen.sort(key=lambda columns: columns["step"][-1] or 0)
        return {
            field: values[-1]
            for columns in seen
            for field, values in columns.items()
            if values[-1] is not None
        }

    @property
    def last_step(self) -> int:
        """The latest step."""
        steps = [columns["step"][-1] for columns in (self.batches, self.epochs) if columns["step"]]
        return max(steps, default=0)


def _stages(marks: list[dict]) -> list[dict]:
    """Stages from their start and end events."""
    stages: list[dict] = []
    for mark in marks:
        if mark["event"] == "stage_start":
            stages.append({**mark, "first": mark.get("step", 0), "last": None})
        elif stages:
            stages[-1] |= {**mark, "last": mark.get("step")}
    return stages


def as_history(events: History | Iterable[dict]) -> History:
    """`events` itself if it is a History, otherwise a History of them."""
    return events if isinstance(events, History) else History(events)


def thin(x: ArrayLike, y: ArrayLike, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `points` points of a curve; keeps the lowest and highest of every section.

    Args:
        x, y: sequences of the same length; None and NaN in y are left out.
        points: an even number.

    Returns:
        Two float64 arrays (n,).
    """
    values = np.asarray(y, float)  # None becomes NaN
    known = np.isfinite(values)
    places, values = np.asarray(x, float)[known], values[known]
    if len(values) <= points:
        return places, values
    kept = {0, len(values) - 1}
    for section in np.array_split(np.arange(len(values)), points // 2 - 1):
        part = values[section]
        kept |= {int(section[part.argmin()]), int(section[part.argmax()])}
    chosen = sorted(kept)
    return places[chosen], values[chosen]


def rounded(values: ArrayLike, digits: int = 5) -> list[float]:
    """Numbers with `digits` significant digits: enough for a chart, in a third of the bytes."""
    return [float(f"{v:.{digits}g}") for v in np.asarray(values, float).ravel()]
