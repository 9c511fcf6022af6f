"""Clicks that change something: each is done once, whatever else happens on the page.

If another click arrives, Streamlit interrupts a callback where it touches the session or the page,
and the second click of a double click would do everything again. So the work of a click touches
neither: its result is put into a plain dict, and the page finds it there when it is drawn next.
"""

import secrets
import threading

import streamlit as st

from engine.errors import DiskError, GraftError
from engine.runs import runs


def _kept() -> dict:
    return st.session_state.setdefault("clicks", {"error": None, "open": None, "page": None})


_used = {}
"""The result of each button, by its `drawing`, for the whole server; the oldest are forgotten."""
REMEMBERED = 10_000
_one_at_a_time = threading.Lock()
"""Streamlit may run the callbacks of two clicks of one session at once, in two threads: 10 ms apart
in one of thirty double clicks on a busy host."""


def drawing() -> str:
    """An identifier for one drawing of a button; two clicks on that button share it."""
    return secrets.token_hex(8)


def once(place: str, drawn: str, act, *arguments) -> None:
    """A callback: calls `act(*arguments)` unless this drawing of the button was clicked before.

    If it returns a Run, the page shows that run next. A GraftError, or an error
    of the disk, is shown by `common.show_error(place)`; then the same click may try again.

    Args:
        place: name of the part of the page that the click belongs to.
        drawn: the button's `drawing`. A button that stays on the page for something else, like the
            next step to undo, needs another key for that: then a click on the old button, which
            the browser still shows, is one on the old drawing.
        act: a function of the engine that touches no page.
        arguments: of `act`.
    """
    kept = _kept()
    with _one_at_a_time:
        if drawn not in _used:
            run = _do(kept, place, act, arguments)
            if kept["error"] is None:  # what went wrong may be tried again
                _used[drawn] = run
                while len(_used) > REMEMBERED:
                    del _used[next(iter(_used))]
        kept["open"] = _used.get(drawn) or kept["open"]


def do(place: str, act, *arguments) -> None:
    """Like `once`, for actions that may be repeated immediately, like changing a setting back."""
    _do(_kept(), place, act, arguments)


def _do(kept, place, act, arguments) -> str | None:
    kept["error"] = None
    try:
        result = act(*arguments)
    except GraftError as error:
        kept["error"] = (place, error)
        return None
    except OSError as error:
        if (known := DiskError.of(error)) is None:
            raise
        kept["error"] = (place, known)
        return None
    return result.id if isinstance(result, runs.Run) else None


def to_open() -> str | None:
    """Id of the run that a click has created and the page must show now, or None."""
    return _kept()["open"]


def opened() -> None:
    """Records that this run is now shown."""
    _kept()["open"] = None


def on_page(name: str) -> None:
    """Forgets what went wrong on the page before."""
    if _kept()["page"] != name:
        _kept().update(page=name, error=None)


def error_of(place: str) -> GraftError | None:
    """What went wrong with the last click on a part of this page, or None."""
    error = _kept()["error"]
    return error[1] if error and error[0] == place else None
