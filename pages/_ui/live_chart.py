"""A Plotly chart that is updated in place: zoom and hover stay, and nothing flickers.

`st.plotly_chart` is mounted again whenever its figure changes, which loses the zoom and blanks the
chart for a frame. This component passes new figures to `Plotly.react` and takes text colours from
the page's theme.
"""

from pathlib import Path

import streamlit as st

from engine.host import words

_HERE = Path(__file__)
_COMPONENT = st.components.v2.component(
    "graft_chart",
    html='<div class="graft-chart" role="img"></div>\n',
    css=_HERE.with_suffix(".css").read_text("utf-8"),
    js=_HERE.with_suffix(".js").read_text("utf-8"),
    isolate_styles=False,
)


def chart(figure, key: str, alt: str = "", on_pick=None, thumbs: str = "") -> None:
    """Draws a figure, or updates the one already there.

    Args:
        figure: a Plotly figure of `engine.charts`.
        key: the same in every rerun, and different for every chart of a page.
        alt: what a screen reader says; the figure's title if left out.
        on_pick: called with a list: the customdata of the points clicked or lassoed.
        thumbs: base address of the thumbnails to show at the pointer; see `pictures`.
    """
    draw(payload(figure, alt) | {"thumbs": thumbs}, key, on_pick)


def payload(figure, alt: str = "") -> dict:
    """What the browser needs to draw a figure: plain data that can be kept and drawn again."""
    return {
        "figure": figure.to_json(),
        "height": figure.layout.height or figure.layout.template.layout.height or 320,
        "alt": words.printable(alt or figure.layout.title.text or "chart"),
    }


def draw(data: dict, key: str, on_pick=None) -> None:
    """Draws a `payload`; see `chart`."""
    options = {"data": data | {"base": base(), "pick": on_pick is not None}, "key": key}

    def heard():
        picks = st.session_state[key].get("picked")
        if picks:
            on_pick(picks)

    if on_pick:
        options["on_picked_change"] = heard
    _COMPONENT(height=data["height"], **options)


def base() -> str:
    """The path that the server puts before all addresses, like "/graft"; usually empty."""
    path = st.get_option("server.baseUrlPath").strip("/")
    return f"/{path}" if path else ""
