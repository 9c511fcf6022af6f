"""Charts of predictions: confusion matrix, recall and precision, and the likeliest classes."""

from __future__ import annotations

from collections.abc import Sequence, Sized

import numpy as np
import plotly.graph_objects as go

from engine.charts.style import ACCENT, GREY, TEST, figure, shown
from engine.host.words import percent, plural
from engine.runs.history import rounded
from engine.runs.worst import most_confused, worst

_SCALE = [
    [0, "rgba(42,143,109,0.03)"],
    [0.5, "rgba(42,143,109,0.45)"],
    [1, "rgba(42,143,109,0.95)"],
]


def _of(kind: str, drawn: int, every: Sized) -> str:
    """Which classes a chart shows if not all: ": the 30 most confused of 1,000 classes"."""
    return f": the {drawn} {kind} of {len(every):,} classes" if drawn < len(every) else ""


def confusion_matrix(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> go.Figure:
    """How often each class was predicted as each class; of many, the most confused ones.

    A class without images has no shares: its row is full of dashes.

    Args:
        matrix: int array (classes, classes), rows = true class, columns = predicted class.
        classes: names.
    """
    counts, drawn = np.asarray(matrix, int), most_confused(matrix)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    share, there = share[np.ix_(drawn, drawn)], counts.sum(1)[drawn].tolist()
    counts = counts[np.ix_(drawn, drawn)]
    side, names = len(drawn), [shown(classes[i]) for i in drawn]
    made = figure(
        "Confusion matrix" + _of("most confused", side, classes),
        "predicted class",
        "true class",
        height=140 + 34 * min(side, 22),
        hovermode="closest",
    )
    made.add_heatmap(
        z=share.round(4).tolist(),
        x=names,
        y=names,
        customdata=[[plural(count, "image") for count in row] for row in counts.tolist()],
        text=[r if n else ["–"] * side for r, n in zip(counts.tolist(), there, strict=True)],
        hovertext=[
            [percent(s if n else None) for s in r] for r, n in zip(share, there, strict=True)
        ],
        texttemplate="%{text}",
        colorscale=_SCALE,
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        showscale=False,
        hovertemplate="%{y}, predicted as %{x}: %{customdata} (%{hovertext} of the class)"
        "<extra></extra>",
    )
    made.update_xaxes(type="category", nticks=0, showgrid=False)
    return made.update_yaxes(type="category", nticks=0, autorange="reversed", showgrid=False)


def per_class(rows: Sequence[dict]) -> go.Figure:
    """Recall and precision of each class; of many classes, those with the lowest F1.

    Args:
        rows: dicts of label, precision, recall, f1 and support.
    """
    kept = worst(rows)
    labels = [shown(row["label"]) for row in kept]
    made = figure(
        "Recall and precision by class" + _of("with the lowest F1", len(kept), rows),
        barmode="group",
        hovermode="y unified",
        height=max(260, 110 + 34 * len(kept)),
    )
    for field, name, colour, pattern in (
        ("recall", "recall (% found)", ACCENT, ""),
        ("precision", "precision (% correct when predicted)", TEST, "/"),
    ):
        made.add_bar(
            y=labels,
            x=[None if row[field] is None else round(100 * row[field], 1) for row in kept],
            name=name,
            orientation="h",
            marker={"color": colour, "pattern_shape": pattern},
        )
    made.update_xaxes(range=[0, 100], ticksuffix="%")
    return made.update_yaxes(autorange="reversed", type="category", nticks=0, showgrid=False)


def top_k(answers: Sequence[tuple[str, float]]) -> go.Figure:
    """The likeliest classes of one image, as labelled bars.

    Args:
        answers: (label, probability), the likeliest first.
    """
    made = figure(
        height=12 + 36 * len(answers),
        showlegend=False,
        hovermode=False,
        margin={"l": 2, "r": 2, "t": 6, "b": 6},
    )
    made.add_bar(
        y=list(range(len(answers))),
        x=rounded([100 * probability for _, probability in answers]),
        width=0.28,
        orientation="h",
        marker={"color": [ACCENT] + [GREY] * (len(answers) - 1), "opacity": 0.85},
    )
    # Above the bars, not beside them: on a small card, a long name would leave no room for bars.
    for row, (label, probability) in enumerate(answers):
        name = shown(label if len(label) <= 18 else f"{label[:17]}…")
        for text, x, side in ((name, 0, "left"), (percent(probability), 100, "right")):
            made.add_annotation(
                text=text,
                x=x,
                y=row - 0.14,
                xanchor=side,
                yanchor="bottom",
                showarrow=False,
                borderpad=1,
            )
    made.update_xaxes(range=[0, 100], visible=False)
    return made.update_yaxes(range=[len(answers) - 0.5, -0.72], visible=False)
