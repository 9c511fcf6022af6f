"""The trash on a page: deleted runs, the way back, and the way to delete them for good."""

import time

import streamlit as st

from engine import actions as gate
from engine.home import size_text
from engine.runs import trash
from pages._ui import common

SHOWN = 20
"""Runs with buttons of their own, deleted last first; more would slow down every rerun."""


def section() -> None:
    """A folded list of deleted runs; nothing while there are none."""
    found = trash.listed(common.home())
    if not found:
        return
    total = size_text(sum(each.bytes for each in found))
    runs = f"{len(found)} deleted run{'s' * (len(found) > 1)}"
    with st.expander(f"Trash: {runs}, {total}", key="trash"):
        st.caption(
            "A deleted run lies here as it was, and is put back whole. Nothing is deleted for good by "
            "itself."
        )
        for each in found[:SHOWN]:
            _row(each)
        if len(found) > SHOWN:
            st.caption(
                f"{len(found) - SHOWN} more, deleted earlier: `python -m engine trash` lists all."
            )
        if len(found) > 1:
            with st.popover("Empty the trash", icon=":material/delete_forever:"):
                st.markdown(f"Delete all {runs} ({total}) for good? This cannot be undone.")
                st.button("Empty it", key="empty_trash", on_click=_empty)


def _row(each):
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.deleted))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{common.plain(each.name)}**")
        st.caption(f"Run {common.plain(each.id)}, {size_text(each.bytes)}, deleted {when}")
        st.button(
            "Restore",
            key=f"restore_{each.path.name}",
            icon=":material/restore_from_trash:",
            on_click=_restore,
            args=(each.id,),
        )
        with st.popover("Delete for good", icon=":material/delete_forever:"):
            st.markdown("Delete this run's model, charts and log for good? This cannot be undone.")
            st.button(
                "Delete for good",
                key=f"forget_{each.path.name}",
                on_click=_empty,
                args=(each.id,),
            )


def _restore(identity):
    with common.guard():
        common.choose_run(gate.restore(common.home(), identity))
        st.toast("The run is back, as it was.")


def _empty(identity=None):
    with common.guard():
        count, freed = gate.empty_trash(common.home(), identity)
        st.toast(f"Deleted {count} run{'s' * (count != 1)} for good, {size_text(freed)}.")
