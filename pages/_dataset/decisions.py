"""Decisions about single images: the current state, the history with undo, and the CSV file."""

import time

import streamlit as st

from engine import actions as gate
from engine.data import curation, datasets
from engine.errors import DatasetError
from engine.recipe import field_help
from pages._ui import clicks, common, draft, owners, who


def summary(spec) -> None:
    """One line with Undo: what is left out, relabelled and moved; nothing without decisions."""
    home = common.home()
    common.show_error("curation")
    if not draft.follows():
        _others(spec)
        return
    steps = [step for step in curation.steps(home, spec) if not step.undone]
    if not steps:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        words = curation.in_words(home, curation.current(home, spec)) or "nothing changed"
        st.markdown(f":material/edit_note: **Your decisions**: {common.plain(words)}")
        label = f"Undo: {common.plain(steps[-1].text)}"
        _undo_button(home, spec, steps[-1].number, label, f"undo_last_{steps[-1].number}")


def _others(spec):
    """Says that the recipe does not use the latest decisions of this host, and offers those."""
    with st.container(horizontal=True, vertical_alignment="center"):
        named = f"other decisions (overlay {spec.overlay})" if spec.overlay else "no decisions"
        st.info(
            f"The recipe uses {named} about single images, not the latest ones of this host.",
            icon=":material/link:",
        )
        st.button("Use the latest", key="use_latest", on_click=draft.follow, args=(True,))


def missing(spec, error) -> None:
    """What to do about a dataset whose decisions are not on this host."""
    common.fail(error)
    with st.container(horizontal=True):
        st.button("Use the latest", key="use_latest", on_click=draft.follow, args=(True,))
        st.button("Use no decisions", key="use_none", on_click=draft.follow, args=(False, ""))


def history(spec) -> None:
    """Every step with Undo or Redo, and the CSV download."""
    home = common.home()
    steps = curation.steps(home, spec)
    if not steps:
        st.info(
            "No decisions yet. Under Images or Findings, choose images and leave them out, "
            "relabel them or move them to a part. Your files do not change.",
            icon=":material/edit_note:",
        )
        return
    follows = draft.follows()
    st.toggle(
        "Train with these decisions", value=follows, key=f"use_decisions_{follows}",
        on_change=draft.follow, args=(not follows,), help=field_help("dataset.overlay"),
    )  # fmt: skip
    st.caption(
        f"Overlay {curation.current(home, spec) or 'none'}: part of the recipe and of the "
        "dataset's fingerprint, so a run records exactly what it was trained on. Your files do not "
        "change."
    )
    for step in reversed(steps):
        with st.container(horizontal=True, vertical_alignment="center"):
            when = time.strftime("%d %b %H:%M", time.localtime(step.time))
            text = common.plain(step.text)
            st.markdown(
                f"{when} · " + (f"~~{text}~~ (undone)" if step.undone else text), width="stretch"
            )
            _undo_button(
                home, spec, step.number, "Redo" if step.undone else "Undo",
                f"step_{step.number}_{step.undone}", step.undone,
            )  # fmt: skip
    st.download_button(
        "Download as CSV", data=lambda: curation.to_csv(home, spec), file_name="decisions.csv",
        mime="text/csv", on_click="ignore", icon=":material/download:",
    )  # fmt: skip


def _undo_button(home, spec, number, label, key, again=False):
    drawn = clicks.drawing()
    action = "redo a decision" if again else "undo a decision"
    owners.button(
        label, action, datasets.owner(spec, home), key=key, type="tertiary",
        icon=":material/redo:" if again else ":material/undo:",
        on_click=clicks.once,
        args=("curation", drawn, gate.undo, home, spec, number, again, who.name()),
    )  # fmt: skip


def in_words(overlay: str) -> str:
    """What decisions change, for other pages, as Markdown: "3 left out"; "" for none."""
    try:
        return common.plain(curation.in_words(common.home(), overlay))
    except DatasetError as error:
        return common.plain(str(error))
