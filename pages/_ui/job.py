"""A background job on a page: how far it is, about how long it still takes, and a button that ends it."""

import streamlit as st

from engine.host import words
from pages._ui import common


def progress(ask, end, key, word="Stop", running="running", unit="", more=None) -> None:
    """Looks at a job every second; the page is drawn anew at its end.

    Args:
        ask: returns how far it is, a dict of state, text, done, total (None while unknown) and eta_seconds
            (None); see `engine.host.background.state`.
        end: called when it is to end.
        key: of the button that ends it.
        word: on that button: "Stop" if what is done stays, "Cancel" if nothing of it does.
        running: the state in which it works.
        unit: of what done and total count; None if only their share says something.
        more: called with the state, to draw something beside the button.
    """

    @st.fragment(run_every=1)
    def live():
        with common.guard():
            state = ask()
            if state["state"] != running:
                st.rerun()
            done, total, text = state["done"], state["total"], state["text"]
            # A download says itself how far it is.
            if total and unit is not None and not text.endswith(" MiB"):
                text += f": {words.grouped(done)} of {words.grouped(total)} {unit}"
            if state["eta_seconds"] is not None:
                text += f", about {words.duration(state['eta_seconds'])} left"
            st.progress(min(1.0, done / total) if total else 0.0, text=common.plain(text))
            with st.container(horizontal=True):
                if st.button(word, key=key, icon=":material/close:"):
                    end()
                    st.rerun()
                if more:
                    more(state)

    live()
