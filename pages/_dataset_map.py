"""Charts of the Dataset page: what there is of what, and the map of alike images; each filters a
gallery below it."""

import numpy as np
import streamlit as st

from engine import charts_dataset
from pages import _common, _dataset_gallery, _pictures
from pages._dataset_data import View, aspect
from pages._live_chart import chart

COLOURED = {"class": "Class", "part": "Part", "correctness": "Right or wrong (out of fold)"}
MEASURES = {
    "brightness": ("Brightness", "mean brightness (0 black, 255 white)"),
    "contrast": ("Contrast", "spread of brightness (0 none)"),
    "sharpness": ("Sharpness", "variance of the Laplacian (low is blurred)"),
}


def overview(view: View) -> None:
    """Counts, sizes, formats and brightness; a click on any shows the images."""
    dataset = view.dataset
    st.caption("Click a bar or a dot to see its images below.")
    left, right = st.columns(2)
    with left:
        _picking(charts_dataset.class_counts(dataset, view.parts), "class_counts")
    with right:
        _picking(charts_dataset.image_sizes(dataset), "image_sizes")
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
                _picking(figure, f"histogram_{place}_{figure.layout.title.text}")
    _picking(charts_dataset.formats(dataset), "formats")
    if view.inspection is None:
        st.caption("Brightness, contrast and sharpness come with the inspection: see Findings.")
    _chosen(view, "overview")
    st.caption(
        f"Fingerprint {dataset.fingerprint[:12]}: the same images, labels and decisions give the same "
        "one."
    )


def _picking(figure, key):
    chart(figure, key, on_pick=lambda picks: _keep("overview", picks))


def _keep(place, picks):
    st.session_state[f"picked_{place}"] = picks


def _chosen(view, place):
    """The images that were clicked or caught, if any."""
    picks = st.session_state.get(f"picked_{place}")
    if not picks:
        return
    chosen = view.picked(picks)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Chosen in the chart: {_words(view, picks)}**")
        st.button(
            "Clear", key=f"clear_{place}", icon=":material/close:", type="tertiary",
            on_click=_keep, args=(place, None),
        )  # fmt: skip
    _dataset_gallery.gallery(view, chosen, f"picked_{place}")


def _words(view, picks) -> str:
    kind, *what = picks[0]
    if kind == "image":
        return f"{len(picks):,} point{'s' * (len(picks) > 1)}"
    if kind == "class" and what[0] < len(view.dataset.classes):
        return _common.plain(" ".join([view.dataset.classes[what[0]], what[1]]).strip())
    if kind == "size":
        return f"{what[0]} × {what[1]} pixels"
    if kind == "range":
        return f"{what[0]} {what[1]:.3g} to {what[2]:.3g}"
    return str(what[0])


def embedding(view: View) -> None:
    """The map: alike images lie near each other; the lasso shows what it caught."""
    projection = view.measure("projection")
    if projection is None:
        st.info(
            "The map comes with the inspection: press **Inspect this dataset** under Findings.",
            icon=":material/scatter_plot:",
        )
        return
    by = st.segmented_control(
        "Colour by", list(COLOURED), format_func=COLOURED.get, default="class", required=True,
        key="map_by", persist_state="session",
    )  # fmt: skip
    st.caption(
        "Each point is an image, placed by what the backbone sees in it: near means alike, but "
        "distances between far groups mean nothing. Hover to see it; draw around points to list them."
    )
    suggested, asked = view.measure("suggested"), view.measure("given_probability")
    right = np.full(len(view.dataset), -1)
    # Answers count the source's classes; with decisions applied there may be fewer.
    order = {name: i for i, name in enumerate(view.dataset.source_classes)}
    own = np.array([order[name] for name in view.dataset.classes])[view.dataset.labels]
    known = np.isfinite(asked)
    right[known] = (suggested == own)[known]
    figure = charts_dataset.embedding_map(view.dataset, projection, by, view.parts, right)
    chart(
        figure, f"map_{by}", alt="Map of the images by likeness",
        on_pick=lambda picks: _keep("map", picks), thumbs=_pictures.address(view.spec),
    )  # fmt: skip
    _chosen(view, "map")
