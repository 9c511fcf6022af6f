"""A run's events collected for charts, piece by piece while it grows, and thinned where many."""

import math

import numpy as np

POINTS = 600
"""Most points that one trace draws; more cost time on every refresh and cannot be seen apart."""


class History:
    """A run's events, collected for charts a piece at a time.

    Attributes:
        start: the start event, or {}.
        phase: the latest phase event, or {}.
        stages: list of dicts: name, first and last step (last None while it runs), and what
            stage_end said.
        batches, epochs: `{field: list}`, one item for each event.
        notes: list of note and warning events.
        end: the end event, or None.
        count: number of events so far; a chart is worth drawing again only when it has changed.
    """

    _BATCH = ("step", "loss", "accuracy", "learning_rate", "images_per_second")
    _EPOCH = ("step", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")

    def __init__(self, events=()):
        self.start, self.phase, self.stages, self.notes, self.end = {}, {}, [], [], None
        self.batches = {field: [] for field in self._BATCH}
        self.epochs = {field: [] for field in self._EPOCH}
        self.latest, self.count = {}, 0
        self.add(events)

    def add(self, events) -> "History":
        """Takes in events that follow those it has."""
        for event in events:
            self.count += 1
            kind = event.get("event")
            if kind in ("batch", "epoch"):
                columns = self.batches if kind == "batch" else self.epochs
                for field, values in columns.items():
                    values.append(event.get(field))
                self.latest = {**self.latest, **event}
            elif kind == "start":
                self.start = event
            elif kind == "phase":
                self.phase = event
            elif kind == "stage_start":
                self.stages.append({**event, "first": event.get("step", 0), "last": None})
            elif kind == "stage_end" and self.stages:
                self.stages[-1] |= {**event, "last": event.get("step")}
            elif kind in ("note", "warning"):
                self.notes.append(event)
            elif kind == "end":
                self.end = event
        return self

    @property
    def last_step(self) -> int:
        """The latest step seen."""
        steps = [columns["step"][-1] for columns in (self.batches, self.epochs) if columns["step"]]
        return max(steps, default=0)


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
    x, y = np.asarray(x, float), np.asarray([math.nan if v is None else v for v in y], float)
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
