"""Import on the Runs page: an uploaded model becomes a run that you can test."""

import streamlit as st

from engine import actions as gate
from engine.errors import GraftError
from engine.imports import imports
from pages._ui import common, who

SCALES = {
    "included": "none: it takes pixels from 0 to 255",
    "tf": "scaled to -1 to 1 (tf)",
    "torch": "0 to 1, minus ImageNet's mean, divided by its deviation (torch)",
    "caffe": "BGR, minus ImageNet's mean (caffe)",
}


def section() -> None:
    """A folded form for a zipped run folder or a .keras file."""
    with st.expander("Import a run or a model from elsewhere"):
        st.caption(
            "A zip of a run's folder, or a .keras file. It is checked before Keras loads it: only "
            "known layers and values pass, and it is loaded in a separate process with limits. "
            "To import a folder on this host, use `python -m engine import PATH`."
        )
        file = st.file_uploader("File", ["zip", "keras"], key="import_file")
        labels, size, scale = None, None, "included"
        if file and file.name.lower().endswith(".keras"):
            text = st.text_area(
                "Class names, one per line, in the order of its outputs", key="import_labels"
            )
            labels = text.splitlines() if text.strip() else None
            with st.container(horizontal=True, vertical_alignment="bottom"):
                scale = st.selectbox(
                    "Preprocessing it expects",
                    list(SCALES),
                    format_func=SCALES.get,
                    key="import_scale",
                    width=420,
                )
                size = st.number_input(
                    "Image size, if the model accepts any (pixels)",
                    32,
                    1024,
                    None,
                    key="import_size",
                    width=260,
                )
        if file and st.button("Import", key="import", icon=":material/download:"):
            _add(file, labels, size, scale)
        for note in st.session_state.get("imported", ()):
            st.caption(f":material/info: {common.plain(note)}")


def _add(file, labels, size, scale):
    bar = st.progress(0.0, text="Reading the file")

    def report(text, done=0, total=None):
        bar.progress(min(1.0, done / total) if total else 0.0, text=common.plain(text))

    try:
        names = imports.checked_labels(labels) if labels else None
        about = {"labels": names, "image_size": size, "preprocessing": scale}
        made = gate.import_upload(
            file.name, file.getbuffer(), common.home(), who=who.name(), report=report, **about
        )
    except GraftError as error:
        bar.empty()
        common.fail(error)
        return
    st.session_state["imported"] = made.notes
    common.choose_run(made.run)
    st.rerun()
