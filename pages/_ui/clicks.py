"""Clicks that change something: each is done once, whatever else happens on the page.

If another click arrives, Streamlit interrupts a callback where it touches the session or the page,
and the second click of a double click would do everything again. So the work of a click touches
neither: its result is put into a plain dict, and the page finds it there when it is drawn next.
"""

import secrets
import threading
import time

import streamlit as st

from engine.errors import GraftError
from engine.runs import runs

AGAIN = 3
"""Seconds within which the same click of the same session is the second of a double click."""
SHOWN = 10
"""Seconds for which an error stays on a page that is drawn again every second."""


def _kept() -> dict:
    return st.session_state.setdefault("clicks", {"done": {}, "error": None, "open": None})


_used = {}
"""The result of each button, by its `drawing`, for the whole server; the oldest are forgotten."""
REMEMBERED = 10_000
_one_at_a_time = threading.Lock()
"""Streamlit may run the callbacks of two clicks of one session at once, in two threads: 10 ms apart
in one of thirty double clicks on a busy host."""


def drawing() -> str:
    """An identifier for one drawing of a button; two clicks on that button share it."""
    return secrets.token_hex(8)


def once(place: str, what: tuple, drawn: str, act, *arguments) -> None:
    """A callback: calls `act(*arguments)` unless this session did the same a moment ago, or this
    drawing of the button was clicked before.

    If it returns a Run, the page shows that run next. A GraftError is shown by
    `common.show_error(place)`.

    Args:
        place: name of the part of the page that the click belongs to.
        what: names the click: the action, and what it is done to.
        drawn: the button's `drawing`: on a busy host the second of two clicks may arrive seconds
            after the first is done.
        act: a function of the engine that touches no page.
        arguments: of `act`.
    """
    kept = _kept()
    with _one_at_a_time:
        when, run = kept["done"].get(what, (None, None))
        if drawn in _used:
            run = _used[drawn]
        elif when is None or time.monotonic() - when > AGAIN:
            run = _do(kept, place, act, arguments)
            # The time when it ended: the second click waited for it.
            kept["done"][what] = (time.monotonic(), run)
            if kept["error"] is None:  # what went wrong may be tried again
                _used[drawn] = run
                while len(_used) > REMEMBERED:
                    del _used[next(iter(_used))]
        kept["open"] = run or kept["open"]


def do(place: str, act, *arguments) -> None:
    """Like `once`, for actions that may be repeated immediately, like changing a setting back."""
    _do(_kept(), place, act, arguments)


def _do(kept, place, act, arguments) -> str | None:
    kept["error"] = None
    try:
        result = act(*arguments)
    except GraftError as error:
        kept["error"] = (time.monotonic(), place, error)
        return None
    return result.id if isinstance(result, runs.Run) else None


def to_open() -> str | None:
    """Id of the run that a click has created and the page must show now, or None."""
    return _kept()["open"]


def opened() -> None:
    """Records that this run is now shown."""
    _kept()["open"] = None


def error_of(place: str) -> GraftError | None:
    """What went wrong with the last click on a part of the page, or None."""
    error = _kept()["error"]
    if error and error[1] == place and time.monotonic() - error[0] < SHOWN:
        return error[2]
    return None
