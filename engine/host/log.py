"""Where work reports what happens: the shape of an event log and of a progress function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class EventWriter(Protocol):
    """Anything that takes events, such as a run's `engine.runs.events.EventLog`."""

    def write(self, event: str, /, **fields: Any) -> None:
        """Takes one event with its fields."""


class PhaseReport(Protocol):
    """Shows the progress of a run, or of a part of one, by phases."""

    def __call__(
        self, phase: str, text: str, done: int, total: int | None, always: bool = False
    ) -> None:
        """Shows progress.

        Args:
            phase: "start", "data", "model", "features", "training", "export", "evaluation",
                "reference" or "check".
            text: what is being done, for people.
            done: finished items.
            total: all items; None if unknown.
            always: do not raise what the user asked for (`Stopped`, `Paused`); without it, a
                report may end the work.
        """


class Silent:
    """An event log that keeps nothing, where there is no run to write about.

    Args:
        on_step: called with the step of each batch event; None for nothing.
    """

    def __init__(self, on_step: Callable[[int], None] | None = None):
        self._on_step = on_step

    def write(self, event: str, /, **fields: Any) -> None:
        """Takes an event and writes nothing."""
        if event == "batch" and self._on_step:
            self._on_step(fields["step"])
