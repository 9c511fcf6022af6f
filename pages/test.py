"""Test: show a classifier images, its own test images or yours."""

from collections import Counter

import streamlit as st

from engine.images.decode import EXTENSIONS
from pages._test import answers, batch, cards, confidence, export, marks
from pages._ui import common

SOURCES = ["Upload", "Folder", "Webcam", "Test images of this run", "Earlier batches"]
VIEWS = {
    "Try it": "try",
    "Confidence": "sure",
    "Marked images": "marked",
    "Export": "away",
}


def show() -> None:
    """Draws the page."""
    common.header(
        "Test",
        "Show the classifier images it has never seen. It answers with exactly the model "
        "that was saved, on this host.",
    )
    finished = common.finished_runs()
    if not finished:
        common.empty(
            "**No classifier yet.** Train one first: the default recipe takes under a minute.",
            "train.py",
            "Go to Train",
        )
        return
    run, other = _choose(finished)
    tabs = dict(zip(VIEWS, st.tabs(list(VIEWS), key="test_view", on_change="rerun"), strict=True))
    views = {
        "Try it": lambda: _try(run, other),
        "Confidence": lambda: confidence.show(run),
        "Marked images": lambda: marks.show(run),
        "Export": lambda: export.show(run),
    }
    for name, tab in tabs.items():
        if tab.open:  # a closed tab's body would run all the same
            with tab, common.guard():
                views[name]()


def _try(run, other):
    kind = st.segmented_control(
        "Images from",
        SOURCES,
        default="Earlier batches" if st.query_params.get("batch") else "Upload",
        required=True,
        key="image_source",
        persist_state="session",
    )
    if kind in ("Upload", "Folder"):
        _uploaded(run, other, kind == "Folder")
        return
    if kind == "Earlier batches":
        batch.earlier(run)
        return
    st.query_params.pop("batch", None)
    images = _shots() if kind == "Webcam" else _examples(run)
    if images:
        cards.show(run, other, images)


def _uploaded(run, other, folder):
    files = st.file_uploader(
        "Drop a folder of images here"
        if folder
        else "Drop images here, one or many, or a zip of them",
        # A folder holds other things too, which are passed over; files are refused by name at once.
        type=[*EXTENSIONS] if folder else [*EXTENSIONS, "zip"],
        accept_multiple_files="directory" if folder else True,
        key="folder_images" if folder else "images",
        help=f"They are answered on this host and go nowhere else. Up to {cards.MOST} loose images are "
        "kept in memory only; more of them, and zips, are kept in Graft's home until you delete them, a "
        "week at most. Class folders give accuracy too.",
    )
    if not files:
        # A batch of this session is found again under Earlier batches.
        st.query_params.pop("batch", None)
        if not folder:
            st.caption("No image at hand? Choose **Test images of this run** above.")
        return
    zips = [file for file in files if file.name.lower().endswith(".zip")]
    loose = [file for file in files if file not in zips]
    if zips or folder or len(loose) > cards.MOST:
        batch.uploaded(run, zips, loose)
    if loose and not folder and len(loose) <= cards.MOST:
        cards.show(run, other, [(file.name, file.getvalue(), None) for file in loose])


def _shots():
    """Photos taken in this session, the newest first."""
    taken = st.session_state.setdefault("shots", [])
    with st.container(width=480):
        shot = st.camera_input("Take pictures", key="camera")
    if shot and shot.file_id not in [identity for identity, _ in taken]:
        taken.insert(0, (shot.file_id, shot.getvalue()))
        del taken[cards.MOST :]
    if taken and st.button("Discard the pictures", key="forget_shots", icon=":material/delete:"):
        taken.clear()
        st.rerun()
    count = len(taken)
    return [(f"photo {count - i}", data, None) for i, (_, data) in enumerate(taken)]


def _choose(finished):
    """The classifier, and one to compare it with: the address's run if it is finished, or the newest."""
    by_id = {run.id: run for run in finished}
    wanted = common.chosen_run()
    if wanted is not None and wanted.id not in by_id:
        st.info(
            "That run has no usable model, so the newest classifier is shown instead.",
            icon=":material/info:",
        )
        wanted = None
    current = wanted.id if wanted else finished[0].id
    if st.session_state.get("classifier") not in by_id or wanted is not None:
        st.session_state["classifier"] = current
    columns = st.columns([3, 2, 1], vertical_alignment="bottom")
    chosen = columns[0].selectbox(
        "Classifier",
        list(by_id),
        key="classifier",
        on_change=_remember,
        format_func=lambda i: (
            f"{common.run_text(by_id[i])}, test accuracy "
            f"{common.accuracy_text(by_id[i].evaluation)}"
        ),
    )
    others = ["", *(i for i in by_id if i != chosen)]
    if st.session_state.get("compared") not in others:
        st.session_state["compared"] = ""
    other = columns[1].selectbox(
        "Compare with",
        others,
        key="compared",
        disabled=len(others) == 1,
        format_func=lambda i: common.run_text(by_id[i]) if i else "no other run",
        help="A second run answers the same images, side by side.",
    )
    columns[2].number_input(
        "Answers (top-k)",
        1,
        20,
        3,
        key="top_k",
        persist_state="session",
        help="How many of the likeliest classes are shown for each image.",
    )
    run = by_id[chosen]
    common.choose_run(run)
    st.caption("Classes: " + common.plain(", ".join(run.classes)))
    answers.say_if_uncertain(run)
    return run, by_id.get(other)


def _remember():
    # Before the address is read again in this rerun: what was just picked is newer.
    st.query_params["run"] = st.session_state["classifier"]
    st.query_params.pop("batch", None)


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


show()
