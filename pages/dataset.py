"""Dataset: choose labelled images, and look at what the network will see."""

import numpy as np
import streamlit as st

from engine import charts, datasets, images, preview
from engine.errors import DatasetError
from engine.recipe import AugmentationSpec, DatasetSpec, Recipe, SplitSpec
from pages import _common, _draft
from pages._fields import field, problem, split_fields
from pages._live_chart import chart

PAGE = 24


def show() -> None:
    """Draws the page."""
    _common.header(
        "Dataset",
        "Choose labelled images. Graft learns from one part, tunes on a second and is "
        "measured on a third it never saw.",
    )
    spec = _choose()
    home = _common.home()
    if spec is None:
        return
    state = datasets.state(spec, home)
    if spec.source == "sample" and state["state"] == "missing":
        # Drawn on this host in a moment and needing no network: no reason to ask first.
        datasets.prepare(spec, home)
        state = datasets.state(spec, home)
    _actions(spec, state, home)
    if state["state"] == "preparing":
        _progress(spec, home)
    elif state["state"] == "failed":
        _common.fail(state["error"])
    elif state["state"] == "missing":
        st.info(
            "This dataset is not on this host yet. **Look at it first** prepares it here; **Use this "
            "dataset** prepares it and goes on meanwhile.",
            icon=":material/info:",
        )
    else:
        _look(datasets.open_dataset(spec, home))


def _choose():
    """The widgets of the source; returns a DatasetSpec, or None while it is incomplete."""
    with st.container(border=True):
        field("dataset.source", "Where the images come from", pick=True)
        source = _draft.get("dataset.source")
        if source == "sample":
            st.markdown(
                ":material/draw: **Generated drawings, not photos.** Made on this host so that "
                "everything can be tried at once, with no network. Its accuracy says nothing about "
                "real images."
            )
            with st.expander("How many pictures"):
                field("dataset.images", "Pictures to draw", step=50)
        elif source == "tfds":
            if not _draft.get("dataset.name"):
                _draft.put("dataset.name", next(iter(datasets.TFDS_SUGGESTIONS)))
            known = list(datasets.TFDS_SUGGESTIONS)
            words = {name: f"{name}: {text}" for name, text in datasets.TFDS_SUGGESTIONS.items()}
            field(
                "dataset.name",
                "Name in TensorFlow Datasets (choose or type)",
                choices=known,
                words=words,
                accept_new_options=True,
            )
        else:
            field(
                "dataset.path",
                "Directory with one folder of images for each class",
                placeholder="/data/flowers",
            )
        problem("dataset")
        with st.expander("How the images are divided (split)"):
            split_fields()
    try:
        return DatasetSpec.model_validate(_draft.get("dataset"))
    except ValueError:
        if source == "folder" and not _draft.get("dataset.path"):
            st.info(
                "Enter the directory above: one folder for each class, named after the class.",
                icon=":material/folder_open:",
            )
        return None


def _actions(spec, state, home):
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Use this dataset", type="primary", key="use_dataset", icon=":material/arrow_forward:"
        ):
            if state["state"] != "ready" or datasets.outdated(spec, home):
                datasets.prepare(spec, home)
            st.switch_page("configure.py")
        if state["state"] in ("missing", "failed"):
            label = "Look at it first" if state["state"] == "missing" else "Try again"
            if st.button(
                label,
                key="prepare",
                icon=":material/download:",
                help="Fetches and checks every image on this host, in the background.",
            ):
                datasets.prepare(spec, home)
                st.rerun()
        elif state["state"] == "ready" and spec.source == "folder":
            if st.button("Check for changes", key="refresh", icon=":material/refresh:"):
                datasets.prepare(spec, home)
                st.rerun()


def _progress(spec, home):
    """How far preparation is; looks again every second while it lasts."""

    @st.fragment(run_every=1)
    def live():
        with _common.guard():
            state = datasets.state(spec, home)
            if state["state"] != "preparing":
                st.rerun()
            done, total = state["done"], state["total"]
            text = state["text"]
            if total:
                text += f": {_common.count(done)} of {_common.count(total, 'images')}"
            if state["eta_seconds"] is not None:
                text += f", about {_common.duration(state['eta_seconds'])} left"
            st.progress(done / total if total else 0.0, text=text)
            if st.button("Cancel", key="cancel_prepare", icon=":material/close:"):
                datasets.cancel(spec, home)
                st.rerun()

    live()


def _look(dataset):
    try:
        parts = dataset.split(SplitSpec.model_validate(_draft.get("split")))
    except ValueError:
        parts = None  # the split's own widgets say what is wrong
    except DatasetError as error:
        _common.fail(error)
        parts = None
    sizes = {
        p.capitalize(): _common.count(len(parts[p])) if parts else "–"
        for p in ("train", "validation", "test")
    }
    _common.metrics(
        {"Images": _common.count(len(dataset)), "Classes": len(dataset.classes)} | sizes
    )
    if dataset.description:
        st.caption(dataset.description)
    _unreadable(dataset)
    gallery, seen, figures = st.tabs(
        ["Images", "What the network will see", "Counts and sizes"],
        key="dataset_view",
        on_change="rerun",
    )
    with gallery:
        if gallery.open:
            _gallery(dataset)
    with seen:
        if seen.open:
            _seen(dataset, parts)
    with figures:
        if figures.open:
            _figures(dataset, parts)


