"""The cache on the Runs page: its entries, its limit, and a button to clear it."""

import time

import streamlit as st

from engine import actions as gate
from engine.features import cache
from engine.home import size_text
from pages._ui import common, who


def section() -> None:
    """A folded list of cached features and converted networks."""
    home = common.home()
    found = cache.entries(home)
    total = sum(entry.bytes for entry in found)
    with st.expander(f"Cache: {size_text(total)} of cached features and converted networks"):
        st.caption(
            "Features of frozen parts, and networks converted for this host, are computed once and "
            "shared by all runs. You can delete them safely: they are computed again when needed. "
            "When the limit is reached, the least recently used are deleted first."
        )
        if found:
            st.dataframe(
                [
                    {
                        "Kind": cache.KINDS[entry.kind],
                        "What": entry.title,
                        "Size (MB)": round(entry.bytes / 1e6, 1),
                        "Last used": time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)),
                        "In use": "yes" if entry.busy else "",
                    }
                    for entry in found
                ],
                hide_index=True,
            )
        else:
            st.caption("Nothing is cached yet: the first run with a frozen stage fills it.")
        if not who.may("clear the cache"):
            return
        with st.container(horizontal=True, vertical_alignment="bottom"):
            key = "cache_limit"
            st.number_input(
                "Limit (GiB)", 0.0, 100_000.0, cache.limit(home) / 2**30, step=1.0, format="%g",
                key=key, width=160, on_change=_bound, args=(key,),
            )  # fmt: skip
            st.button(
                "Clear the cache", key="clear_cache", icon=":material/delete_sweep:",
                disabled=not found, on_click=_clear,
            )  # fmt: skip


def _bound(key):
    with common.guard():
        gate.limit_cache(common.home(), st.session_state[key], who.name())


def _clear():
    with common.guard():
        freed, stay = gate.clear_cache(common.home(), who.name())
        kept = f"; {stay} in use by a run kept" if stay else ""
        st.toast(f"Freed {size_text(freed)}{kept}.")
