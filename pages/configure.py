"""Configure: edit the recipe, and see what it will do before it starts."""

import math

import numpy as np
import streamlit as st

from engine.charts import training
from engine.data import datasets
from engine.errors import GraftError
from engine.estimate import proposal
from engine.features import store
from engine.host import words
from engine.models import backbones
from engine.recipe import DatasetSpec, load_preset, preset_names, schedules
from pages._configure import preflight, stages, yaml
from pages._configure.freeze_map import freeze_map
from pages._dataset import data, decisions
from pages._ui import common, draft, owners
from pages._ui.fields import field, problem, split_fields
from pages._ui.live_chart import chart


def show() -> None:
    """Draws the page."""
    common.header(
        "Configure",
        "The recipe: which pretrained network, what is trained in each stage, and how "
        "fast. The defaults work well; you can change everything.",
    )
    if not owners.allowed("start a run"):
        return
    _start_from()
    _wrong()
    _backbone()
    stages.cards()
    _preview()
    st.subheader("More settings", anchor=False)
    with st.expander("Images: size, batch, augmentation"):
        _images()
    with st.expander("Head: the new layers on the backbone"):
        _head()
    with st.expander("How the images are divided (split)"):
        split_fields()
    with st.expander("Computation: precision, memory, seed"):
        _computation()
    with st.expander(
        "The recipe as text (YAML)", expanded=bool(st.session_state.get("yaml_problems"))
    ):
        yaml.editor()


def _start_from():
    with st.container(border=True, horizontal=True, vertical_alignment="bottom"):
        with st.container(width=300):
            key = draft.key("preset")
            st.selectbox(
                "Start from a preset",
                preset_names(),
                preset_names().index(draft.preset()),
                key=key,
                on_change=_preset,
                args=(key,),
                help="A preset is a complete recipe. Choosing one replaces the settings below, but "
                "keeps your dataset and its split.",
            )
        if st.button(
            "Use this recipe",
            type="primary",
            key="use_recipe",
            icon=":material/arrow_forward:",
            disabled=bool(draft.problems()),
        ):
            # So that Train offers a new run and not the one shown before.
            common.choose_run(None)
            st.session_state["new_run"] = True
            st.switch_page("train.py")
        changed = len(draft.changes())
        if changed:
            st.button(
                "Undo all changes",
                key="reset",
                icon=":material/undo:",
                help="Resets all settings to the preset, but keeps your dataset.",
                on_click=draft.undo_changes,
            )
    text = common.plain(draft.get("description") or "A custom recipe.")
    preset = common.plain(draft.preset())
    st.caption(
        f"{text} Dataset: **{_dataset_title()}**. "
        + (
            f"{words.plural(changed, 'setting')} differ{'s' * (changed == 1)} from the preset "
            f"{preset}."
            if changed
            else f"The preset {preset} with another network."
            if draft.proposed_warning()
            else f"Exactly the preset {preset}."
        )
    )
    _suits()


def _dataset_title() -> str:
    title = draft.get("dataset.name") or draft.get("dataset.path") or "sample"
    decided = decisions.in_words(draft.get("dataset.overlay"))
    return common.plain(title) + (f" ({decided})" if decided else "")


def _suits():
    """Says where preset and dataset do not match, and offers a fix."""
    own = load_preset(draft.preset())
    if own.dataset.model_dump(mode="json") | {"overlay": ""} != draft.get("dataset") | {
        "overlay": ""
    }:
        st.button(
            f"Use the dataset of this preset ({own.dataset.title})",
            key="preset_dataset",
            type="tertiary",
            icon=":material/photo_library:",
            help="The complete preset, with its own dataset and split.",
            on_click=draft.use_preset,
            args=(draft.preset(), True),
        )
    built_in = draft.get("backbone.name") == "GraftSmall" and (
        draft.get("backbone.weights") == "builtin"
    )
    photos = proposal.preset_for(draft.get("dataset"), common.home()) != proposal.DRAWINGS
    if built_in and photos:
        warning = draft.proposed_warning() or (
            "GraftSmall has seen only generated drawings. Photos need a network pretrained on "
            "photos"
        )
        st.warning(f"{common.plain(warning)}.", icon=":material/warning:")
        st.button(
            "Use the recipe for photos",
            key="propose",
            icon=":material/auto_fix_high:",
            help="Uses the preset for photos, with its pretrained network, and keeps your dataset.",
            on_click=draft.propose,
        )


