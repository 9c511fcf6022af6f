"""Test: show a classifier images, its own test images or yours."""

import hashlib
from collections import Counter

import streamlit as st

from engine import charts
from engine.classifier import Classifier
from engine.images import EXTENSIONS
from pages import _common
from pages._live_chart import chart

MOST = 12  # answers on one page; more are paged through
ABREAST = 3
BOX = (300, 260)  # an image is shown no larger, so that cards line up; in pixels


def show() -> None:
    """Draws the page."""
    _common.header(
        "Test",
        "Show the classifier images it has never seen. It answers with exactly the model "
        "that was saved, on this host.",
    )
    finished = _common.finished_runs()
    if not finished:
        _common.empty(
            "**No classifier yet.** Train one first: the default recipe takes under a minute.",
            "train.py",
            "Go to Train",
        )
        return
    run = _choose(finished)
    kind = st.segmented_control(
        "Images from",
        ["Upload", "Webcam", "Test images of this run"],
        default="Upload",
        required=True,
        key="image_source",
        persist_state="session",
    )
    if kind == "Webcam":
        with st.container(width=480):
            shot = st.camera_input("Take a picture", key="camera")
        images = [("webcam", shot.getvalue(), None)] if shot else []
    elif kind == "Upload":
        files = st.file_uploader(
            "Drop images here, one or many",
            type=list(EXTENSIONS),
            accept_multiple_files=True,
            key="images",
            help="They are answered on this host, kept in memory only and go nowhere else.",
        )
        images = [(file.name, file.getvalue(), None) for file in files]
        if not images:
            st.caption("No image at hand? Choose **Test images of this run** above.")
    else:
        images = _examples(run)
    if images:
        _answers(run, images)


def _choose(finished):
    """The classifier: the address's run if it is finished, otherwise the newest."""
    by_id = {run.id: run for run in finished}
    wanted = _common.chosen_run()
    if wanted is not None and wanted.id not in by_id:
        st.info(
            "That run has no usable model, so the newest classifier is shown instead.",
            icon=":material/info:",
        )
        wanted = None
    current = wanted.id if wanted else finished[0].id
    if st.session_state.get("classifier") not in by_id or wanted is not None:
        st.session_state["classifier"] = current
    columns = st.columns([3, 1], vertical_alignment="bottom")
    chosen = columns[0].selectbox(
        "Classifier",
        list(by_id),
        key="classifier",
        on_change=_remember,
        format_func=lambda i: (
            f"{_common.run_label(by_id[i])}, test accuracy "
            f"{_common.accuracy_text(by_id[i].evaluation)}"
        ),
    )
    columns[1].number_input(
        "Answers to show (top-k)",
        1,
        20,
        3,
        key="top_k",
        persist_state="session",
        help="How many of the likeliest classes are shown for each image.",
    )
    _common.choose_run(by_id[chosen])
    st.caption("Knows: " + _common.plain(", ".join(by_id[chosen].classes)))
    return by_id[chosen]


def _remember():
    # Before the address is read again in this rerun: what was just picked is newer.
    st.query_params["run"] = st.session_state["classifier"]


def _examples(run):
    """(name, path, true label) of some of the run's own test images."""
    stored = run.examples()
    if not stored:
        st.caption("This run stored no test images.")
    # Classes take turns, so that the first page shows all of them.
    seen = Counter()
    turns = []
    for item in stored:
        turns.append(seen[item["label"]])
        seen[item["label"]] += 1
    order = sorted(range(len(stored)), key=lambda i: turns[i])
    return [(stored[i]["name"], stored[i]["path"], stored[i]["label"]) for i in order]


@st.cache_resource(max_entries=3, show_spinner="Loading the classifier")
def classifier(path: str, run_id: str, _run) -> Classifier:
    """The classifier of a run, shared by all sessions."""
    return Classifier(_run)


@st.cache_data(max_entries=500, show_spinner=False)
def answer(run_path: str, run_id: str, digest: str, _run, _image, _name):
    """One answer, kept so that a rerun does not classify again."""
    found = classifier(run_path, run_id, _run).predict([_image])[0]
    picture = None
    if found.image is not None:
        picture = found.image.copy()
        picture.thumbnail((2 * BOX[0], 2 * BOX[1]))  # sharp on a dense screen too
    return {
        "error": found.error,
        "top": [] if found.error else found.top(20),
        "seconds": found.seconds,
        "image": picture,
    }


def _answers(run, images):
    pages = -(-len(images) // MOST)
    page = st.pagination(pages, key="answers_page") if pages > 1 else 1
    shown = images[(page - 1) * MOST : page * MOST]
    for first in range(0, len(shown), ABREAST):
        # A row at a time: cards of different heights then still begin on one line.
        for column, (name, image, truth) in zip(st.columns(ABREAST), shown[first:], strict=False):
            content = image if isinstance(image, bytes) else str(image).encode()
            digest = hashlib.sha256(content).hexdigest()
            given = answer(str(run.path), run.id, digest, run, image, name)
            with column.container(border=True):
                _card(name, truth, given, f"{digest[:12]}_{shown.index((name, image, truth))}")


def _card(name, truth, given, key):
    if given["image"] is not None:
        width, height = given["image"].size
        st.image(
            given["image"], width=max(1, round(min(BOX[0], BOX[1] * width / height))), alt=name
        )
    if given["error"]:
        st.error(f"{_common.plain(name)}: {given['error']}.", icon=":material/broken_image:")
        return
    label, probability = given["top"][0]
    st.markdown(f"#### {_common.plain(label)} &nbsp; {100 * probability:.0f} %")
    if truth is not None:
        right = truth == label
        sign = ":green[:material/check: right]" if right else ":orange[:material/close: wrong]"
        st.markdown(f"{sign}, it is **{_common.plain(truth)}**")
    top = given["top"][: int(st.session_state["top_k"])]
    words = ", ".join(f"{name} {100 * p:.1f} %" for name, p in top)
    chart(charts.top_k(top), f"answer_{key}", alt=f"Likeliest classes: {words}")
    st.caption(f"{_common.plain(name)} · {1000 * given['seconds']:.0f} ms")


show()
