"""The chart of a learning-rate range test."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from engine.charts.style import ACCENT, TRAIN, VALIDATION, figure
from engine.runs.history import rounded


def rate_range(result: dict) -> go.Figure:
    """Loss against learning rate, with the suggested and the current rate marked.

    Args:
        result: of `engine.estimate.rate_test_worker.measure`; rates, losses, smoothed, suggestion
            and present are used.
    """
    made = figure(
        "Loss as the learning rate increases",
        "learning rate (log scale)",
        "loss",
        height=330,
        margin_t=72,
    )
    for field, name, width, opacity in (
        ("losses", "each step", 1, 0.45),
        ("smoothed", "smoothed", 2.4, 1),
    ):
        pairs = zip(result["rates"], result[field], strict=True)
        known = [(rate, loss) for rate, loss in pairs if loss is not None]
        made.add_scatter(
            x=rounded([rate for rate, _ in known]),
            y=rounded([loss for _, loss in known]),
            mode="lines",
            opacity=opacity,
            name=name,
            line={"color": TRAIN, "width": width},
        )
    marks = [
        ("suggestion", "suggested", ACCENT, "solid", 0),
        ("present", "current", VALIDATION, "dash", 15),
    ]
    marks = [mark for mark in marks if result[mark[0]] is not None]
    shown = [*result["rates"], *(result[field] for field, *_ in marks)]
    low, high = math.log10(min(shown)) - 0.1, math.log10(max(shown)) + 0.1
    for field, name, colour, dash, up in marks:
        made.add_vline(x=result[field], line={"color": colour, "width": 2, "dash": dash})
        place = math.log10(result[field])  # annotations on a log axis take logarithms, lines do not
        made.add_annotation(
            x=place,
            y=1,
            yref="paper",
            yanchor="bottom",
            yshift=up,  # one row each, so that near rates stay legible
            xanchor="right" if place - low > 0.6 * (high - low) else "left",
            text=f"{name} {result[field]:.1e}",
            showarrow=False,
            font={"size": 12, "color": colour},
        )
    smoothed = [y for y in result["smoothed"] if y is not None]
    if smoothed:  # otherwise losses where it diverges would flatten the rest
        floor, peak = min(smoothed), max(smoothed)
        pad = 0.15 * (peak - floor) or 0.1
        made.update_yaxes(range=[max(0, floor - 2 * pad), peak + pad])
    return made.update_xaxes(type="log", range=[low, high], exponentformat="power", dtick=1)
