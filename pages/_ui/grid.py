"""A grid of thumbnails that can be chosen by click or key: one component for all of them."""

import re
from pathlib import Path

import streamlit as st

from pages._ui import live_chart

_HERE = Path(__file__)
_COMPONENT = st.components.v2.component(
    "graft_grid",
    html='<div class="graft-grid" role="group" aria-label="images"></div>\n',
    css=_HERE.with_suffix(".css").read_text("utf-8"),
    js=_HERE.with_suffix(".js").read_text("utf-8"),
    isolate_styles=False,
)


def grid(tiles: list[dict], key: str, choose: bool = True) -> list[int]:
    """Draws tiles; returns the ids of those that are chosen.

    Args:
        tiles: dicts of id (int), src (address of the picture, without base path, or a data URI),
            caption, note (a second line), alt and title.
        key: the same in every rerun for the same tiles.
        choose: whether tiles can be chosen.
    """
    key = re.sub("_+", "-", key)  # Streamlit keeps the double underscore for itself
    kept = st.session_state.get(key, {}).get("chosen") or []
    ids = {tile["id"] for tile in tiles}
    chosen = [i for i in kept if i in ids]
    data = {
        "tiles": tiles,
        "chosen": chosen,
        "choose": choose,
        "clear": str(len(kept)) if not kept else "",
        "base": live_chart.base(),
    }
    _COMPONENT(key=key, data=data, on_chosen_change=lambda: None)
    return chosen
