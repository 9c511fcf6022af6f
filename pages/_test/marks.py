"""The marked images of the Test page, and adding them to a dataset."""

import hashlib

import streamlit as st

from engine import actions as gate
from engine import home as homes
from engine.host import words
from engine.predict import feedback
from pages._ui import clicks, common, draft, who
from pages._ui.grid import grid

PLACE = "marks"


def show(run) -> None:
    """People's corrections of this run's answers, and a button to add them to a dataset."""
    rows = gate.marks(run, who.name())
    if not rows:
        st.caption(
            "No image is marked yet. Choose **Look closer** at an answer and mark it as correct or "
            "wrong: marked images appear here, and you can add them to a dataset for training."
        )
        _collected(run)
        return
    right = sum(row["answer"] == row["label"] for row in rows)
    st.markdown(
        f"**{words.plural(len(rows), 'image')} marked**: {right} correct, "
        f"{len(rows) - right} wrong."
    )
    tiles = [
        {
            "id": number,
            "src": f"/marks/{run.id}/{row['content']}",
            "caption": row["label"],
            "note": "correct" if row["answer"] == row["label"] else f"answered {row['answer']}",
            "alt": row["name"],
            "title": row["name"],
        }
        for number, row in enumerate(rows)
    ]
    # Keyed by the marks: after one is removed, the numbers mean other images.
    listed = hashlib.sha256(repr([row["content"] for row in rows]).encode()).hexdigest()[:10]
    chosen = grid(tiles, f"marks_{listed}")
    if chosen and st.button(
        f"Remove {words.plural(len(chosen), 'mark')}",
        key="unmark",
        icon=":material/undo:",
    ):
        for number in chosen:
            gate.unmark(run, rows[number]["content"], rows[number]["owner"], who.name())
        st.rerun()
    if not who.may("add images"):
        return
    home = homes.home()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Add to dataset",
            feedback.suggested_name(run, home),
            key=f"collect_name_{run.id}",
            max_chars=60,
            help="A new name creates a dataset from the run's own with these images added. If "
            "you built the named dataset here, the images are added to it.",
        )
        if st.button(
            "Add to dataset", key="collect", icon=":material/library_add:", type="primary"
        ):
            clicks.do(PLACE, _collect, _kept(), run, home, name, who.name())
            st.rerun()
    common.show_error(PLACE)
    _collected(run)


def _collect(kept, run, home, name, user):
    kept[run.id] = gate.collect(run, home, name, user)


def _kept() -> dict:
    return st.session_state.setdefault("collected", {})


def _collected(run):
    last = _kept().get(run.id)
    if not last:
        return
    spec, added, refused = last
    st.success(
        f"{words.plural(added, 'image')} added to the dataset **{common.plain(spec.name)}**.",
        icon=":material/check_circle:",
    )
    for name, why in refused:
        st.caption(common.plain(f"Left out: {name}: {why}."))
    if st.button("Use this dataset", key="use_collected", icon=":material/photo_library:"):
        draft.choose_dataset(spec.model_dump(mode="json"))
        st.switch_page("dataset.py")
