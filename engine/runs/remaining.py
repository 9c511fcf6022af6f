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
BRIEF = 2.0
"""Seconds in which a delay says little."""
SLOWEST = 3.0
"""By how much at most a delay in the present part counts for those after it."""


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


def advanced(left: events.Left, passed: float) -> tuple[float, float]:
    """(seconds left, share that is over) some seconds after an event with `left`."""
    over = left["seconds"] * left["share"] / (1 - left["share"])
    later, present = left["later"], left["seconds"] - left["later"]
    # A part that takes longer than expected may do so because the host is busy: then those after it
    # will too.
    slow = min(SLOWEST, max(1.0, (passed + 2 * BRIEF) / (present + 2 * BRIEF))) if present else 1.0
    seconds = max(1.0, max(present - passed, 0.0) + later * slow)
    share = (over + min(passed, present)) / (over + left["seconds"])
    if passed > present:
        share = max(share, (over + passed) / (over + passed + seconds))
    return seconds, min(0.99, max(left["share"], round(share - 5e-5, 4)))


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
    if stopping and event.get("phase") not in FINISHING:
        over, finish = left["seconds"] * left["share"] / (1 - left["share"]), left["finish"] or 1.0
        share = max(left["share"], min(0.99, over / (over + finish)))
        left = {**left, "seconds": finish, "later": finish, "share": share}
    seconds, share = advanced(left, max(0.0, now - event["t"]))
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
        return f"Finishing: evaluating and saving the best model{left}"
    if event and event["left"]["finish"] is None:
        return "Stopping: nothing has been trained yet, so there will be no model"
    return f"Stopping: evaluating and saving the best model so far{left}"
