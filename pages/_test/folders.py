"""The class folders of a batch on the Test page: the accuracy, and what each folder counts as."""

import streamlit as st

from engine import actions as gate
from engine.host import words
from engine.predict import class_folders
from pages._run import confusion
from pages._ui import common, who


def show(run, batch, figures) -> None:
    """The accuracy by folders, and which folders are counted as what.

    Args:
        run: the Run that classified them.
        batch: the Batch; it keeps what a person chooses.
        figures: of `engine.predict.rows.figures`.
    """
    if figures["n"]:
        low, high = figures["interval"]
        st.info(
            f"**{words.percent(figures['accuracy'])} match their folder**: "
            f"{words.plural(figures['n'], 'image')}, "
            f"95% interval {100 * low:.1f} to {100 * high:.1f}%.",
            icon=":material/rule:",
        )
    _folders(run, batch, [class_folders.Folder(**row) for row in figures["folders"]])
    if figures["n"]:
        with st.expander("Confusion matrix", key="batch_confusion"):
            confusion.show(run, figures, f"batch_confusion_{batch.key}")


def _folders(run, batch, folders):
    """Shows folders that have another name than a class, and lets a person choose their class."""
    said = class_folders.sentences(folders)
    if not said:
        return
    counted = any(folder.label for folder in folders)
    box = st.info if counted else st.warning
    head = "" if counted else "**No folder counts as a class, so the accuracy is not known.**  \n"
    box(head + "  \n".join(map(common.plain, said)), icon=":material/folder:")
    offered = [folder for folder in folders if folder.near][: class_folders.OFFERED]
    with st.container(horizontal=True):
        for folder in offered:
            text = common.plain(f"Count {folder.name} as {folder.near}")
            if st.button(text, key=f"count_{folder.name}", icon=":material/add:"):
                gate.count_folder(batch, run.home, folder.name, folder.near, who.name())
                st.rerun()
    with st.expander("Choose the class of a folder", key="batch_folders"):
        folders = sorted(folders, key=lambda folder: bool(folder.label))  # open questions first
        names = {f.name: f"{f.name} ({words.plural(f.images, 'image')})" for f in folders}
        with st.container(horizontal=True):
            chosen = st.selectbox("Folder", list(names), format_func=names.get, width=300)
            now = next(folder.label for folder in folders if folder.name == chosen)
            options = ["", *run.classes]
            label = st.selectbox(
                "Counts as",
                options,
                index=options.index(now),
                format_func=lambda label: words.printable(label) or "not counted",
                width=300,
                key=f"counts_{chosen}_{now}",  # else the next folder would take over this answer
            )
        if label != now:
            gate.count_folder(batch, run.home, chosen, label, who.name())
            st.rerun()