def _preset(key):
    # Streamlit also calls this without a change when a user leaves a half-drawn page.
    if key == draft.key("preset") and st.session_state[key] != draft.preset():
        draft.use_preset(st.session_state[key])


def _wrong():
    problems = draft.problems()
    if problems:
        lines = "\n".join(
            f"- **{common.plain(path or 'recipe')}**: {common.plain(text)}"
            for path, text in problems.items()
        )
        st.error(
            f"Fix these settings before you use this recipe:\n{lines}", icon=":material/error:"
        )


# -- backbone -----------------------------------------------------------------------------------


def _backbone():
    st.subheader("Pretrained network (backbone)", anchor=False)
    known = backbones.names()
    name = draft.get("backbone.name")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container(width=300):
            finished = [run.id for run in common.finished_runs()[:10]]
            continuing = [f"run:{run}" for run in finished]
            texts = {choice: f"continue from {choice[4:]}" for choice in continuing}
            field("backbone.name", "Network", choices=[*known, *continuing], words=texts)
        if name in known:
            entry = _entry(name, draft.get("backbone.alpha"))
            if entry.alphas:
                if draft.get("backbone.alpha") is None:
                    draft.put("backbone.alpha", entry.default_alpha)
                with st.container(width=150):
                    field("backbone.alpha", "Width (alpha)", choices=list(entry.alphas))
            st.metric("Parameters", words.short(entry.params), width=120)
            size = "none" if name == "GraftSmall" else f"{entry.weights_mb:.0f} MB"
            st.metric("Download", size, width=120)
            top1 = "–" if entry.top1 is None else f"{entry.top1:.1f}%"
            st.metric(
                "ImageNet top-1",
                top1,
                width=150,
                help=f"Accuracy of the complete network on ImageNet, by {entry.source}.",
            )
    if name in known:
        if draft.get("image_size", 224) < entry.min_image_size:
            st.caption(
                f":red[:material/error: {name} needs images of at least {entry.min_image_size} px]"
            )
    with st.expander("Compare all backbones"):
        _catalogue(known, name)
    with st.expander("Other weights, or a run to continue"):
        field("backbone.weights", "Weights")
        texts = {"": "None: start from the network's weights"}
        choices = ["", *finished]
        field("continue_from", "Run to continue (continue_from)", choices=choices, words=texts)
    problem("backbone")


def _entry(name, alpha):
    try:
        return backbones.get(name, alpha)
    except GraftError as error:  # a width from a link that this family does not have
        common.fail(error)
        return backbones.get(name)


def _catalogue(known, name):
    rows = [
        {
            "Network": entry.name,
            "Family": entry.family,
            "Parameters (M)": round(entry.params / 1e6, 2),
            "Weights (MB)": entry.weights_mb,
            "Image size (px)": entry.image_size,
            "ImageNet top-1 (%)": entry.top1,
            "Features": entry.features,
            "Widths": ", ".join(f"{a:g}" for a in entry.alphas) or "–",
            "Source": entry.source,
        }
        for entry in backbones.catalogue()
    ]
    key = "catalogue:" + draft.key("backbone.name")
    st.dataframe(
        rows,
        hide_index=True,
        key=key,
        height=320,
        selection_mode="single-row",
        on_select=lambda: _pick(key, [row["Network"] for row in rows]),
        column_config={"Source": st.column_config.LinkColumn(display_text="page")},
    )
    st.caption(
        f"Choose a row to use it; now chosen: **{common.plain(name)}**. A network with more "
        "parameters is usually more accurate, and slower."
    )


