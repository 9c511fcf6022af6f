"""Taking a classifier away: the tab of the Test page with exports and the address to call."""

import streamlit as st


def show(run) -> None:
    st.caption("…")
