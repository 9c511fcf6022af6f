"""Charts of a dataset: counts, sizes, formats, histograms and the embedding map.

The `customdata` of every bar and point is a *pick*, plain data `[kind, ...]` that says which images
it stands for; `picked` returns their indices. So a click or a lasso on any chart filters a gallery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import plotly.graph_objects as go

from engine.charts.style import ACCENT, GREY, PARTS, figure, shown
from engine.host.words import plural
from engine.runs.history import POINTS, rounded

if TYPE_CHECKING:
    from engine.data.prepared import Dataset

Parts: TypeAlias = Mapping[str, np.ndarray]

PATTERNS = {"train": "", "validation": "/", "test": "."}
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
COLOURS = (
    "#3d7fe0", "#e0822d", "#2a8f6d", "#9168cf", "#c7486b", "#8a7a2c", "#2fa3b5", GREY,
)  # fmt: skip
BINS = 40
"""Bars of a histogram."""
ENDS = 20
"""Most classes at either end that the chart of classes draws: more would be too tall to read."""
MAPPED = 20_000
"""Most points on the map: more would take a browser seconds to draw."""
NAMED = 20
"""Most classes with their own colour and symbol on the map, the largest ones."""
ODD = "#c7486b"


def picked(
    picks: Sequence[Sequence],
    dataset: Dataset,
    parts: Parts | None = None,
    measures: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Indices of the images that picks stand for.

    Args:
        picks: `[kind, ...]` as in the charts' customdata.
        dataset: an open Dataset.
        parts: {part: indices}, or None.
        measures: {name: float array (n,)} of the same images, for picks of a histogram.

    Returns:
        int64 array, sorted; unknown picks add nothing.
    """
    # By content and by name: once an image is left out, the same number means another image.
    caught = [what[1] for kind, *what in picks if kind == "image" and len(what) > 1]
    chosen = np.isin(dataset.contents, caught) if caught else np.zeros(len(dataset), bool)
    for kind, *what in picks:
        if kind == "class" and what[0] in dataset.classes:
            own = dataset.labels == dataset.classes.index(what[0])
            if what[1] and parts:
                inside = np.zeros(len(dataset), bool)
                inside[parts[what[1]]] = True
                own &= inside
            chosen |= own
        elif kind == "size":
            chosen |= (dataset.widths == what[0]) & (dataset.heights == what[1])
        elif kind == "format":
            chosen |= dataset.formats == what[0]
        elif kind == "range" and measures and what[0] in measures:
            values = measures[what[0]]
            chosen |= (values >= what[1]) & (values < what[2])
    return np.flatnonzero(chosen)