def _pick(key, names):
    places = st.session_state[key].selection.rows
    if places and names[places[0]] != draft.get("backbone.name"):
        draft.choose_backbone(names[places[0]])


# -- what it will do ----------------------------------------------------------------------------


def _preview():
    recipe = draft.recipe()
    st.subheader("What it will do", anchor=False)
    if recipe is None:
        st.caption("Shown when the recipe is valid.")
        return
    classes, images, known = _dataset_size(recipe)
    steps = max(1, math.ceil(images / recipe.batch_size))
    with common.guard():
        freeze_map(recipe, classes)
    rates = [(s.name, np.asarray(schedules.learning_rates(s, steps))) for s in recipe.stages]
    chart(training.planned_learning_rate(rates, steps), "planned_rate")
    size = f"{words.plural(images, 'training image')} in batches of {recipe.batch_size}"
    st.caption(
        f"{words.plural(steps, 'step')} per epoch: {size}."
        if known
        else f"The dataset is not prepared yet, so this assumes {size}."
    )
    for stage in recipe.stages:
        st.caption(f":material/bolt: Stage **{common.plain(stage.name)}** {_how(recipe, stage)}")
    preflight.section(recipe)


def _how(recipe, stage) -> str:
    """Whether a stage trains on cached features, in words."""
    why = store.why_not(recipe, stage.trainable)
    if why:
        return f"runs the whole network in every epoch: {why}."
    count, exact = store.views(recipe)
    of = "every image" if count == 1 else f"{count} views of every image"
    sort = "" if exact else ", an approximation"
    return f"trains on features that are computed once, for {of}{sort}, and reused in every epoch."


def _dataset_size(recipe):
    """(classes, training images, whether they are known) of the draft's dataset."""
    spec: DatasetSpec = recipe.dataset
    home = common.home()
    if datasets.state(spec, home)["state"] == "ready":
        try:
            dataset = data.opened(spec)[1]
            train = data.split_of(spec, recipe.split)["train"]
            return len(dataset.classes), len(train), True
        except GraftError as error:
            common.fail(error)
    return 5, round(0.75 * (spec.images if spec.source == "sample" else 3000)), False


# -- the rest -----------------------------------------------------------------------------------


def _grid(fields, columns=3):
    grid = st.grid(columns, min_column_width=200, vertical_alignment="bottom")
    for path, label, *options in fields:
        with grid.cell():
            field(path, label, **(options[0] if options else {}))


def _images():
    _grid(
        [
            ("image_size", "Image size", {"step": 32}),
            ("batch_size", "Batch size", {"step": 8}),
            ("resize", "Shrinking"),
        ]
    )
    st.markdown(
        "**Augmentation**: random changes of the training images, so you need fewer of them."
    )
    _grid(
        [
            ("augmentation.flip", "Mirror (flip)"),
            ("augmentation.rotation", "Rotation", {"step": 5.0}),
            ("augmentation.zoom", "Zoom"),
            ("augmentation.translation", "Shift (translation)"),
            ("augmentation.contrast", "Contrast"),
            ("augmentation.brightness", "Brightness"),
        ]
    )
    problem("augmentation")
    st.caption("See its effect on your own images in Dataset, under What the network will see.")


def _head():
    _grid(
        [
            ("head.pooling", "Pooling"),
            ("head.hidden", "Hidden layer", {"step": 32}),
            ("head.dropout", "Dropout"),
            ("head.label_smoothing", "Label smoothing"),
            ("class_weights", "Class weights"),
        ]
    )
    problem("head")


def _computation():
    _grid(
        [
            ("name", "Name of the recipe"),
            ("precision", "Number format (precision)"),
            ("seed", "Random seed"),
            ("memory_budget", "Memory for decoded images", {"step": 256}),
            ("feature_cache", "Cached features of frozen parts"),
            ("cached_views", "Cached random views", {"step": 1}),
            ("shuffle_buffer", "Shuffle window", {"step": 1000}),
            ("deterministic", "Same recipe, same weights (deterministic)"),
        ]
    )
    field("description", "Description", area=True)


show()
