"""The look of all charts: colours, the Plotly template, and an empty figure in it.

Train and validation have one colour, one line style and one marker each in every chart, so colour
is never the only signal. Light and dark mode share one template.
"""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from engine.host import words

TRAIN, VALIDATION, TEST, ACCENT = "#3d7fe0", "#e0822d", "#9168cf", "#2a8f6d"
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
GREY, SHADE = "#7d8794", "rgba(128,138,150,0.13)"
_LINE = "rgba(128,138,150,0.22)"

# Transparent paper and mid-grey text: legible on white and on near-black without knowing which.
_axis = {
    "gridcolor": _LINE,
    "linecolor": _LINE,
    "zeroline": False,
    "automargin": True,
    "ticks": "",
    "title": {"standoff": 8},
    "nticks": 7,
}
pio.templates["graft"] = go.layout.Template(
    layout={
        "font": {
            "family": "Source Sans, Source Sans Pro, system-ui, sans-serif",
            "size": 13,
            "color": GREY,
        },
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": [TRAIN, VALIDATION, TEST, ACCENT],
        "hovermode": "x unified",
        "margin": {"l": 8, "r": 12, "t": 58, "b": 34},
        "xaxis": _axis,
        "yaxis": _axis,
        "title": {
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 8},
            "font": {"size": 15},
        },
        "legend": {
            "orientation": "h",
            "x": 0.5,
            "xanchor": "center",
            "xref": "container",
            "y": 0.0,
            "yanchor": "bottom",
            "yref": "container",
            "bgcolor": "rgba(0,0,0,0)",
        },
        "hoverlabel": {"font": {"size": 12}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": ACCENT},
        "bargap": 0.25,
        "dragmode": "zoom",
        "height": 340,
    }
)


def figure(title: str = "", x: str = "", y: str = "", **layout: Any) -> go.Figure:
    """An empty figure in Graft's template.

    Args:
        title: of the figure.
        x, y: titles of the axes.
        layout: more settings of Plotly's layout.
    """
    made = go.Figure(layout=dict(template="graft", title_text=title, uirevision="graft", **layout))
    return made.update_xaxes(title_text=x).update_yaxes(title_text=y)


def shown(name: str) -> str:
    """A name given by a user, safe to print, and escaped: Plotly reads HTML in every text."""
    return html.escape(words.printable(name), quote=False)
