"""Charts: one function from data to a Plotly figure each, for pages and notebooks alike.

    from engine.charts import training
    events, _ = run.events()
    training.loss(events).show()

Curves take a run's events, or an `engine.runs.history.History` that has collected them piece by piece. Train and
validation keep one colour, one line and one marker each in every chart, and stages are shaded
bands with their names, so colour is never the only signal. Light and dark share one template.
"""

import html
import math

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio

from engine.runs.history import as_history, rounded, thin

TRAIN, VALIDATION, TEST, ACCENT = "#3d7fe0", "#e0822d", "#9168cf", "#2a8f6d"
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
_GREY, _LINE, _SHADE = "#7d8794", "rgba(128,138,150,0.22)", "rgba(128,138,150,0.13)"
_SCALE = [
    [0, "rgba(42,143,109,0.03)"],
    [0.5, "rgba(42,143,109,0.45)"],
    [1, "rgba(42,143,109,0.95)"],
]

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
            "color": _GREY,
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
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": _GREY, "activecolor": ACCENT},
        "bargap": 0.25,
        "dragmode": "zoom",
        "height": 340,
    }
)


def figure(title="", x="", y="", **layout) -> go.Figure:
    """An empty figure in Graft's template, with titled axes."""
    made = go.Figure(layout=dict(template="graft", title_text=title, uirevision="graft", **layout))
    return made.update_xaxes(title_text=x).update_yaxes(title_text=y)


def shown(name: str) -> str:
    """A name made by people as Plotly shows it unchanged: in every text it reads some HTML."""
    return html.escape(name, quote=False)


def loss(events, by="step") -> go.Figure:
    """Loss over training: every step's (pale), every epoch's train and validation.

    Args:
        events: list of event dicts, or a History.
        by: "step" or "epoch", the unit of the horizontal axis.
    """
    made = _curves(events, "loss", "Loss (how wrong the answers are)", "loss", by)
    return made.update_yaxes(rangemode="tozero")


def accuracy(events, by="step") -> go.Figure:
    """Accuracy over training, in percent; arguments as `loss`."""
    made = _curves(events, "accuracy", "Accuracy (share of right answers)", "accuracy (%)", by, 100)
    return made.update_yaxes(ticksuffix=" %", title_text="")


def learning_rate(events, by="step") -> go.Figure:
    """Learning rate at every step; arguments as `loss`."""
    return _batch_line(events, "learning_rate", "Learning rate (size of the steps)", "", by)


def throughput(events, by="step") -> go.Figure:
    """Images trained on for each second; arguments as `loss`."""
    made = _batch_line(events, "images_per_second", "Speed (images per second)", "", by)
    return made.update_yaxes(rangemode="tozero")


def _batch_line(events, field, title, y, by):
    history = as_history(events)
    made, unit = _run_figure(history, title, y, by)
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
    """A figure as wide as the whole run, with its stages; and steps for each unit of its axis."""
    per_epoch = history.start.get("steps_per_epoch") or 1
    unit = per_epoch if by == "epoch" else 1
    made = figure(title, by + "s", y)
    # The planned end, until the true one is known: the axis stands still while points arrive.
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
    """Shades every other stage, draws a line where one begins, and writes its name there."""
    for place, (name, first, last) in enumerate(bands):
        if place % 2:
            made.add_vrect(x0=first, x1=last, fillcolor=_SHADE, line_width=0, layer="below")
        if place:
            made.add_vline(x=first, line={"color": _GREY, "width": 1, "dash": "dot"})
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


def planned_learning_rate(stages, steps_per_epoch: int) -> go.Figure:
    """The learning rate of a whole run, before it starts.

    Args:
        stages: list of (name, rates), rates holding one number for each step of the stage.
        steps_per_epoch: for the horizontal axis, which counts epochs.
    """
    made = figure(
        "Learning rate of the whole run", "epochs", "", height=250, showlegend=False, margin_b=8
    )
    first, bands, peak, low = 0, [], 0, math.inf
    for name, rates in stages:
        rates = np.asarray(rates, float)
        x = (first + np.arange(len(rates))) / steps_per_epoch
        bands.append((name, first / steps_per_epoch, (first + len(rates)) / steps_per_epoch))
        first += len(rates)
        x, y = thin(x, rates)
        peak, low = max(peak, y.max(initial=0)), min(low, y.max(initial=math.inf))
        style = {"name": shown(name), "line": {"color": TRAIN, "width": 2.2}}
        made.add_scatter(x=rounded(x), y=rounded(y), mode="lines", **style)
    _bands(made, bands)
    if bands and peak > 30 * low:  # otherwise the smaller stage would lie flat on the axis
        made.update_yaxes(type="log", dtick=1)
    return made.update_xaxes(range=[0, first / steps_per_epoch]).update_yaxes(
        exponentformat="power"
    )


