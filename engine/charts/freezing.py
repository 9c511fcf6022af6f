"""The freeze map: which blocks of the network each stage trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from engine.charts.style import ACCENT, figure, shown

if TYPE_CHECKING:
    from engine.models.freezing import Row

_STATES = {
    "frozen": ("rgba(128,138,150,0.25)", "", "–", "frozen"),
    "partly": (ACCENT, "/", "◐", "partly trained"),
    "trainable": (ACCENT, "", "●", "trained"),
}
_SIGNS = {"keep": "=", "update": "~", "none": ""}
_NORMS = {"keep": "kept as pretrained", "update": "updated", "none": "none"}


def freeze_map(rows: Sequence[Row], stage_names: Sequence[str]) -> go.Figure:
    """Which blocks each stage trains: one row per stage, one cell per block, input to output.

    Args:
        rows: of `engine.models.freezing.freeze_map`.
        stage_names: in order.
    """
    cells = [row for row in rows if row.kind != "total"]
    labels = [f"{i} {shown(name)}" for i, name in enumerate(stage_names, 1)]
    made = figure(
        "Freeze map: blocks trained in each stage",
        "blocks, from input to output",
        bargap=0.3,
        barmode="stack",
        hovermode="closest",
        height=130 + 62 * len(labels),
    )
    nothing: list[Any] = [None]  # keeps a state without cells in the legend
    for state, (colour, pattern, sign, words) in _STATES.items():
        own = [
            (place, label, row, cell)
            for place, row in enumerate(cells)
            for label, cell in zip(labels, row.cells, strict=True)
            if cell.state == state
        ]
        if own or state != "partly":
            made.add_bar(
                base=[place for place, *_ in own] or nothing,
                x=[0.9] * len(own) or nothing,
                y=[label for _, label, *_ in own] or nothing,
                orientation="h",
                name=f"{words} {sign}",
                text=[f"{sign}<br>{_SIGNS[cell.batch_norm]}" for *_, cell in own],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                hovertext=[
                    f"<b>{shown(row.name)}</b>, stage {label}: {words}<br>"
                    f"{cell.trainable:,} parameters trained, {cell.frozen:,} frozen<br>"
                    f"batch norm: {_NORMS[cell.batch_norm]}"
                    for _, label, row, cell in own
                ],
                hoverinfo="text",
                marker={"color": colour, "pattern_shape": pattern},
            )
    ticks = [i for i, row in enumerate(cells) if len(cells) <= 10 or row.kind == "head" or i == 0]
    made.update_xaxes(
        tickvals=[i + 0.45 for i in ticks],
        ticktext=[shown(cells[i].name) for i in ticks],
        showgrid=False,
        tickangle=0,
    )
    return made.update_yaxes(autorange="reversed", type="category", nticks=0, showgrid=False)
