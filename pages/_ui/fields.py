"""Widgets for fields of the recipe; help, limits and problems come from the engine."""

import streamlit as st

from engine.recipe import field_help, field_info
from pages._dataset import data
from pages._ui import common, draft

# The text for each value, with the value itself, the technical term, in brackets.
WORDS = {
    "dataset.source": {
        "sample": "Built-in sample (generated)",
        "tfds": "TensorFlow Datasets",
        "folder": "Folder on this host",
        "zip": "Zip file",
        "saved": "Build a dataset",
    },
    "split.method": {
        "auto": "As the source divides it, else by percentage (auto)",
        "stratified": "By percentage, whatever the source has (stratified)",
        "slices": "By slices of the source, like train[:10%] (slices)",
        "source": "Only as the source divides it (source)",
    },
    "split.group_by": {
        "copies": "Near copies (copies)",
        "folder": "Near copies, and images of one folder below their class (folder)",
        "none": "Only identical files (none)",
    },
    "resize": {"antialias": "Filtered (antialias)", "plain": "Unfiltered (plain)"},
    "augmentation.flip": {
        "none": "No mirroring (none)",
        "horizontal": "Left to right (horizontal)",
        "both": "Also top to bottom (both)",
    },
    "head.pooling": {"avg": "Average (avg)", "max": "Strongest (max)"},
    "feature_cache": {"auto": "When exact (auto)", "off": "Never (off)"},
    "class_weights": {
        "none": "All images count equally (none)",
        "balanced": "Rare classes count more (balanced)",
    },
    "stages.batch_norm": {"keep": "As pretrained (keep)", "update": "Adapt to my images (update)"},
    "stages.schedule": {
        "constant": "Constant",
        "inverse_time": "Decays at every step (inverse_time)",
        "cosine": "Decays to zero (cosine)",
        "exponential": "Decays every epoch (exponential)",
    },
}


def field(path: str, label: str, **options) -> None:
    """Draws the widget of one field and, below it, what is wrong with its value.

    Args:
        path: the field, like "stages.0.epochs".
        label: everyday words; the unit is added.
        options: `choices` (list) where the recipe itself allows more values; `words` for them
            ({value: text}); `area=True` for a long text; `pick=True` for a segmented control;
            all others are passed to the widget.
    """
    info, plain = field_info(path), _plain(path)
    value = draft.get(path)
    key = draft.key(path)
    choices = options.pop("choices", None) or info["choices"]
    words = options.pop("words", None) or WORDS.get(plain, {})
    area, pick = options.pop("area", False), options.pop("pick", False)
    if info["unit"] and not choices:
        label = f"{label} ({info['unit']})"
    options |= {"key": key, "help": field_help(path), "on_change": _store, "args": (path, key)}
    # The draft's value is each widget's default: a browser that mounts a widget for the first time
    # shows and returns that value. When something else changes the field, the key changes.
    if isinstance(value, bool):
        shown = value
        given = st.toggle(label, value, **options)
    elif choices:
        shown, choices = value, list(choices) if value in choices else [*choices, value]
        options["format_func"] = lambda item: words.get(item, str(item))
        if pick:
            given = st.segmented_control(label, choices, default=value, required=True, **options)
        else:
            given = st.selectbox(label, choices, choices.index(value), **options)
    elif isinstance(info["default"], (int, float)) or isinstance(value, (int, float)):
        shown, given = _number(label, value, info, options)
    else:
        shown = "" if value is None else str(value)
        given = (st.text_area if area else st.text_input)(label, shown, **options)
    if given != shown:
        # The browser's last input did not reach `_store`: the server was restarted, or another
        # click interrupted it.
        _store(path, key)
        if draft.get(path) != value:
            st.rerun()
    problem(path)


def problem(path: str) -> None:
    """What is wrong with a field or a group, in red with an icon; nothing if it is valid."""
    text = draft.problems().get(path)
    if text:
        st.caption(f":red[:material/error: {common.plain(text)}]")


def split_fields() -> None:
    """Widgets of the split: percentages, or slices of the source."""
    field("split.method", "How the images are divided")
    grid = st.grid(4, min_column_width=170)
    slices = draft.get("split.method") == "slices"
    defaults = {
        "train": (75.0, "train[25%:]"),
        "validation": (15.0, "train[10%:25%]"),
        "test": (10.0, "train[:10%]"),
    }
    labels = {
        "train": "Training",
        "validation": "Validation",
        "test": "Test",
    }
    for part in labels:
        path = f"split.{part}"
        if isinstance(draft.get(path), str) != slices:
            draft.put(path, defaults[part][slices])
        with grid.cell():
            field(path, labels[part])
    with grid.cell():
        field("split.seed", "Split seed")
    if not slices:
        # Another value is a pattern for names, written into the same widget.
        choices = list(WORDS["split.group_by"])
        field("split.group_by", "Kept together", choices=choices, accept_new_options=True)
    problem("split")
    division = data.division()
    if division:
        st.caption(f":material/call_split: {common.plain(division)}")


def _number(label, value, info, options):
    whole = isinstance(value, int) and not isinstance(info["default"], float)
    kind = int if whole else float
    low, high = (None if v is None else kind(v) for v in (info["minimum"], info["maximum"]))
    value = kind(value)
    # A draft from a link may be out of bounds: Streamlit raises, but the recipe explains it.
    if low is not None:
        value = max(value, low)
    if high is not None:
        value = min(value, high)
    if whole:
        options.setdefault("step", 1)
    else:
        options.setdefault("step", 0.05 if high is not None and high <= 1 else 1.0)
        options.setdefault("format", "%g")
    return value, st.number_input(label, min_value=low, max_value=high, value=value, **options)


def _plain(path: str) -> str:
    return ".".join(part for part in path.split(".") if not part.isdigit())


@draft.whole
def _store(path: str, key: str) -> None:
    value = st.session_state[key]
    if value is None or key != draft.key(path):  # something newer has changed the field
        return
    # Streamlit also calls this without a change when a user leaves a half-drawn page.
    if value == draft.get(path):
        return
    if path == "backbone.name":
        draft.choose_backbone(value, own=path)
        return
    if path == "dataset.source":
        draft.choose_source(value)
        return
    if path == "dataset.name" and draft.get("dataset.source") == "saved":
        draft.choose_dataset(draft.get("dataset") | {"name": value, "overlay": ""}, own=path)
        return
    # A text field that may be empty, like backbone.weights: empty means "its default".
    if value == "" and draft.get(path) is not None and field_info(path)["default"] is None:
        value = None
    draft.put(path, value, own=True)
