"""Decisions about single images: what holds, its history with undo, and the file to take away."""

import time

import streamlit as st

from engine import curation
from engine.errors import DatasetError
from pages import _clicks, _common, _dataset_data


def summary(spec) -> None:
    """One line: what is left out, relabelled and moved, with Undo; nothing while nothing was decided."""
    home = _common.home()
    mode = _dataset_data.overlay_mode(spec)
    _common.told("curation")
    latest = curation.current(home, spec)
    if mode == "link":
        with st.container(horizontal=True, vertical_alignment="center"):
            st.info(
                f"The recipe names decisions of its own (overlay {spec.overlay}), not the latest ones "
                "of this host.", icon=":material/link:",
            )  # fmt: skip
            st.button(
                "Use the latest", key="use_latest", on_click=_dataset_data.overlay_mode,
                args=(spec, "latest"),
            )  # fmt: skip
        return
    steps = [step for step in curation.steps(home, spec) if not step.undone]
    if not steps:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        words = curation.in_words(home, latest) or "nothing changed"
        off = "" if mode == "latest" else " (not used now)"
        st.markdown(f":material/edit_note: **Your decisions**: {words}{off}")
        _undo_button(home, spec, steps[-1].number, f"Undo: {steps[-1].text}", "undo_last")


def history(spec) -> None:
    """Every step, with Undo or Redo, and the CSV."""
    home = _common.home()
    steps = curation.steps(home, spec)
    if not steps:
        st.info(
            "Nothing was decided yet. Under Images or Findings, choose images and leave them out, "
            "relabel them or move them to a part: the files stay as they are.",
            icon=":material/edit_note:",
        )
        return
    mode = _dataset_data.overlay_mode(spec)
    used = st.toggle(
        "Train with these decisions", value=mode != "none", key=f"use_decisions_{mode}",
        help="Off: the images as the source has them. The recipe says which decisions it uses.",
    )  # fmt: skip
    if used != (mode != "none"):
        _dataset_data.overlay_mode(spec, "latest" if used else "none")
        st.rerun()
    st.caption(
        f"Overlay {curation.current(home, spec) or 'none'}: part of the recipe and of the dataset's "
        "fingerprint, so a run says exactly what it was trained on. Files are never touched."
    )
    for step in reversed(steps):
        with st.container(horizontal=True, vertical_alignment="center"):
            when = time.strftime("%d %b %H:%M", time.localtime(step.time))
            text = _common.plain(step.text)
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
    drawn = _clicks.drawing()
    st.button(
        label, key=key, type="tertiary", icon=":material/redo:" if again else ":material/undo:",
        on_click=_clicks.once,
        args=("curation", ("undo", number, again), drawn, curation.undo, home, spec, number, again),
    )  # fmt: skip


def in_words(overlay: str) -> str:
    """What decisions change, for other pages: "3 left out"; "" for none."""
    try:
        return curation.in_words(_common.home(), overlay)
    except DatasetError as error:
        return str(error)
