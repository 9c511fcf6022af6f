"""Dataset: choose labelled images, find what is wrong with them, see what the network will see."""

import streamlit as st

from engine import actions as gate
from engine.data import datasets
from engine.errors import DatasetError
from engine.host import words
from engine.images import preview
from engine.recipe import AugmentationSpec, DatasetSpec, Recipe
from pages._dataset import data, decisions, findings, gallery, sources
from pages._dataset import map as _dataset_map
from pages._ui import common, draft, job, owners, who
from pages._ui.fields import field, problem, split_fields

VIEWS = ("Images", "Findings", "Map", "Counts and sizes", "What the network will see", "Decisions")


def show() -> None:
    """Draws the page."""
    common.header(
        "Dataset",
        "Choose labelled images. Graft trains on one part, tunes on a second and measures "
        "accuracy on a third that it has not seen.",
    )
    if not owners.allowed("prepare a dataset"):
        return
    spec = _choose()
    home = common.home()
    if spec is None:
        return
    overlay = data.overlay_of(spec)
    if overlay != spec.overlay:
        draft.put("dataset.overlay", overlay)
        spec = spec.model_copy(update={"overlay": overlay})
    state = datasets.state(spec, home)
    # Kept while another preparation runs: that one misses what was added since it started.
    asked = state["state"] != "preparing" and st.session_state.pop("prepare_now", False)
    if asked or (spec.source == "sample" and state["state"] == "missing"):
        # Just uploaded, or quickly generated on this host: no reason to ask first.
        with common.guard():
            gate.prepare(spec, home, who.name())
        state = datasets.state(spec, home)
    _actions(spec, state, home)
    if state["state"] == "preparing":
        job.progress(
            lambda: datasets.state(spec, home),
            lambda: gate.cancel_prepare(spec, home, who.name()),
            "cancel_prepare",
            "Cancel",
            "images",
            refused=owners.why_not("cancel preparing a dataset", datasets.owner(spec, home)),
        )
    elif state["state"] == "failed":
        common.fail(state["error"])
    elif state["state"] == "missing":
        st.info(
            "This dataset is not on this host yet. **Preview** prepares it; **Use this dataset** "
            "continues, and it is prepared in the background.",
            icon=":material/info:",
        )
    else:
        st.session_state["looked_at"] = spec
        if state["error"]:
            common.fail(f"{state['error']} (shown below: the dataset as it was before)")
        try:
            view = data.look_at(spec)
        except DatasetError as error:
            if not spec.overlay:
                raise
            decisions.missing(spec, error)
        else:
            _look(view)


def _choose():
    """Draws the widgets of the source; returns a DatasetSpec, or None while it is incomplete."""
    with st.container(border=True):
        field("dataset.source", "Where the images come from", pick=True)
        source = draft.get("dataset.source")
        if source == "saved":
            before = st.session_state.get("looked_at")
            sources.build(before if before and before.source != "saved" else None)
        else:
            {
                "sample": sources.sample,
                "tfds": sources.tfds,
                "folder": sources.folder,
                "zip": sources.zip_file,
            }[source]()
        incomplete = source in ("folder", "zip", "saved") and not (
            draft.get("dataset.path") or draft.get("dataset.name")
        )
        if not incomplete:
            problem("dataset")
        with st.expander("How the images are divided (split)"):
            split_fields()
    try:
        return DatasetSpec.model_validate(draft.get("dataset"))
    except ValueError:
        if incomplete:
            st.info(
                {
                    "folder": "Enter the directory above: one folder for each class, named after "
                    "the class.",
                    "zip": "Drop a zip above: one folder of images for each class, named after the "
                    "class.",
                    "saved": "Create a dataset above, then add images to its classes.",
                }[source],
                icon=":material/folder_open:",
            )
        return None


def _actions(spec, state, home):
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Use this dataset", type="primary", key="use_dataset", icon=":material/arrow_forward:"
        ):
            with common.guard():
                if state["state"] != "ready" or datasets.outdated(spec, home):
                    gate.prepare(spec, home, who.name())
                st.switch_page("configure.py")
        if state["state"] in ("missing", "failed"):
            label = "Preview" if state["state"] == "missing" else "Try again"
            if st.button(
                label,
                key="prepare",
                icon=":material/download:",
                help="Fetches and checks every image on this host, in the background.",
            ):
                with common.guard():
                    gate.prepare(spec, home, who.name())
                    st.rerun()
        elif state["state"] == "ready" and spec.source in ("folder", "zip", "saved"):
            if st.button("Check for changes", key="refresh", icon=":material/refresh:"):
                gate.prepare(spec, home, who.name())
                st.rerun()


