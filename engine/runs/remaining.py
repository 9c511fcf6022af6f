"""How long a run still takes, as its log says, and what it still does once it was asked to stop.

The worker adds `left` to its events (`engine.estimate.outlook` computes it); between two events the
clock goes on. Light.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.host import words
from engine.runs import events, files

if TYPE_CHECKING:
    from engine.runs.runs import Run

FINISHING = ("export", "evaluation", "reference", "check")
"""Phases after training, in their order."""


@dataclass(frozen=True)
class Remaining:
    """How long a run still takes.

    Attributes:
        seconds: until its end, at least 1.
        share: of its time that is over, 0 to 0.99; it never falls between two events.
        at_most: whether it may end earlier.
    """

    seconds: float
    share: float
    at_most: bool

    @property
    def text(self) -> str:
        """Such as "about 20 s left"."""
        return f"{'at most' if self.at_most else 'about'} {words.duration(self.seconds)} left"


def remaining(found: Iterable[dict], now: float, stopping: bool = False) -> Remaining | None:
    """What the latest event with `left` says.

    Args:
        found: events of the run, the latest last.
        now: unix seconds.
        stopping: whether the run was asked to stop, so that it trains no longer.

    Returns:
        A Remaining; None if it is not known (yet), or the run has ended.
    """
    event: dict = next((e for e in reversed(list(found)) if "left" in e or e["event"] == "end"), {})
    left: events.Left | None = event.get("left")
    if not left:
        return None
    seconds, later, passed = left["seconds"], left["later"], max(0.0, now - event["t"])
    over = passed + seconds * left["share"] / (1 - left["share"])
    if stopping and event.get("phase") not in FINISHING:
        seconds = later = left["finish"] or 0.0
    # The present part may take longer than expected, but those after it are still to come.
    seconds = max(seconds - passed, later, 1.0)
    share = min(0.99, max(left["share"], over / (over + seconds)))
    return Remaining(seconds, share, left["at_most"] and not stopping)


def of(run: Run) -> Remaining | None:
    """How long a run in progress still takes; None if that is not known."""
    last = events.last(run.path / files.EVENTS)
    return remaining(last, time.time(), run.asked == "stop")


def stopping(run: Run) -> str:
    """What a run still does after it was asked to stop or to pause: a sentence; "" if it was not.

    It follows from the log, so it is there as soon as somebody asked.
    """
    asked = run.asked
    if asked == "pause":
        return "Pausing: saving a checkpoint and freeing the device"
    if not asked:
        return ""
    last = events.last(run.path / files.EVENTS)
    now = remaining(last, time.time(), stopping=True)
    event: dict = next((e for e in reversed(last) if "left" in e), {})
    left = f", {now.text.removesuffix(' left')}" if now else ""
    if event.get("phase") in FINISHING:
        return f"Finishing: the model is already being evaluated and saved{left}"
    if event and event["left"]["finish"] is None:
        return "Stopping: nothing has been trained yet, so there will be no model"
    return f"Stopping: evaluating and saving the best model so far{left}"