def class_counts(dataset: Dataset, parts: Parts | None = None) -> go.Figure:
    """Images per class and part; the title compares the largest class with the smallest.

    Of many classes, the largest and the smallest are drawn.

    Args:
        dataset: an open Dataset.
        parts: {part: indices}, or None while there is no split.
    """
    classes, count = list(dataset.classes), len(dataset.classes)
    totals = np.bincount(dataset.labels, minlength=count)
    ratio = totals.max() / max(1, totals.min())
    balance = "balanced" if ratio < 1.5 else f"the largest has {ratio:.1f}× the smallest"
    drawn, title = np.arange(count), f"Images per class ({balance})"
    if count > 2 * ENDS:
        order = np.argsort(-totals, kind="stable")
        drawn = np.concatenate([order[:ENDS], order[-ENDS:]])
        title += f": the {ENDS} largest and the {ENDS} smallest of {count:,}"
    classes = [classes[i] for i in drawn]
    made = figure(
        title,
        "images",
        barmode="stack",
        hovermode="closest",
        height=max(260, 110 + 26 * len(drawn)),
    )
    for part, chosen in (parts or {"": np.arange(len(dataset))}).items():
        numbers = np.bincount(dataset.labels[chosen], minlength=count)[drawn].tolist()
        noun = f"{part} image".strip()
        made.add_bar(
            y=[shown(name) for name in classes],
            x=numbers,
            name=part or "images",
            orientation="h",
            customdata=[["class", name, part] for name in classes],
            marker={"color": PARTS.get(part, ACCENT), "pattern_shape": PATTERNS.get(part, "")},
            text=[plural(number, noun) for number in numbers],
            textposition="none",
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    made.update_yaxes(autorange="reversed", nticks=0, type="category", showgrid=False)
    return made.update_layout(legend_traceorder="normal")


def image_sizes(dataset: Dataset) -> go.Figure:
    """Width against height; larger dots stand for more images.

    Args:
        dataset: an open Dataset.
    """
    pairs, numbers = np.unique(
        np.stack([dataset.widths, dataset.heights], 1), axis=0, return_counts=True
    )
    if len(pairs) > POINTS:
        kept = np.sort(np.argsort(-numbers, kind="stable")[:POINTS])
        pairs, numbers = pairs[kept], numbers[kept]
    made = figure("Image sizes", "width (pixels)", "height (pixels)", hovermode="closest")
    made.add_scatter(
        x=pairs[:, 0].tolist(),
        y=pairs[:, 1].tolist(),
        mode="markers",
        customdata=[["size", w, h] for w, h in pairs.tolist()],
        text=[plural(number, "image") for number in numbers.tolist()],
        marker={
            "color": ACCENT,
            "opacity": 0.65,
            "size": (7 + 16 * np.sqrt(numbers / numbers.max())).tolist(),
        },
        hovertemplate="%{x} × %{y} pixels: %{text}<extra></extra>",
    )
    return made.update_xaxes(rangemode="tozero").update_yaxes(rangemode="tozero")


def formats(dataset: Dataset) -> go.Figure:
    """Images of each file format."""
    kinds, numbers = np.unique(dataset.formats, return_counts=True)
    height = 110 + 34 * max(2, len(kinds))
    made = figure("File formats", "images", hovermode="closest", height=height)
    made.add_bar(
        y=kinds.tolist(),
        x=numbers.tolist(),
        orientation="h",
        customdata=[["format", kind] for kind in kinds.tolist()],
        marker={"color": ACCENT},
        text=[plural(number, "image") for number in numbers.tolist()],
        textposition="none",
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    return made.update_yaxes(type="category", nticks=0, showgrid=False, autorange="reversed")


def histogram(values: np.ndarray, name: str, title: str, unit: str) -> go.Figure:
    """Distribution of a measure over the images, in `BINS` bars.

    Args:
        values: float array (n,); values that are not finite are left out.
        name: under which `picked` finds the values.
        title, unit: for people.
    """
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    made = figure(title, unit, "images", hovermode="closest", height=280, bargap=0.04)
    if not len(finite):
        return made
    low, high = float(finite.min()), float(finite.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    numbers = np.histogram(finite, edges)[0]
    bars = list(pairwise(edges.tolist()))
    picks = [["range", name, a, b] for a, b in bars]
    picks[-1][3] = float(np.nextafter(high, np.inf))  # the last bar holds its upper end too
    made.add_bar(
        x=rounded((edges[:-1] + edges[1:]) / 2),
        y=numbers.tolist(),
        width=float(edges[1] - edges[0]),
        customdata=picks,
        marker={"color": ACCENT},
        text=[
            f"{a:.3g} to {b:.3g}: {plural(number, 'image')}"
            for (a, b), number in zip(bars, numbers.tolist(), strict=True)
        ],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    return made


def embedding_map(
    dataset: Dataset,
    projection: np.ndarray,
    by: str,
    parts: Parts | None = None,
    right: np.ndarray | None = None,
) -> go.Figure:
    """Images as points, similar ones near each other.

    Args:
        dataset: an open Dataset.
        projection: float array (n, 2), of the same images; NaN for those without a place.
        by: "class", "part" or "correctness".
        parts: {part: indices}, needed for by part.
        right: int array (n,), needed for by correctness: 1 where a classifier that was not trained
            on the image predicted its label, 0 where it did not, -1 without a prediction.

    Returns:
        A scatter; its customdata are picks of single images, then their content and a caption.
    """
    group, names, colours, rest = _groups(dataset, by, parts, right)
    made = figure(hovermode="closest", height=520, dragmode="lasso")
    placed = np.isfinite(projection).all(axis=1)
    drawn = np.flatnonzero(placed)
    if len(drawn) > MAPPED:
        placed[:] = False
        placed[drawn[np.linspace(0, len(drawn) - 1, MAPPED).astype(int)]] = True
    if len(names) > NAMED:
        largest = np.argsort(-np.bincount(group[group >= 0], minlength=len(names)))[:NAMED]
        group = np.where(np.isin(group, largest), group, -1)
    classes = np.array(dataset.classes, object)[dataset.labels]
    for number in [*range(len(names)), -1]:
        own = np.flatnonzero(placed & (group == number))
        if not len(own):
            continue
        made.add_scattergl(
            x=rounded(projection[own, 0]),
            y=rounded(projection[own, 1]),
            mode="markers",
            name=shown(names[number]) if number >= 0 else rest,
            customdata=[["image", i, str(dataset.contents[i]), classes[i]] for i in own.tolist()],
            marker={
                "color": colours[number] if number >= 0 else GREY,
                "symbol": SYMBOLS[number % len(SYMBOLS)],
                "size": 6 if len(dataset) > 2000 else 8,
                "opacity": 0.75,
            },
            hoverinfo="none",
        )
    made.update_xaxes(visible=False).update_yaxes(visible=False, scaleanchor="x")
    return made.update_layout(margin={"l": 4, "r": 4, "t": 8, "b": 44})


def _groups(dataset, by, parts, right) -> tuple[np.ndarray, list[str], list[str], str]:
    """(group of each image, -1 for the rest; names; colours; name of the rest)."""
    if by == "part":
        group = np.full(len(dataset), -1)
        for number, part in enumerate(PARTS):
            group[(parts or {}).get(part, np.zeros(0, int))] = number
        return group, list(PARTS), list(PARTS.values()), "not used"
    if by == "correctness":
        group = np.where(right < 0, -1, 1 - right)
        return group, ["matches the label", "differs"], [ACCENT, ODD], "no prediction"
    names = list(dataset.classes)
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    return dataset.labels, names, colours, "other classes"
