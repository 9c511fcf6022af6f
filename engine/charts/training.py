"""Charts of a training run: loss, accuracy, learning rate and speed.

    from engine.charts import training
    events, _ = run.events()
    training.loss(events).show()

Each function takes a run's events, or an `engine.runs.history.History` that collects them piece by
piece. Stages are shaded bands with their names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import plotly.graph_objects as go

from engine.charts.style import GREY, SHADE, TRAIN, VALIDATION, figure, shown
from engine.runs.history import History, as_history, rounded, thin

Events: TypeAlias = Iterable[dict] | History


def loss(events: Events, by: str = "step") -> go.Figure:
    """Loss of every step (pale), and of every epoch on training and validation images.

    Args:
        events: of a run.
        by: "step" or "epoch", the unit of the horizontal axis.
    """
    made = _curves(events, "loss", "Loss (lower is better)", "loss", by)
    return made.update_yaxes(rangemode="tozero")


def accuracy(events: Events, by: str = "step") -> go.Figure:
    """Accuracy over training, in percent; arguments as for `loss`."""
    made = _curves(events, "accuracy", "Accuracy (% correct)", "", by, 100)
    return made.update_yaxes(ticksuffix="%")


def learning_rate(events: Events, by: str = "step") -> go.Figure:
    """Learning rate of every step; arguments as for `loss`."""
    return _batch_line(events, "learning_rate", "Learning rate (step size)", by)


def throughput(events: Events, by: str = "step") -> go.Figure:
    """Training images processed per second; arguments as for `loss`."""
    made = _batch_line(events, "images_per_second", "Speed (images per second)", by)
    return made.update_yaxes(rangemode="tozero")


def _batch_line(events, field, title, by):
    history = as_history(events)
    made, unit = _run_figure(history, title, "", by)
    made.update_layout(height=240, margin_b=8)
    steps, values = thin(history.batches["step"], history.batches[field])
    made.add_scatter(
        x=rounded(steps / unit),
        y=rounded(values),
        mode="lines",
        name="train",
        line={"color": TRAIN, "width": 1.8},
        showlegend=False,
    )
    return made


def _curves(events, field, title, y, by, scale=1):
    history = as_history(events)
    made, unit = _run_figure(history, title, y, by)
    steps, values = thin(history.batches["step"], history.batches[field])
    made.add_scatter(
        x=rounded(steps / unit),
        y=rounded(values * scale),
        mode="lines",
        opacity=0.45,
        name="train, each step",
        line={"color": TRAIN, "width": 1},
    )
    styles = [
        (field, "train", TRAIN, "solid", "circle"),
        (f"val_{field}", "validation", VALIDATION, "dash", "diamond"),
    ]
    for column, name, colour, dash, symbol in styles:
        steps, values = thin(history.epochs["step"], history.epochs[column])
        made.add_scatter(
            x=rounded(steps / unit),
            y=rounded(values * scale),
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2.2, "dash": dash},
            marker={"size": 8, "symbol": symbol},
        )
    return made


def _run_figure(history, title, y, by):
    """A figure as wide as the whole run, with its stages; and the steps per unit of its axis."""
    per_epoch = history.start.get("steps_per_epoch") or 1
    unit = per_epoch if by == "epoch" else 1
    made = figure(title, by + "s", y)
    # The planned end until the true one is known, so that the axis stays still during training.
    end = (
        history.last_step if history.end else history.start.get("total_steps") or history.last_step
    )
    if end:
        made.update_xaxes(range=[0, 1.015 * max(end, history.last_step) / unit])
    bands = [
        (s["name"], s["first"], history.last_step if s["last"] is None else s["last"])
        for s in history.stages
    ]
    _bands(made, [(name, first / unit, last / unit) for name, first, last in bands])
    return made, unit


def _bands(made, bands):
    """Shades every other stage, and draws a line with its name where each one starts."""
    for place, (name, first, last) in enumerate(bands):
        if place % 2:
            made.add_vrect(x0=first, x1=last, fillcolor=SHADE, line_width=0, layer="below")
        if place:
            made.add_vline(x=first, line={"color": GREY, "width": 1, "dash": "dot"})
        made.add_annotation(
            x=first,
            y=1,
            yref="paper",
            text=f"{place + 1} {shown(name)}",
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            xshift=-2,
            font={"size": 11},
        )


def planned_learning_rate(
    stages: Iterable[tuple[str, Sequence[float]]], steps_per_epoch: int
) -> go.Figure:
    """The learning rate of a whole run, before it starts.

    Args:
        stages: (name, rates) of each stage, rates holding one number for each step.
        steps_per_epoch: for the horizontal axis, which counts epochs.
    """
    made = figure("Planned learning rate", "epochs", height=250, showlegend=False, margin_b=8)
    first, bands, peak, low = 0, list[tuple[str, float, float]](), 0.0, math.inf
    for name, each in stages:
        rates = np.asarray(each, float)
        x = (first + np.arange(len(rates))) / steps_per_epoch
        bands.append((name, first / steps_per_epoch, (first + len(rates)) / steps_per_epoch))
        first += len(rates)
        x, y = thin(x, rates)
        peak, low = max(peak, y.max(initial=0)), min(low, y.max(initial=math.inf))
        style = {"name": shown(name), "line": {"color": TRAIN, "width": 2.2}}
        made.add_scatter(x=rounded(x), y=rounded(y), mode="lines", **style)
    _bands(made, bands)
    if bands and peak > 30 * low:  # on a linear axis the smaller stage would lie flat
        made.update_yaxes(type="log", dtick=1)
    return made.update_xaxes(range=[0, first / steps_per_epoch]).update_yaxes(
        exponentformat="power"
    )
