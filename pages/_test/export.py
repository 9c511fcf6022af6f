"""The Export tab of the Test page: exports, each with its certificate."""

import functools

import streamlit as st

from engine import actions as gate
from engine import home as homes
from engine.exports import background, card, formats
from pages._ui import clicks, common, job, owners, who

PLACE = "export"


def show(run) -> None:
    """Every format: its purpose, a button that exports it, and the result of its check."""
    st.caption(
        "Each export is a zip with the model, labels, preprocessing, a model card and a short "
        "script that classifies an image and needs only that format's runtime. The export is "
        "loaded in a separate process and compared with this run on validation images; the zip "
        "contains the certificate."
    )
    common.show_error(PLACE)
    for name, format in formats.FORMATS.items():
        with st.container(border=True):
            _format(run, name, format)
    st.markdown("**Call it over HTTP**")
    st.caption("A small server with an OpenAPI page, JSON answers, and limits on size and rate:")
    st.code(f"python -m engine serve {run.id}", language="bash")


def _format(run, name, format):
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{format.title}**")
        precision = format.precisions[0]
        if len(format.precisions) > 1:
            precision = st.segmented_control(
                "Precision",
                format.precisions,
                default=precision,
                required=True,
                key=f"precision_{name}",
                label_visibility="collapsed",
                help="; ".join(f"{p}: {formats.PRECISIONS[p]}" for p in format.precisions),
            )
    st.caption(format.about)
    state = background.state(run, name, homes.home(), precision)
    if state["state"] == "running":
        return job.progress(
            lambda: background.state(run, name, homes.home(), precision),
            lambda: gate.cancel_export(run, name, precision, who.name()),
            f"stop_{name}_{precision}",
            refused=owners.why_not("cancel an export", run.owner),
        )
    if state["state"] == "failed":
        common.fail(state["error"])
    if state["state"] == "done":
        return _done(run, state["result"], f"{name}_{precision}")
    absent = formats.missing(name)
    if absent:
        st.caption(
            f":material/extension: Needs {', '.join(absent)} on this host, which the rest of Graft "
            f"does not need: `pip install -r {formats.EXTRA}`"
        )
    elif owners.button(
        "Export and check",
        "export a run",
        run.owner,
        key=f"export_{name}_{precision}",
        icon=":material/ios_share:",
    ):
        clicks.do(PLACE, gate.export, run, name, precision, False, who.name())
        st.rerun()


def _done(run, found, key):
    certificate = found["certificate"]
    box = st.success if certificate["agrees"] else st.error
    icon = ":material/verified:" if certificate["agrees"] else ":material/report:"
    box(common.plain(card.one_line(certificate)), icon=icon)
    refused = owners.why_not("download an export")
    label = "Download" if certificate["agrees"] else "Download anyway"
    st.download_button(
        f"{label} ({found['bytes'] / 1e6:.1f} MB)",
        functools.partial(gate.download, run, found["path"], who.name()),
        found["path"].name,
        "application/zip",
        on_click="ignore",
        key=f"download_{key}",
        disabled=refused is not None,
        help=refused,
        icon=":material/download:",
    )
