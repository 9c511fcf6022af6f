"""A background job on a page: its progress, the time left and a button that stops it."""

from collections.abc import Callable

import streamlit as st

from engine.host import words
from engine.host.background import JobState
from pages._ui import common


def progress(
    ask: Callable[[], JobState],
    end: Callable[[], object],
    key: str,
    word: str = "Stop",
    unit: str | None = "",
    more: Callable[[JobState], object] | None = None,
    *,
    refused: str | None = None,
) -> None:
    """Shows a job and updates it every second; the page is drawn again when the job ends.

    Args:
        ask: returns the job's state.
        end: called to stop the job.
        key: of the button that stops it.
        word: on that button: "Stop" if the results so far stay, "Cancel" if they do not.
        unit: unit of done and total, "" for none; None shows only the bar.
        more: called with the state, to draw something beside the button.
        refused: why the user may not stop it, as its tooltip; None if they may.
    """

    @st.fragment(run_every=1)
    def live() -> None:
        with common.guard():
            state = ask()
            if state["state"] not in ("running", "preparing"):
                st.rerun()
            done, total, text = state["done"], state["total"], state["text"]
            # The text of a download already has numbers.
            if total and unit is not None and not text.endswith(" MiB"):
                text += f": {words.grouped(done)} of {words.grouped(total)} {unit}"
            if state["eta_seconds"] is not None:
                text += f", about {words.duration(state['eta_seconds'])} left"
            st.progress(min(1.0, done / total) if total else 0.0, text=common.plain(text))
            with st.container(horizontal=True):
                if st.button(
                    word, key=key, icon=":material/close:", disabled=bool(refused), help=refused
                ):
                    end()
                    st.rerun()
                if more:
                    more(state)

    live()
