"""Time and memory before the start: a short measurement of the recipe, on Configure."""

import streamlit as st

from engine import actions as gate
from engine.data import datasets
from engine.estimate import preflight, probes
from engine.host import words
from engine.jobs import jobs
from pages._ui import common, draft, job, who

KIND = preflight.KIND


def section(recipe) -> None:
    """Draws the section of a valid recipe.

    Args:
        recipe: the draft as a Recipe.
    """
    st.subheader("Time and memory (preflight)", anchor=False)
    home = common.home()
    with common.guard():
        state = probes.state(KIND, recipe, home)
        if state["state"] == "running":
            job.progress(
                lambda: probes.state(KIND, recipe, home),
                lambda: gate.cancel_measurement(KIND, recipe, home, who=who.name()),
                "cancel_measure",
                "Cancel",
                unit=None,
            )
            return
        if state["state"] == "failed":
            common.fail(state["error"])
        if state["state"] == "done":
            _result(preflight.updated(state["result"], recipe, home))
        _ask(recipe, home, state["state"])


def _ask(recipe, home, state):
    """The button that starts a measurement, or the reason why there is none."""
    dataset = datasets.state(recipe.dataset, home)["state"]
    if dataset == "preparing":
        _await_dataset(recipe, home)
        return
    if dataset != "ready":
        st.caption(
            "Prepare the dataset on **Dataset** first; then you can measure time, memory and speed "
            "here."
        )
        return
    active = jobs.active(home)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Measure again" if state == "done" else "Measure on this host",
            key="measure",
            icon=":material/speed:",
            disabled=bool(active),
            help="Builds the network and runs a few steps of every stage, in about half a minute.",
            on_click=_start,
            args=(recipe, home),
        )
        if active:
            _await_idle(home)
        elif state == "missing":
            st.caption("Not measured yet: how long it takes, and whether it fits into memory.")


def _await_dataset(recipe, home):
    """Shows the progress of the dataset, and draws the page again when it is ready."""

    @st.fragment(run_every=1)
    def live():
        now = datasets.state(recipe.dataset, home)
        if now["state"] != "preparing":
            st.rerun()
        done = f" ({words.grouped(now['done'])} images so far)" if now["done"] else ""
        st.caption(f"The dataset is being prepared{done}; after that you can measure this recipe.")

    live()


def _await_idle(home):
    """Says why it cannot measure now, and draws the page again when it can."""

    @st.fragment(run_every=2)
    def live():
        if not jobs.active(home):
            st.rerun()
        st.caption(
            "Not available while a run is in progress: both would be slower, and the numbers wrong."
        )

    live()


def _start(recipe, home):
    with common.guard():
        gate.measure(KIND, recipe, home, who=who.name())


def _result(found):
    names = ("Stage", "How it runs", "Time", "Images per second", "Peak memory")
    rows = preflight.table(found)[1]
    st.dataframe([dict(zip(names, row, strict=True)) for row in rows], hide_index=True)
    proposed, text = found["proposed_batch_size"], common.plain(found["text"])
    if proposed is None:
        st.caption(text)
        return
    st.warning(text, icon=":material/memory_alt:")
    st.button(
        f"Use batch size {proposed}",
        key="use_batch",
        icon=":material/check:",
        on_click=draft.put,
        args=("batch_size", proposed),
    )