def confusion_matrix(matrix, classes) -> go.Figure:
    """What each class was taken for: true classes down, answers across.

    Args:
        matrix: int array (classes, classes), rows are the truth.
        classes: names.
    """
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side, names = len(classes), [shown(name) for name in classes]
    made = figure(
        "Confusion matrix (true class down, answer across)",
        "answer",
        "true class",
        height=min(140 + 34 * side, 900),
        hovermode="closest",
    )
    made.add_heatmap(
        z=share.round(4).tolist(),
        x=names,
        y=names,
        customdata=matrix.tolist(),
        text=matrix.tolist() if side <= 30 else None,
        texttemplate="%{text}" if side <= 30 else None,
        colorscale=_SCALE,
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        showscale=side > 30,
        hovertemplate="true %{y}, answer %{x}: %{customdata} images (%{z:.0%})<extra></extra>",
    )
    made.update_xaxes(type="category", nticks=0, showgrid=False)
    return made.update_yaxes(type="category", nticks=0, autorange="reversed", showgrid=False)


def per_class(rows) -> go.Figure:
    """Precision and recall of each class.

    Args:
        rows: list of {label, precision, recall, f1, support}.
    """
    labels = [shown(row["label"]) for row in rows]
    made = figure(
        "Each class: found (recall) and trusted (precision)",
        "",
        "",
        barmode="group",
        hovermode="y unified",
        height=max(260, 110 + 34 * len(rows)),
    )
    for field, name, colour, pattern in (
        ("recall", "recall", ACCENT, ""),
        ("precision", "precision", TEST, "/"),
    ):
        made.add_bar(
            y=labels,
            x=[round(100 * (row[field] or 0), 1) for row in rows],
            name=name,
            orientation="h",
            marker={"color": colour, "pattern_shape": pattern},
        )
    made.update_xaxes(range=[0, 100], ticksuffix=" %")
    return made.update_yaxes(autorange="reversed", type="category", nticks=0, showgrid=False)


def top_k(answers) -> go.Figure:
    """The likeliest classes of one image, as labelled bars.

    Args:
        answers: list of (label, probability), the likeliest first.
    """
    percent = [100 * float(p) for _, p in answers]
    made = figure(
        height=12 + 36 * len(answers),
        showlegend=False,
        hovermode=False,
        margin={"l": 2, "r": 2, "t": 6, "b": 6},
    )
    made.add_bar(
        y=list(range(len(answers))),
        x=rounded(percent),
        width=0.28,
        orientation="h",
        marker={"color": [ACCENT] + [_GREY] * (len(answers) - 1), "opacity": 0.85},
    )
    # Above the bars, not beside them: on a small card a long name would leave no room for the figure.
    for row, (label, _) in enumerate(answers):
        name = shown(label if len(label) <= 18 else f"{label[:17]}…")
        for text, x, side in ((name, 0, "left"), (f"{percent[row]:.1f} %", 100, "right")):
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


_STATES = {
    "frozen": ("rgba(128,138,150,0.25)", "", "–"),
    "partly": (ACCENT, "/", "◐"),
    "trainable": (ACCENT, "", "●"),
}


def freeze_map(rows, stage_names) -> go.Figure:
    """What learns in every stage: a row a stage, a cell a block, from the image to the answer.

    Args:
        rows: of `engine.models.freezing.freeze_map`.
        stage_names: names of the stages, in order.
    """
    cells = [row for row in rows if row.kind != "total"]
    labels = [f"{i} {shown(name)}" for i, name in enumerate(stage_names, 1)]
    made = figure(
        "What learns (freeze map): image on the left, answer on the right",
        "",
        "",
        bargap=0.3,
        barmode="stack",
        hovermode="closest",
        height=110 + 62 * len(labels),
    )
    for state, (colour, pattern, sign) in _STATES.items():
        x, y, text, tips = [], [], [], []
        for place, row in enumerate(cells):
            for label, cell in zip(labels, row.cells, strict=True):
                if cell.state == state:
                    norm = {"keep": "=", "update": "~", "none": ""}[cell.batch_norm]
                    x.append(place), y.append(label), text.append(f"{sign}<br>{norm}")
                    norm = {"keep": "kept as pretrained", "update": "updated", "none": "none"}
                    tips.append(
                        f"<b>{shown(row.name)}</b>, stage {label}: {state}<br>{cell.trainable:,} parameters "
                        f"learn, {cell.frozen:,} stay<br>batch norm: {norm[cell.batch_norm]}"
                    )
        name = {"frozen": "frozen –", "partly": "partly ◐", "trainable": "learns ●"}[state]
        if x or state != "partly":
            made.add_bar(
                base=x or [None],
                x=[0.9] * len(x) or [None],
                y=y or [None],
                orientation="h",
                name=name,
                text=text,
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                hovertext=tips,
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
