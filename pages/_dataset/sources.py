"""Where a dataset comes from: the widgets of each source on the Dataset page."""

import streamlit as st

from engine.data import additions, curation, datasets
from engine.data.sources import archive, collection, tfds_catalogue, uploads
from engine.errors import DatasetError
from engine.images.decode import EXTENSIONS
from engine.recipe import DatasetSpec
from pages._ui import clicks, common, draft
from pages._ui.fields import field

UPLOAD_MB = 500
"""Largest zip that is taken through the browser (server.maxUploadSize in .streamlit/config.toml):
uploads are held in memory; a larger one is named by its path."""
IMAGE_MB = 50
NEW = "＋ New class"


def sample() -> None:
    """The built-in sample."""
    st.markdown(
        ":material/draw: **Generated drawings, not photos.** Made on this host so that "
        "everything can be tried at once, with no network. Its accuracy says nothing about "
        "real images."
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
                    "What it shows": e.what,
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


def zip_file() -> None:
    """A zip, uploaded or already on the host."""
    upload = st.file_uploader(
        "Drop a zip here: one folder of images for each class",
        type=["zip"],
        max_upload_size=UPLOAD_MB,
        key=f"zip_upload_{st.session_state.get('zip_uploads', 0)}",
        help=f"Up to {UPLOAD_MB} MB through the browser; a larger one is named by its path below.",
    )
    if upload is not None:
        bar = st.progress(0.0, text=f"Keeping {common.plain(upload.name)}")
        with common.guard():
            path = uploads.keep_upload(
                common.home(), upload.name, upload,
                lambda done, total: bar.progress(min(1.0, done / total) if total else 0.0),
            )  # fmt: skip
            try:
                archive.Archive(path).close()
            except DatasetError:
                uploads.forget_upload(common.home(), path)
                raise
            dataset = draft.data()["dataset"] | {"path": str(path), "overlay": ""}
            draft.choose_dataset(dataset)
            # The upload itself is let go of, so that it does not stay in memory.
            st.session_state["zip_uploads"] = st.session_state.get("zip_uploads", 0) + 1
            st.session_state["prepare_now"] = True
            st.rerun()
    field("dataset.path", "… or the path of a zip on this host", placeholder="/data/flowers.zip")


def put_together(spec) -> None:
    """A dataset put together here: chosen, made new, and images added to it.

    Args:
        spec: the DatasetSpec of the source that was looked at before, to extend; or None.
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
        st.caption("There is no dataset of your own yet: create the first one below.")
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
            format_func=lambda s: f"the images of {s.title}" if s else "no images",
            help="Its images come first, and stay in the parts (train, validation, test) they are in.",
        )  # fmt: skip
        if st.button("Create", key="saved_make", icon=":material/add:"):
            with common.guard():
                plain = base and base.model_copy(update={"overlay": ""})
                made = collection.create(home, new, plain)
                if base and base.overlay:
                    # The images stay in their parts only if all of them are there.
                    text = f"Decisions about {base.title}, taken over"
                    curation.adopt(home, made, base.overlay, text)
                draft.choose_dataset(made.model_dump(mode="json"))
                st.rerun()


def _add(home, name):
    """Images into named classes: files, the webcam, or a zip of class folders."""
    found = collection.open_(home, name)
    spec = DatasetSpec(source="saved", name=name)
    classes = _classes(home, spec, found)
    with st.container(border=True):
        st.markdown("**Add images**")
        st.caption(
            "Images that are there already keep their part; each addition is divided on its own."
        )
        left, right = st.columns(2)
        with left:
            choice = st.selectbox("Class", [*classes, NEW], key=f"add_class_{name}")
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
                "Zip with one folder for each class (the class above does not matter)", type=["zip"],
                max_upload_size=UPLOAD_MB, key=f"add_zip_{version}",
            )  # fmt: skip
            files = [(upload.name, upload)] if upload else []
        with st.container(horizontal=True, vertical_alignment="center"):
            what = (
                "the zip's images"
                if way == "Zip"
                else f"{len(files):,} image{'s' * (len(files) != 1)}"
            )
            if st.button(
                f"Add {what}", key="add_images", icon=":material/add_photo_alternate:",
                disabled=not files or (way != "Zip" and not label),
            ):  # fmt: skip
                _do_add(home, name, label, files, way)
            if found.batches:
                last = found.batches[-1]
                st.button(
                    f"Undo the last addition ({last.images:,})",
                    key=f"add_undo_{last.number}", icon=":material/undo:", type="tertiary",
                    on_click=_take_back, args=(home, name, last.number),
                )  # fmt: skip
        _told()
        common.told("additions")


def _take_back(home, name, number):
    clicks.once(
        "additions", (name, number), f"{name} {number} {home}", collection.undo, home, name, number
    )
    st.session_state["prepare_now"] = True


def _do_add(home, name, label, files, way):
    bar = st.progress(0.0, text="Adding")

    def progress(done, total):
        bar.progress(
            min(1.0, done / total) if total else 0.0, text=f"Adding: {done:,} of {total:,}"
        )

    with common.guard():
        if way == "Zip":
            with uploads.passing_upload(home, files[0][1]) as path:
                added, skipped = additions.add_zip(home, name, path, progress)
        else:
            added, skipped = additions.add(home, name, label, files, progress)
        st.session_state["added_version"] = st.session_state.get("added_version", 0) + 1
        st.session_state["added_told"] = (added, skipped)
        st.session_state["prepare_now"] = True
        st.rerun()


def _told():
    """What came of the last addition."""
    told = st.session_state.pop("added_told", None)
    if not told:
        return
    added, skipped = told
    st.success(f"Added {added:,} image{'s' * (added != 1)}.", icon=":material/check:")
    if skipped:
        st.warning(f"{len(skipped):,} were left out:", icon=":material/warning:")
        st.dataframe([{"file": n, "why": w} for n, w in skipped[:500]], hide_index=True)


def _classes(home, spec, found) -> list[str]:
    """Classes that images can be added to."""
    labels = {row["label"] for row in found.rows()}
    if base := found.base_spec:
        if datasets.state(base, home)["state"] == "ready":
            labels |= set(datasets.open_dataset(base, home).classes)
    return sorted(labels)
