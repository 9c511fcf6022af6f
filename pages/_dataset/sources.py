"""Where a dataset comes from: the widgets of each source on the Dataset page."""

import streamlit as st

from engine import actions as gate
from engine.data import datasets
from engine.data.sources import collection, tfds_catalogue
from engine.host import words
from engine.images.decode import EXTENSIONS
from engine.recipe import DatasetSpec
from pages._ui import clicks, common, draft, owners, who
from pages._ui.fields import field

UPLOAD_MB = 500
"""Largest zip for upload in the browser (server.maxUploadSize in .streamlit/config.toml).

Uploads are held in memory; for a larger one, enter its path.
"""
IMAGE_MB = 50
NEW = "＋ New class"
LAYOUTS = {
    "auto": "Recognise it by names and contents",
    "class": "A folder for each class",
    "part/class": "Parts or groups, with a folder for each class in them",
    "class/part": "Classes, with a folder for each part in them",
}


def sample() -> None:
    """The built-in sample."""
    st.markdown(
        ":material/draw: **Generated drawings, not photos.** Created on this host, so you can try "
        "everything without a network. Their accuracy says nothing about real images."
    )
    with st.expander("Number of images"):
        field("dataset.images", "Images to generate", step=50)


def tfds() -> None:
    """A public dataset by name, chosen from a list or typed."""
    known = {entry.name: entry for entry in tfds_catalogue.CATALOGUE}
    if not draft.get("dataset.name"):
        draft.put("dataset.name", next(iter(datasets.TFDS_SUGGESTIONS)))
    field(
        "dataset.name",
        "Name in TensorFlow Datasets (choose or type)",
        choices=list(known),
        words={name: f"{name}: {datasets.TFDS_SUGGESTIONS[name]}" for name in known},
        accept_new_options=True,
    )
    entry = known.get(draft.get("dataset.name"))
    if entry:
        st.caption(
            f"Licence: {common.plain(entry.licence)} · [its page in the catalogue]({entry.url})"
        )
    with st.expander(f"All {len(known)} in a table"):
        st.dataframe(
            [
                {
                    "Name": e.name,
                    "Contents": e.what,
                    "Images": e.images,
                    "Classes": e.classes,
                    "Download (MiB)": e.download_mib,
                    "Licence": e.licence,
                    "Page": e.url,
                }
                for e in known.values()
            ],
            hide_index=True,
            column_config={"Page": st.column_config.LinkColumn(display_text="open")},
        )


def folder() -> None:
    """A class-per-folder directory on the host."""
    field(
        "dataset.path",
        "Directory with one folder of images for each class",
        placeholder="/data/flowers",
    )
    _layout()


def _layout():
    """What the folders are, for a person who knows better."""
    with st.container(width=420):
        field("dataset.layout", "What its folders are", words=LAYOUTS)


def zip_file() -> None:
    """A zip, uploaded or already on the host."""
    upload = st.file_uploader(
        "Drop a zip here: one folder of images for each class",
        type=["zip"],
        max_upload_size=UPLOAD_MB,
        key=f"zip_upload_{st.session_state.get('zip_uploads', 0)}",
        help=f"Up to {UPLOAD_MB} MB through the browser; for a larger one, enter its path below.",
    )
    if upload is not None:
        bar = st.progress(0.0, text=f"Saving {common.plain(upload.name)}")
        with common.guard():
            path = gate.keep_upload(
                common.home(), upload.name, upload,
                lambda done, total: bar.progress(min(1.0, done / total) if total else 0.0),
                who.name(),
            )  # fmt: skip
            dataset = draft.data()["dataset"] | {"path": str(path), "overlay": "", "layout": "auto"}
            draft.choose_dataset(dataset)
            # A new key drops the upload, so it does not stay in memory.
            st.session_state["zip_uploads"] = st.session_state.get("zip_uploads", 0) + 1
            st.session_state["prepare_now"] = True
            st.rerun()
    field("dataset.path", "… or the path of a zip on this host", placeholder="/data/flowers.zip")
    _layout()


def build(spec) -> None:
    """Build a dataset: choose or create one, and add images to it.

    Args:
        spec: the DatasetSpec shown before, which the new one may start from; or None.
    """
    home = common.home()
    names = collection.names(home)
    name = draft.get("dataset.name")
    if names and not name:
        draft.put("dataset.name", names[0])
        name = names[0]
    if names:
        field("dataset.name", "Dataset", choices=names)
        if name not in names:
            st.caption(f":red[:material/error: There is no dataset {common.plain(name)} here.]")
    else:
        st.caption("You have no datasets yet: create the first one below.")
    with st.expander("New dataset", expanded=not names):
        _make(home, spec, names)
    if name in names:
        _add(home, name)