def _look(view):
    if view.problem:
        common.fail(view.problem)
    dataset, parts = view.dataset, view.parts
    if why := dataset.cut_off:
        common.fail(why)
    sizes = {
        p.capitalize(): words.grouped(len(parts[p])) if parts else "–"
        for p in ("train", "validation", "test")
    }
    counts = {"Images": len(dataset), "Classes": len(dataset.classes)}
    common.metrics({name: words.grouped(count) for name, count in counts.items()} | sizes)
    understood, *questions = dataset.notes or [""]
    st.caption(common.plain(". ".join(filter(None, (dataset.description, understood)))))
    for question in questions:
        st.info(common.plain(question), icon=":material/help:")
    _left_out(dataset)
    decisions.summary(view.spec)
    tabs = st.tabs(VIEWS, key="dataset_view", on_change="rerun")
    draw = {
        "Images": gallery.browse,
        "Findings": findings.show,
        "Map": _dataset_map.embedding,
        "Counts and sizes": _dataset_map.overview,
        "What the network will see": _seen,
        "Decisions": lambda view: decisions.history(view.spec),
    }
    for name, tab in zip(VIEWS, tabs, strict=True):
        if tab.open:
            with tab:
                draw[name](view)


def _left_out(dataset):
    """Files that could not be read, and files that are not images of a class."""
    count = sum(dataset.left_out.values()) or len(dataset.skipped)
    for number, rows, what in (
        (len(dataset.unreadable), dataset.unreadable, "left out: could not be read"),
        (count, dataset.skipped, "left out: not an image of a class"),
    ):
        if rows:
            text = f"{words.plural(number, 'file')} {what}"
            with st.expander(f":orange[:material/warning: {text}]"):
                st.dataframe(
                    {"file": [words.printable(n) for n, _ in rows], "why": [w for _, w in rows]},
                    hide_index=True,
                )


def _seen(view):
    recipe, dataset, parts = draft.recipe(), view.dataset, view.parts
    if recipe is None or parts is None:
        st.info(
            "The recipe is not valid yet; the messages above and on Configure say why.",
            icon=":material/info:",
        )
        return
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        label = gallery.pick_class(view, "seen_class")
    epoch = right.number_input(
        "Epoch to show (augmentation changes with each)",
        1,
        1000,
        key="seen_epoch",
        help="Every epoch changes the training images in a different random way.",
    )
    chosen = parts["train"]
    if label is not None:
        chosen = chosen[dataset.labels[chosen] == label]
    chosen = gallery.in_turn(dataset, chosen)[:8]
    side = recipe.image_size
    plain = preview.network_view(dataset, chosen, recipe)
    st.markdown(
        f"**Resized to {side} × {side} pixels** ({recipe.resize}): for validation, test "
        "and prediction"
    )
    _row(plain, dataset, chosen)
    if recipe.augmentation.active:
        changed = preview.network_view(dataset, chosen, recipe, augmented=True, seed=int(epoch) - 1)
        st.markdown(
            f"**Changed at random for training** (augmentation: {augmentation_text(recipe)})"
        )
        _row(changed, dataset, chosen)
    else:
        st.caption("Training uses the same images: augmentation is off. Turn it on in Configure.")


def augmentation_text(recipe: Recipe) -> str:
    """The active augmentation in words: "flip horizontal, zoom 0.2"."""
    off = AugmentationSpec()
    given = recipe.augmentation.model_dump()
    return ", ".join(f"{k} {v}" for k, v in given.items() if v != getattr(off, k)) or "none"


def _row(views, dataset, chosen):
    with st.container(horizontal=True, gap="small"):
        for view, index in zip(views, chosen.tolist(), strict=True):
            name = dataset.classes[dataset.labels[index]]
            st.image(
                view,
                width=112,
                caption=common.plain(name),
                alt=words.printable(f"{name} as the network sees it"),
            )


show()