def _unreadable(dataset):
    if dataset.unreadable:
        number = len(dataset.unreadable)
        with st.expander(
            f":orange[:material/warning: {number} file{'s' * (number > 1)} could not be read and "
            "will be left out]"
        ):
            st.dataframe(
                {
                    "file": [n for n, _ in dataset.unreadable],
                    "why": [w for _, w in dataset.unreadable],
                },
                hide_index=True,
            )


def _pick_class(dataset, key):
    """A class's index, or None for all classes."""
    # Keyed by the images: a class chosen for another dataset would mean another one here.
    chosen = st.selectbox(
        "Class",
        [-1, *range(len(dataset.classes))],
        key=f"{key}_{dataset.fingerprint[:12]}",
        persist_state="session",
        format_func=lambda i: "All classes" if i < 0 else dataset.classes[i],
    )
    return None if chosen < 0 else chosen


def _members(dataset, label, among=None):
    """Indices of a class, or of all classes taking turns."""
    among = np.arange(len(dataset)) if among is None else among
    if label is not None and label < len(dataset.classes):
        return among[dataset.labels[among] == label]
    turn = np.zeros(len(among), int)
    for i in range(len(dataset.classes)):
        own = dataset.labels[among] == i
        turn[own] = np.arange(own.sum())
    return among[np.lexsort((dataset.labels[among], turn))]


def _gallery(dataset):
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(width=320):
            label = _pick_class(dataset, "gallery_class")
        members = _members(dataset, label)
        pages = max(1, -(-len(members) // PAGE))
        page = st.pagination(pages, key=f"gallery_page_{label}") if pages > 1 else 1
        st.caption(_common.count(len(members), "images"))
    with st.container(horizontal=True, gap="small"):
        for index in members[(page - 1) * PAGE : page * PAGE].tolist():
            name = dataset.classes[dataset.labels[index]]
            try:
                picture = thumbnail(dataset, dataset.fingerprint, index)
            except DatasetError as error:  # one file of a folder that has gone or changed since
                st.caption(f":material/broken_image: {_common.plain(str(error))}", width=148)
                continue
            st.image(
                picture,
                width=148,
                caption=_common.plain(name),
                alt=name,
            )


@st.cache_data(max_entries=4000, show_spinner=False)
def thumbnail(_dataset, fingerprint: str, index: int) -> np.ndarray:
    """A small square-bounded picture: uint8 array (height, width, 3), sides up to 160 pixels."""
    image = images.read(_dataset.image_bytes(index))
    image.thumbnail((160, 160))
    return np.asarray(image)


def _seen(dataset, parts):
    recipe = _draft.recipe()
    if recipe is None or parts is None:
        st.info(
            "Something in the recipe is not right yet; the messages above and on Configure say what.",
            icon=":material/info:",
        )
        return
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        label = _pick_class(dataset, "seen_class")
    epoch = right.number_input(
        "Epoch to show (augmentation changes with each)",
        1,
        1000,
        key="seen_epoch",
        help="Every epoch changes the training images in another random way.",
    )
    chosen = _members(dataset, label, parts["train"])[:8]
    side = recipe.image_size
    plain = preview.network_view(dataset, chosen, recipe)
    st.markdown(
        f"**Resized to {side} × {side} pixels** ({recipe.resize}): validation, test and every answer"
    )
    _row(plain, dataset, chosen)
    if recipe.augmentation.active:
        changed = preview.network_view(dataset, chosen, recipe, augmented=True, seed=int(epoch) - 1)
        st.markdown(
            f"**Changed at random for training** (augmentation: {augmentation_text(recipe)})"
        )
        _row(changed, dataset, chosen)
    else:
        st.caption("Training sees the same: augmentation is off. Turn it on in Configure.")


def augmentation_text(recipe: Recipe) -> str:
    """The augmentation that is on, in words: "flip horizontal, zoom 0.2"."""
    off = AugmentationSpec()
    given = recipe.augmentation.model_dump()
    return ", ".join(f"{k} {v}" for k, v in given.items() if v != getattr(off, k)) or "none"


def _row(views, dataset, chosen):
    with st.container(horizontal=True, gap="small"):
        for view, index in zip(views, chosen.tolist(), strict=True):
            name = dataset.classes[dataset.labels[index]]
            st.image(
                view, width=112, caption=_common.plain(name), alt=f"{name} as the network sees it"
            )


def _figures(dataset, parts):
    counts = {}
    for part, chosen in (parts or {"train": np.arange(len(dataset))}).items():
        numbers = np.bincount(dataset.labels[chosen], minlength=len(dataset.classes)).tolist()
        counts[part] = dict(zip(dataset.classes, numbers, strict=True))
    left, right = st.columns(2)
    with left:
        chart(charts.class_counts(counts), "class_counts")
    with right:
        chart(charts.image_sizes(dataset.widths, dataset.heights), "image_sizes")
        kinds, numbers = np.unique(dataset.formats, return_counts=True)
        st.caption(
            "File formats: " + ", ".join(f"{k} {n:,}" for k, n in zip(kinds, numbers, strict=True))
        )
    st.caption(
        f"Fingerprint {dataset.fingerprint[:12]}: the same images and labels give the same one."
    )


show()
