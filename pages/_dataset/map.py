"""Charts of the Dataset page: counts, sizes and the map of similar images.

A click in a chart filters the gallery below it.
"""

import numpy as np
import streamlit as st

from engine.charts import dataset as charts_dataset
from engine.host import words
from pages._dataset import gallery
from pages._dataset.data import View, aspect
from pages._ui import common, pictures
from pages._ui.live_chart import chart, draw, payload

COLOURED = {"class": "Class", "part": "Part", "correctness": "Cross-validated prediction"}
MEASURES = {
    "brightness": ("Brightness", "mean brightness (0 black, 255 white)"),
    "contrast": ("Contrast", "spread of brightness (0 none)"),
    "sharpness": ("Sharpness", "variance of the Laplacian (low is blurred)"),
}


def overview(view: View) -> None:
    """Counts, sizes, formats and brightness; a click on a chart shows the images."""
    dataset = view.dataset
    st.caption("Click a bar or a dot to see its images below.")
    left, right = st.columns(2)
    with left:
        _picking(view, charts_dataset.class_counts(dataset, view.parts), "class_counts")
    with right:
        _picking(view, charts_dataset.image_sizes(dataset), "image_sizes")
    figures = [
        charts_dataset.histogram(aspect(dataset), "aspect", "Aspect ratio", "width / height")
    ]
    for name, (title, unit) in MEASURES.items():
        values = view.measure(name)
        if values is not None:
            figures.append(charts_dataset.histogram(values, name, title, unit))
    for place in range(0, len(figures), 2):
        for column, figure in zip(st.columns(2), figures[place : place + 2], strict=False):
            with column:
                _picking(view, figure, f"histogram_{place}_{figure.layout.title.text}")
    _picking(view, charts_dataset.formats(dataset), "formats")
    if view.inspection is None:
        st.caption("Inspect the dataset under Findings to see brightness, contrast and sharpness.")
    _chosen(view, "overview")
    st.caption(
        f"Fingerprint {dataset.fingerprint[:12]}: the same images, labels and decisions give "
        "the same fingerprint."
    )


def _picking(view, figure, key):
    chart(figure, key, on_pick=lambda picks: _keep(view, "overview", picks))


def _keep(view, place, picks):
    """Keeps what was clicked while this dataset is shown."""
    st.session_state[f"picked_{place}"] = (view.dataset.source_fingerprint, picks)


def _chosen(view, place):
    """The images that were clicked or selected, if any."""
    of, picks = st.session_state.get(f"picked_{place}", ("", None))
    if not picks or of != view.dataset.source_fingerprint:
        return
    chosen = view.picked(picks)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Chosen in the chart: {common.plain(_words(view, picks))}**")
        st.button(
            "Clear", key=f"clear_{place}", icon=":material/close:", type="tertiary",
            on_click=_keep, args=(view, place, None),
        )  # fmt: skip
    gallery.gallery(view, chosen, f"picked_{place}")


def _words(view, picks) -> str:
    kind, *what = picks[0]
    if kind == "image":
        return words.plural(len(picks), "point")
    if kind == "class":
        return " ".join(what).strip()
    if kind == "size":
        return f"{what[0]} × {what[1]} pixels"
    if kind == "range":
        return f"{what[0]} {what[1]:.3g} to {what[2]:.3g}"
    return str(what[0])


def embedding(view: View) -> None:
    """The map: similar images lie near each other; the lasso lists the images it selects."""
    projection = view.measure("projection")
    if projection is None:
        st.info(
            "The inspection draws the map: press **Inspect this dataset** under Findings.",
            icon=":material/scatter_plot:",
        )
        return
    by = st.segmented_control(
        "Colour by", list(COLOURED), format_func=COLOURED.get, default="class", required=True,
        key="map_by", persist_state="session",
    )  # fmt: skip
    st.caption(
        "Each point is an image, placed by its backbone features: near means similar, but "
        "distances between far groups mean nothing. Hover over a point to see its image; draw "
        "around points to list them."
    )
    draw(
        _map(f"{view.name} {view.inspection.key} {by}", view, by)
        | {"thumbs": pictures.address(view.spec)},
        f"map_{by}",
        lambda picks: _keep(view, "map", picks),
    )
    shown = int(np.isfinite(projection).all(axis=1).sum())
    if shown > charts_dataset.MAPPED:
        st.caption(f"{charts_dataset.MAPPED:,} of {shown:,} images are drawn, chosen evenly.")
    _chosen(view, "map")


@st.cache_resource(max_entries=6, show_spinner=False)
def _map(name, _view, by) -> dict:
    """What the browser needs to draw the map: created once for all reruns and sessions."""
    dataset = _view.dataset
    suggested, asked = _view.measure("suggested"), _view.measure("given_probability")
    right = np.full(len(dataset), -1)
    # Answers are numbered by the source's classes; with decisions there may be fewer.
    order = {name: i for i, name in enumerate(dataset.source_classes)}
    own = np.array([order[name] for name in dataset.classes])[dataset.labels]
    known = np.isfinite(asked)
    right[known] = (suggested == own)[known]
    figure = charts_dataset.embedding_map(
        dataset, _view.measure("projection"), by, _view.parts, right
    )
    return payload(figure, "Map of the images by similarity")
