"""Test: try a classifier on its test images or on your own."""

from collections import Counter

import streamlit as st

from engine.errors import GraftError
from engine.host import words
from engine.images.decode import EXTENSIONS
from pages._test import answers, batch, cards, confidence, export, marks, share
from pages._ui import common, owners, who

SOURCES = ["Upload", "Folder", "Webcam", "Test images of this run", "Earlier batches"]
CLASSES = 10  # named above the uploader, which stays in view
VIEWS = {
    "Try it": "try",
    "Confidence": "sure",
    "Marked images": "marked",
    "Share": "guests",
    "Export": "away",
}


def show() -> None:
    """Draws the page."""
    common.header(
        "Test",
        "Try the classifier on images it has never seen. It runs on this host, with exactly "
        "the model that was saved.",
    )
    for _, why in common.all_runs()[1]:
        common.fail(why)
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
        "Share": lambda: share.show(run),
        "Export": lambda: export.show(run),
    }
    for name, tab in tabs.items():
        if tab.open:  # the body of a closed tab would run too
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
        "Drop a folder of images here; files with other endings are not uploaded"
        if folder
        else "Drop images here, one or many, or a zip of them",
        # Other files in a folder are skipped; single files of another type are refused by name.
        type=[*EXTENSIONS] if folder else [*EXTENSIONS, "zip"],
        accept_multiple_files="directory" if folder else True,
        key="folder_images" if folder else "images",
        help=f"Images never leave this host. Up to {cards.MOST} loose images stay in memory only; "
        "more images, and zips, are stored in Graft's home until you delete them, for at most a "
        "week. With one folder for each class you also get the accuracy.",
    )
    if not files:
        # The session's batches remain under Earlier batches.
        st.query_params.pop("batch", None)
        if not folder:
            st.caption("No images? Choose **Test images of this run** above.")
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
    """Returns the classifier and one to compare it with, or None.

    The default is the run in the address if it is finished, else the newest.
    """
    kept, wanted = owners.whose(), common.chosen_run()
    own = owners.chosen(finished, kept, wanted)
    if not own:
        st.caption("You have no models yet, so everyone's are offered.")
    by_id = {run.id: run for run in own or finished}
    if wanted is not None and wanted.id not in by_id:
        st.info(
            "That run has no usable model, so the newest classifier is shown instead.",
            icon=":material/info:",
        )
        wanted = None
    current = wanted.id if wanted else next(iter(by_id))
    if st.session_state.get("classifier") not in by_id or wanted is not None:
        st.session_state["classifier"] = current
    labels = common.distinct({i: _choice(run) for i, run in by_id.items()})
    columns = st.columns([3, 2, 1], vertical_alignment="bottom")
    chosen = columns[0].selectbox(
        "Classifier",
        list(by_id),
        key="classifier",
        on_change=_remember,
        format_func=labels.get,
    )
    texts = common.distinct({i: common.run_text(by_id[i]) for i in by_id if i != chosen})
    others = ["", *texts]
    if st.session_state.get("compared") not in others:
        st.session_state["compared"] = ""
    other = columns[1].selectbox(
        "Compare with",
        others,
        key="compared",
        disabled=len(others) == 1,
        format_func=lambda i: texts.get(i, "no other run"),
        help="A second run classifies the same images, side by side.",
    )
    columns[2].number_input(
        "Classes shown (top-k)",
        1,
        20,
        3,
        key="top_k",
        persist_state="session",
        help="Number of most likely classes to show for each image.",
    )
    run = by_id[chosen]
    common.choose_run(run)
    st.caption("Classes: " + common.plain(words.listed(run.classes, CLASSES)))
    answers.say_if_uncertain(run)
    return run, by_id.get(other)


def _choice(run) -> str:
    """A run with its test accuracy; its interval, for which there is no room, is on Runs."""
    try:
        test = (run.evaluation or {}).get("test")
        accuracy = words.percent(test and test["accuracy"])
    except GraftError:  # Runs says why; the other runs can still be chosen
        accuracy = "accuracy damaged"
    owner = f" · {run.owner}" if who.accounts() else ""
    return f"{common.run_text(run)} · {accuracy}{owner}"


def _remember():
    # Before the address is read in this rerun: the new choice is newer than the address.
    st.query_params["run"] = st.session_state["classifier"]
    st.query_params.pop("batch", None)


def _examples(run):
    """(name, path, true label) of some of the run's own test images."""
    stored = run.examples()
    if not stored:
        st.caption("This run has no stored test images.")
    # Alternate classes, so that the first page shows all of them.
    seen = Counter()
    turns = []
    for item in stored:
        turns.append(seen[item["label"]])
        seen[item["label"]] += 1
    order = sorted(range(len(stored)), key=lambda i: turns[i])
    return [(stored[i]["name"], stored[i]["path"], stored[i]["label"]) for i in order]


show()
