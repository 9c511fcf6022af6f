"""The log of actions on the Runs page, for admins."""

import time

import streamlit as st

from engine import home as homes
from engine.actions import log
from engine.host import words
from pages._ui import common, who

SHOWN = 100
"""Entries shown, the latest first."""


def section() -> None:
    """A folded table of who did what; nothing for others than admins."""
    if not who.may("change users"):
        return
    with st.expander("Log of actions", key="audit", on_change="rerun") as folded:
        if not folded.open:
            return
        found = log.entries(common.home(), SHOWN)
        if not found:
            st.caption("Nothing was done yet.")
            return
        st.dataframe([_row(each) for each in found], hide_index=True)
        st.caption(
            f"The latest {SHOWN} entries of `{homes.AUDIT}`; `python -m engine audit` shows all."
        )


def _row(each):
    return {
        "When": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each["t"])),
        "Who": words.printable(each["who"]),
        "What": words.printable(log.in_words(each)),
    }
