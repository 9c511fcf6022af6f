"""A run's events collected for charts, piece by piece while it grows, and thinned where many."""

from itertools import groupby

import numpy as np

from engine.runs.events import superseded

POINTS = 600
"""Most points that one trace draws; more cost time on every refresh and cannot be seen apart."""


class History:
    """A run's events, collected for charts a piece at a time.

    A `resume` event takes back what it supersedes (`engine.runs.events`), so that what is here is always
    one run without gaps or repeats.

    Attributes:
        start: the start event, or {}.
        phase: the latest phase event, or {}.
        stages: list of dicts: what stage_start said, first and last step (last None while it runs),
            and what stage_end said.
        batches, epochs: `{field: list}`, one item for each event.
        notes: list of note, warning and resume events.
        end: the end event, or None.
        count: number of events so far; a chart is worth drawing again only when it has changed.
    """

    _BATCH = ("stage", "epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second")
    _EPOCH = (*_BATCH, "val_loss", "val_accuracy", "seconds")

    def __init__(self, events=()):
        self.start, self.phase, self.stages, self.notes, self.end = {}, {}, [], [], None
        self.batches = {field: [] for field in self._BATCH}
        self.epochs = {field: [] for field in self._EPOCH}
        self.count, self._eta, self._marks = 0, None, []
        self.add(events)

    def add(self, events) -> "History":
        """Takes in events that follow those it has."""
        for kind, group in groupby(events, lambda event: event.get("event")):
            group = list(group)
            self.count += len(group)
            if kind in ("batch", "epoch"):
                # Many at once: a run of ten hours has 150,000.
                columns = self.batches if kind == "batch" else self.epochs
                for field, values in columns.items():
                    values.extend([event.get(field) for event in group])
                self._eta = group[-1].get("eta_seconds")
            else:
                for event in group:
                    self._take(kind, event)
        return self

    def _take(self, kind, event):
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

    def _go_back(self, resume):
        """Forgets what a resume event supersedes."""
        self.end = self._eta = None
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
        """What the latest batch and epoch said, the later one winning; {} before there is any.

        eta_seconds, the seconds left, is None where it is not known.
        """
        seen = [columns for columns in (self.batches, self.epochs) if columns["step"]]
        seen.sort(key=lambda columns: columns["step"][-1] or 0)
        found = {
            field: values[-1]
            for columns in seen
            for field, values in columns.items()
            if values[-1] is not None
        }
        return found | {"eta_seconds": self._eta} if seen else {}

    @property
    def last_step(self) -> int:
        """The latest step seen."""
        steps = [columns["step"][-1] for columns in (self.batches, self.epochs) if columns["step"]]
        return max(steps, default=0)


def _stages(marks) -> list[dict]:
    """Stages from their start and end events."""
    stages = []
    for mark in marks:
        if mark["event"] == "stage_start":
            stages.append({**mark, "first": mark.get("step", 0), "last": None})
        elif stages:
            stages[-1] |= {**mark, "last": mark.get("step")}
    return stages


def as_history(events) -> History:
    """`events` itself if it is a History, otherwise a History of them."""
    return events if isinstance(events, History) else History(events)


def thin(x, y, points=POINTS):
    """At most `points` points of a curve, keeping the lowest and highest of every stretch.

    Args:
        x, y: equally long sequences; None and NaN in y are left out.
        points: an even number.

    Returns:
        Two arrays.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)  # None becomes NaN
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) <= points:
        return x, y
    kept = {0, len(x) - 1}
    for stretch in np.array_split(np.arange(len(x)), points // 2 - 1):
        kept |= {int(stretch[y[stretch].argmin()]), int(stretch[y[stretch].argmax()])}
    kept = sorted(kept)
    return x[kept], y[kept]


def rounded(values, digits=5) -> list:
    """Numbers with so many significant digits: what a chart shows, in a third of the bytes."""
    return [float(f"{v:.{digits}g}") for v in np.asarray(values, float).ravel()]
