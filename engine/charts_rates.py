"""The chart of a learning-rate range test, in the style of `engine.charts`."""

import math

import plotly.graph_objects as go

from engine.charts import ACCENT, TRAIN, VALIDATION, figure
from engine.history import rounded


def rate_range(result) -> go.Figure:
    """Loss against learning rate, with the suggested rate and the present one marked.

    Args:
        result: of `engine.rate_finder.measure`: rates, losses, smoothed, suggestion, present and
            stage are read.
    """
    made = figure(
        f"Loss while the learning rate rises (stage {result['stage']})",
        "learning rate (logarithmic)",
        "loss",
        height=320,
    )
    for field, name, width, opacity in (
        ("losses", "each step", 1, 0.45),
        ("smoothed", "smoothed", 2.4, 1),
    ):
        known = [
            (x, y) for x, y in zip(result["rates"], result[field], strict=True) if y is not None
        ]
        made.add_scatter(
            x=rounded([x for x, _ in known]),
            y=rounded([y for _, y in known]),
            mode="lines",
            opacity=opacity,
            name=name,
            line={"color": TRAIN, "width": width},
        )
    marks = [("present", "present", VALIDATION, "dash", 0.02, "bottom")]
    # Above the plot, where the other label cannot lie on it however near the two rates are.
    marks += [("suggestion", "suggested", ACCENT, "solid", 1, "bottom")]
    for field, name, colour, dash, y, anchor in marks:
        if result[field] is not None:
            made.add_vline(x=result[field], line={"color": colour, "width": 2, "dash": dash})
            made.add_annotation(
                x=math.log10(result[field]),  # of a logarithmic axis, unlike the line's
                y=y,
                yref="paper",
                yanchor=anchor,
                xanchor="left",
                xshift=2 if field == "present" else -2,
                text=f"{name} {result[field]:.1e}",
                showarrow=False,
                font={"size": 12, "color": colour},
            )
    shown = [r for r in (*result["rates"], result["present"], result["suggestion"]) if r]
    low, high = math.log10(min(shown)), math.log10(max(shown))
    smoothed = [y for y in result["smoothed"] if y is not None]
    if smoothed:  # single losses where it diverges would press all else flat
        floor, peak = min(smoothed), max(smoothed)
        pad = 0.15 * (peak - floor) or 0.1
        made.update_yaxes(range=[max(0, floor - 2 * pad), peak + pad])
    return made.update_xaxes(
        type="log", range=[low - 0.1, high + 0.1], exponentformat="power", dtick=1
    )
