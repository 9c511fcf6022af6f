"""The chart of a learning-rate range test, in the style of `engine.charts.training`."""

import math

import plotly.graph_objects as go

from engine.charts.training import ACCENT, TRAIN, VALIDATION, figure
from engine.runs.history import rounded


def rate_range(result) -> go.Figure:
    """Loss against learning rate, with the suggested rate and the present one marked.

    Args:
        result: of `engine.estimate.rate_test_worker.measure`: rates, losses, smoothed, suggestion and present
            are read.
    """
    made = figure(
        "Loss while the learning rate rises",
        "learning rate (logarithmic)",
        "loss",
        height=330,
        margin_t=72,
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
    marks = [
        ("suggestion", "suggested", ACCENT, "solid", 0),
        ("present", "present", VALIDATION, "dash", 15),
    ]
    marks = [mark for mark in marks if result[mark[0]] is not None]
    shown = [*result["rates"], *(result[field] for field, *_ in marks)]
    low, high = math.log10(min(shown)) - 0.1, math.log10(max(shown)) + 0.1
    for field, name, colour, dash, up in marks:
        made.add_vline(x=result[field], line={"color": colour, "width": 2, "dash": dash})
        place = math.log10(result[field])  # of a logarithmic axis, unlike the line's
        made.add_annotation(
            x=place,
            y=1,
            yref="paper",
            yanchor="bottom",
            yshift=up,  # a row each, so that near rates stay legible
            xanchor="right" if place - low > 0.6 * (high - low) else "left",
            text=f"{name} {result[field]:.1e}",
            showarrow=False,
            font={"size": 12, "color": colour},
        )
    smoothed = [y for y in result["smoothed"] if y is not None]
    if smoothed:  # single losses where it diverges would press all else flat
        floor, peak = min(smoothed), max(smoothed)
        pad = 0.15 * (peak - floor) or 0.1
        made.update_yaxes(range=[max(0, floor - 2 * pad), peak + pad])
    return made.update_xaxes(type="log", range=[low, high], exponentformat="power", dtick=1)
