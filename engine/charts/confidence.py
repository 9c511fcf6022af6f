"""Charts of a classifier's certainty: is it as right as it says it is, and how near is what it saw?"""

from engine.charts.training import ACCENT, TEST, VALIDATION, figure, rounded

_GREY = "#7d8794"


def reliability(before: dict, after: dict):
    """Reliability diagram: accuracy of the answers of each confidence, before and after scaling.

    Args:
        before, after: of `calibration.reliability`.
    """
    made = figure(
        "As right as it says? (reliability diagram)",
        "how sure the answer is (%)",
        "how often it is right (%)",
        hovermode="closest",
        height=380,
    )
    made.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        name="exactly right",
        line={"color": _GREY, "width": 1, "dash": "dot"},
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
            name=f"{name}, error {found['ece']:.3f}",
            text=[f"{row['n']:,} image{'s' * (row['n'] != 1)}" for row in rows],
            line={"color": colour, "width": 2, "dash": dash},
            # The larger, the more images: a bin of three says little.
            marker={
                "symbol": symbol,
                "size": [6 + 22 * (row["n"] / found["n"]) ** 0.5 for row in rows],
                "opacity": 0.8,
            },
            hovertemplate="says %{x:.0f} %, is right %{y:.0f} % (%{text})<extra></extra>",
        )
    made.update_xaxes(range=[0, 103], ticksuffix=" %", title_text="how sure the answer is")
    return made.update_yaxes(range=[-2, 106], ticksuffix=" %", title_text="how often it is right")


def distances(known, uploads=None):
    """How far images are from the training images.

    Args:
        known: the run's `confidence.Confidence`.
        uploads: float array (m,), distances of a batch, or None.
    """
    made = figure(
        "How far from the training images",
        "distance between features (0 to 1.4)",
        "share of images (%)",
        hovermode="closest",
        height=280,
        barmode="overlay",
        bargap=0.02,
    )
    groups = [(known.far["validation"], "validation images", VALIDATION, "")]
    if uploads is not None and len(uploads):
        groups.append((uploads, "these images", TEST, "/"))
    for values, name, colour, pattern in groups:
        made.add_histogram(
            x=rounded(list(map(float, values))),
            name=name,
            histnorm="percent",
            xbins={"start": 0, "end": 1.5, "size": 0.04},
            marker={"color": colour, "pattern_shape": pattern},
            opacity=0.65,
            hovertemplate="%{x}: %{y:.1f} %<extra></extra>",
        )
    lines = [
        (known.usual, "dash", 13, "beyond: far, never sure"),
        (known.threshold, "dot", 0, "beyond: not like training"),
    ]
    for place, dash, height, text in lines:
        made.add_vline(x=place, line={"color": _GREY, "width": 1.5, "dash": dash})
        made.add_annotation(
            x=place,
            y=1,
            yref="paper",
            text=text,
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            yshift=height,
            font={"size": 11},
        )
    return made