def _make(home, spec, names):
    with st.container(horizontal=True, vertical_alignment="bottom"):
        new = st.text_input("Name", key="saved_new", max_chars=60, placeholder="my-flowers")
        bases = [None, *([spec] if spec else [])]
        base = st.selectbox(
            "Start from", bases, key="saved_base",
            format_func=lambda s: f"the images of {words.printable(s.title)}" if s else "no images",
            help="Its images come first and stay in their parts (train, validation, test).",
        )  # fmt: skip
        if st.button("Create", key="saved_make", icon=":material/add:"):
            with common.guard():
                made = gate.create_dataset(home, new, base, who.name())
                draft.choose_dataset(made.model_dump(mode="json"))
                st.rerun()


def _add(home, name):
    """Adds images to named classes: files, the webcam, or a zip of class folders."""
    found = collection.open_(home, name)
    spec = DatasetSpec(source="saved", name=name)
    classes = _classes(home, spec, found)
    with st.container(border=True):
        st.markdown("**Add images**")
        st.caption("Existing images keep their part; each addition is divided separately.")
        left, right = st.columns(2)
        with left:
            choice = st.selectbox(
                "Class", [*classes, NEW], key=f"add_class_{name}", format_func=words.printable
            )
            label = (
                st.text_input("Name of the new class", key=f"add_new_{name}")
                if choice == NEW
                else choice
            )
        with right:
            way = st.segmented_control(
                "From", ["Files", "Webcam", "Zip"], default="Files", required=True, key="add_from",
            )  # fmt: skip
        version = st.session_state.get("added_version", 0)
        if way == "Files":
            files = st.file_uploader(
                "Images of this class, many at once", type=list(EXTENSIONS),
                accept_multiple_files=True, max_upload_size=IMAGE_MB, key=f"add_files_{version}",
            )  # fmt: skip
            files = [(file.name, file) for file in files]
        elif way == "Webcam":
            with st.container(width=420):
                shot = st.camera_input("Take a picture", key=f"add_shot_{version}")
            files = [("webcam.jpg", shot)] if shot else []
        else:
            upload = st.file_uploader(
                "Zip with one folder for each class (the class above is ignored)",
                type=["zip"], max_upload_size=UPLOAD_MB, key=f"add_zip_{version}",
            )  # fmt: skip
            files = [(upload.name, upload)] if upload else []
        with st.container(horizontal=True, vertical_alignment="center"):
            what = "the zip's images" if way == "Zip" else words.plural(len(files), "image")
            if owners.button(
                f"Add {what}", "add images", found.owner, key="add_images",
                icon=":material/add_photo_alternate:",
                disabled=not files or (way != "Zip" and not label),
            ):  # fmt: skip
                _do_add(home, name, label, files, way)
            if found.batches:
                last = found.batches[-1]
                owners.button(
                    f"Undo the last addition ({last.images:,})", "undo an addition", found.owner,
                    key=f"add_undo_{last.number}", icon=":material/undo:", type="tertiary",
                    on_click=_undo, args=(home, name, last.number, clicks.drawing()),
                )  # fmt: skip
        _report()
        common.show_error("additions")


def _undo(home, name, number, drawn):
    clicks.once("additions", drawn, gate.undo_addition, home, name, number, who.name())
    st.session_state["prepare_now"] = True


def _do_add(home, name, label, files, way):
    bar = st.progress(0.0, text="Adding")

    def progress(done, total):
        bar.progress(
            min(1.0, done / total) if total else 0.0, text=f"Adding: {done:,} of {total:,}"
        )

    with common.guard():
        if way == "Zip":
            added, skipped = gate.add_zip(home, name, files[0][1], progress, who.name())
        else:
            added, skipped = gate.add_images(home, name, label, files, progress, who=who.name())
        st.session_state["added_version"] = st.session_state.get("added_version", 0) + 1
        st.session_state["added_report"] = (added, skipped)
        st.session_state["prepare_now"] = True
        st.rerun()


def _report():
    """The result of the last addition."""
    report = st.session_state.pop("added_report", None)
    if not report:
        return
    added, skipped = report
    st.success(f"Added {words.plural(added, 'image')}.", icon=":material/check:")
    if skipped:
        st.warning(f"Left out: {words.plural(len(skipped), 'file')}.", icon=":material/warning:")
        st.dataframe([{"file": n, "why": w} for n, w in skipped[:500]], hide_index=True)


def _classes(home, spec, found) -> list[str]:
    """Classes that images can be added to."""
    labels = {row["label"] for row in found.rows()}
    if base := found.base_spec:
        if datasets.state(base, home)["state"] == "ready":
            labels |= set(datasets.open_dataset(base, home).classes)
    return sorted(labels)
