"""The trash on the Runs page: deleted runs, to restore or to delete permanently."""

import time

import streamlit as st

from engine import actions as gate
from engine.home import size_text
from engine.host import words
from pages._ui import common, owners, who

SHOWN = 20
"""Runs shown with buttons, latest deletion first; more would slow down every rerun."""


def section() -> None:
    """A folded list of deleted runs; nothing while there are none."""
    found = gate.trashed(common.home(), who.name())
    if not found:
        return
    total = size_text(sum(each.bytes for each in found))
    runs = words.plural(len(found), "deleted run")
    with st.expander(f"Trash: {runs}, {total}", key="trash"):
        st.caption(
            "Deleted runs stay here unchanged until you restore them or delete them permanently."
        )
        for each in found[:SHOWN]:
            _row(each)
        if len(found) > SHOWN:
            st.caption(
                f"{len(found) - SHOWN} more, deleted earlier: `python -m engine trash` lists all."
            )
        if len(found) > 1 and who.may("empty the trash"):
            with st.popover("Empty the trash", icon=":material/delete_forever:"):
                st.markdown(f"Delete all {runs} ({total}) permanently? This cannot be undone.")
                st.button("Empty it", key="empty_trash", on_click=_empty)


def _row(each):
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.deleted))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{common.plain(each.name)}**")
        owner = f" {owners.of(each)}".rstrip()
        size = size_text(each.bytes)
        st.caption(f"Run {common.plain(each.id)}{owner}, {size}, deleted {when}")
        st.button(
            "Restore",
            key=f"restore_{each.path.name}",
            icon=":material/restore_from_trash:",
            on_click=_restore,
            args=(each.id,),
        )
        if not who.may("empty the trash"):
            return
        with st.popover("Delete permanently", icon=":material/delete_forever:"):
            st.markdown(
                "Delete this run's model, charts and log permanently? This cannot be undone."
            )
            st.button(
                "Delete permanently",
                key=f"forget_{each.path.name}",
                on_click=_empty,
                args=(each.id,),
            )


def _restore(identity):
    with common.guard():
        common.choose_run(gate.restore(common.home(), identity, who.name()))
        st.toast("The run is restored.")


def _empty(identity=None):
    with common.guard():
        count, freed = gate.empty_trash(common.home(), identity, who.name())
        st.toast(f"Deleted {words.plural(count, 'run')} permanently, {size_text(freed)}.")
