"""Charts of a classifier's confidence: does it match accuracy, and how near is training?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go

from engine.charts.style import ACCENT, GREY, TEST, VALIDATION, figure
from engine.host.words import plural
from engine.runs.history import rounded


def reliability(before: dict, after: dict) -> go.Figure:
    """Reliability diagram: accuracy at each confidence, before and after temperature scaling.

    Args:
        before, after: of `engine.predict.calibration.reliability`.
    """
    made = figure(
        "Does confidence match accuracy?",
        "confidence",
        "accuracy (% correct)",
        hovermode="closest",
        height=380,
    )
    made.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        name="perfect match",
        line={"color": GREY, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
    styles = [
        (before, "before scaling", VALIDATION, "diamond", "dash"),
        (after, "after scaling", ACCENT, "circle", "solid"),
    ]
    for found, name, colour, symbol, dash in styles:
        rows = found["rows"]
        made.add_scatter(
            x=rounded([100 * row["confidence"] for row in rows]),
            y=rounded([100 * row["accuracy"] for row in rows]),
            mode="lines+markers",
            name=f"{name} (error {found['ece']:.3f})",
            text=[plural(row["n"], "image") for row in rows],
            line={"color": colour, "width": 2, "dash": dash},
            # Larger for more images: a bin of three says little.
            marker={
                "symbol": symbol,
                "size": [6 + 22 * (row["n"] / found["n"]) ** 0.5 for row in rows],
                "opacity": 0.8,
            },
            hovertemplate="confidence %{x:.1f}%, correct %{y:.1f}% (%{text})<extra></extra>",
        )
    made.update_xaxes(range=[0, 103], ticksuffix="%")
    return made.update_yaxes(range=[-2, 106], ticksuffix="%")


class Distances(Protocol):
    """What `distances` uses of `engine.predict.confidence.Confidence`."""

    far: dict[str, np.ndarray]
    limits: list[tuple[float, str]]


def distances(known: Distances, uploads: Sequence[float] | np.ndarray | None = None) -> go.Figure:
    """How far images are from the training images.

    Args:
        known: the run's Confidence.
        uploads: float array (m,), distances of a batch, or None.
    """
    made = figure(
        "Distance to the training images",
        "distance between features (0 to 1.4)",
        "% of images",
        hovermode="closest",
        height=280,
        barmode="overlay",
        bargap=0.02,
    )
    groups = [(np.asarray(known.far["validation"]), "validation images", VALIDATION, "")]
    if uploads is not None and len(uploads):
        groups.append((np.asarray(uploads), "these images", TEST, "/"))
    for values, name, colour, pattern in groups:
        made.add_histogram(
            x=rounded(values),
            name=name,
            histnorm="percent",
            xbins={"start": 0, "end": 1.5, "size": 0.04},
            marker={"color": colour, "pattern_shape": pattern},
            opacity=0.65,
            hovertemplate="distance %{x}: %{y:.1f}% of images<extra></extra>",
        )
    for (place, words), dash, height in zip(known.limits, ("dash", "dot"), (13, 0), strict=True):
        made.add_vline(x=place, line={"color": GREY, "width": 1.5, "dash": dash})
        made.add_annotation(
            x=place,
            y=1,
            yref="paper",
            text=f"beyond: {words}",
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            yshift=height,
            font={"size": 11},
        )
    return made
