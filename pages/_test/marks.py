"""The marked images of the Test page, and the dataset they become."""

import hashlib

import streamlit as st

from engine import home as homes
from engine.host import words
from engine.predict import feedback
from pages._ui import clicks, common, draft
from pages._ui.grid import grid

PLACE = "marks"


def show(run) -> None:
    """What people said of this run's answers, and the way into a dataset."""
    rows = feedback.marks(run)
    if not rows:
        st.caption(
            "No image is marked yet. Choose **Look closer** at an answer and say whether it is right: "
            "marked images collect here, and become a new version of the dataset to train on."
        )
        _collected(run)
        return
    right = sum(row["answer"] == row["label"] for row in rows)
    st.markdown(
        f"**{words.grouped(len(rows))} image{'s' * (len(rows) != 1)} marked**: {right} answered right, "
        f"{len(rows) - right} wrong."
    )
    tiles = [
        {
            "id": number,
            "src": f"/marks/{run.id}/{row['content']}",
            "caption": row["label"],
            "note": "right" if row["answer"] == row["label"] else f"answered {row['answer']}",
            "alt": row["name"],
            "title": row["name"],
        }
        for number, row in enumerate(rows)
    ]
    # Keyed by the marks: numbers would mean other images after one was taken back.
    listed = hashlib.sha256(repr([row["content"] for row in rows]).encode()).hexdigest()[:10]
    chosen = grid(tiles, f"marks_{listed}")
    if chosen and st.button(
        f"Take back {len(chosen)} mark{'s' * (len(chosen) != 1)}",
        key="unmark",
        icon=":material/undo:",
    ):
        for number in chosen:
            feedback.unmark(run, rows[number]["content"])
        st.rerun()
    home = homes.home()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Add to dataset",
            feedback.suggested_name(run, home),
            key=f"collect_name_{run.id}",
            max_chars=60,
            help="A new name becomes the run's own dataset with these images added; one that was put together "
            "here before takes them as an addition.",
        )
        if st.button(
            "Add to dataset", key="collect", icon=":material/library_add:", type="primary"
        ):
            clicks.do(PLACE, _collect, _kept(), run, home, name)
            st.rerun()
    common.told(PLACE)
    _collected(run)


def _collect(kept, run, home, name):
    kept[run.id] = feedback.collect(run, home, name)


def _kept() -> dict:
    return st.session_state.setdefault("collected", {})


def _collected(run):
    last = _kept().get(run.id)
    if not last:
        return
    spec, added, refused = last
    st.success(
        f"{added} image{'s' * (added != 1)} added to the dataset **{common.plain(spec.name)}**.",
        icon=":material/check_circle:",
    )
    for name, why in refused:
        st.caption(common.plain(f"Left out: {name}: {why}."))
    if st.button("Use this dataset", key="use_collected", icon=":material/photo_library:"):
        draft.choose_dataset(spec.model_dump(mode="json"))
        st.switch_page("dataset.py")
