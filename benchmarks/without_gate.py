"""Graft's app without its gate, on loopback, for `benchmarks.gate` alone."""

import streamlit as st

import app as graft
from pages._ui import common

app = st.App(
    graft.ROOT / "pages" / "_shell.py",
    routes=graft.app._user_routes,
    lifespan=graft.memory_returned,
    on_script_error=common.explain,
)
