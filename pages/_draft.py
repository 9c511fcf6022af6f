"""The recipe being put together: plain data in the session, and its differences in the address.

The draft may be invalid while it is edited; `problems()` names what is wrong, field by field. The
address holds a preset's name and what differs from it (`?preset=sample&set=stages.0.epochs=5`), so
a refresh keeps it and a colleague can open it.
"""

import copy
import json
import time

import streamlit as st

from engine.errors import RecipeError
from engine.recipe import Recipe, apply_sets, load_preset, preset_names
from pages import _common

_MISSING = object()
HEARD = 5
"""Seconds after which the browser has heard of a new address even if it has not said so."""


def data() -> dict:
    """The draft: plain data with every field of a recipe."""
    if "draft" not in st.session_state:
        _start_from_preset(preset_names()[0])
    return st.session_state["draft"]


def preset() -> str:
    """Name of the preset that the draft started from."""
    data()
    return st.session_state["draft_preset"]


def version() -> int:
    """Grows when the draft was replaced from outside its widgets: part of every widget's key."""
    return st.session_state.setdefault("draft_version", 0)


def recipe() -> Recipe | None:
    """The draft as a recipe, or None while something is wrong with it."""
    return _checked()[0]


def problems() -> dict:
    """What is wrong: `{field path: sentence}`, empty for a valid draft."""
    return _checked()[1]


def _checked():
    try:
        return Recipe.from_dict(data()), {}
    except RecipeError as error:
        return None, error.problems


def get(path: str, default=None):
    """The draft's value at a path such as "stages.0.epochs"."""
    value = data()
    for key in path.split("."):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError):
            return default
    return value


def follows() -> bool:
    """Whether the draft's dataset is looked at with the latest decisions about its images; else with
    those that the recipe names (of a link, a run, a text), or with none."""
    return st.session_state.setdefault("overlay_follows", True)


def follow(yes: bool, overlay: str = "") -> None:
    """Changes `follows`, and the decisions that the recipe names."""
    st.session_state["overlay_follows"] = yes
    data()["dataset"]["overlay"] = overlay


def put(path: str, value) -> None:
    """Changes one field. Decisions belong to one dataset: another one begins with its own latest."""
    if path in ("dataset.name", "dataset.path", "dataset.images") and value != get(path):
        follow(True)
    *parents, last = path.split(".")
    target = data()
    for key in parents:
        target = target[int(key)] if isinstance(target, list) else target[key]
    target[int(last) if isinstance(target, list) else last] = value


def replace(new: dict, preset_name: str | None = None, follow: bool | None = None) -> None:
    """Puts other data in the draft's place, and gives every widget its new value.

    Args:
        new: every field of a recipe.
        preset_name: that it started from, if that is another one now.
        follow: what `follows` gives from now on; None leaves it.
    """
    if follow is not None:
        st.session_state["overlay_follows"] = follow
    st.session_state["draft"] = new
    st.session_state["draft_preset"] = preset_name or st.session_state.get("draft_preset", "sample")
    st.session_state["draft_version"] = version() + 1


def use_preset(name: str, keep_dataset: bool = False) -> None:
    """Starts again from a preset, with its dataset or the present one."""
    new = load_preset(name).to_dict()
    if keep_dataset:
        new["dataset"] = copy.deepcopy(data()["dataset"])
        if new["split"]["method"] == "slices" and new["dataset"]["source"] != "tfds":
            new["split"] = Recipe.model_fields["split"].default.model_dump(mode="json")
    replace(new, name, None if keep_dataset else True)


def _start_from_preset(name: str) -> None:
    replace(load_preset(name).to_dict(), name)


def use_text(text: str) -> None:
    """Replaces the draft by YAML text. Raises RecipeError, and then changes nothing."""
    replace(Recipe.from_yaml(text).to_dict(), follow=False)


def choose_backbone(name: str) -> None:
    """Changes the backbone, and with it what belonged to the one before: weights, width, size."""
    from engine import backbones

    before, known = data()["backbone"], backbones.names()
    if before["name"] in known and name in known:
        # Only a size that nobody chose: the one the backbone before was trained on.
        if data()["image_size"] == backbones.get(before["name"]).image_size:
            put("image_size", backbones.get(name).image_size)
    own = "run" if name.startswith("run:") else "builtin" if name == "GraftSmall" else "imagenet"
    new = copy.deepcopy(data()) | {"backbone": {"name": name, "alpha": None, "weights": own}}
    replace(new)


def choose_source(source: str) -> None:
    """Changes the dataset's source; the name or path that belongs to the other one is put aside,
    and comes back with it."""
    aside = st.session_state.setdefault("dataset_aside", {})
    before = data()["dataset"]
    aside[before["source"]] = {key: before[key] for key in ("name", "path")}
    back = aside.get(source, {"name": "", "path": ""}) | {"overlay": ""}
    # New data, so that widgets of a field that two sources share take its new value.
    dataset = copy.deepcopy(before) | back | {"source": source}
    replace(copy.deepcopy(data()) | {"dataset": dataset}, follow=True)


# -- stages -------------------------------------------------------------------------------------


def edit_stages(action: str, place: int) -> None:
    """ "duplicate", "remove", "up" or "down" the stage at a place; "add" one at the end."""
    new = copy.deepcopy(data())
    stages = new["stages"]
    if action in ("add", "duplicate"):
        made = copy.deepcopy(stages[place])
        names = {stage["name"] for stage in stages}
        made["name"] = next(
            n for i in range(2, 99) if (n := f"{made['name'][:36]} {i}") not in names
        )
        stages.insert(place + 1, made)
    elif action == "remove" and len(stages) > 1:
        del stages[place]
    elif action in ("up", "down"):
        other = place + (1 if action == "down" else -1)
        if 0 <= other < len(stages):
            stages[place], stages[other] = stages[other], stages[place]
    replace(new)


# -- the address --------------------------------------------------------------------------------


def differences() -> list[str]:
    """Settings that turn the draft's preset into the draft, as `path=value`."""
    return _differences(load_preset(preset()).to_dict(), data(), "")


def _differences(old, new, prefix):
    found = []
    for key, value in new.items():
        path, before = f"{prefix}{key}", old.get(key, _MISSING)
        if isinstance(value, dict) and isinstance(before, dict):
            found += _differences(before, value, path + ".")
        elif key == "stages" and len(before) == len(value):
            for place, stage in enumerate(value):
                found += _differences(before[place], stage, f"stages.{place}.")
        elif value != before:
            found.append(f"{path}={json.dumps(value, ensure_ascii=False)}")
    return found


def load_from_url() -> None:
    """Takes the draft from the address if that is not what this session wrote there.

    A click made before the browser heard of the address written last comes with an older one: taken for
    a link, that would throw away what has changed since. So the browser's way back, too, does nothing
    within `HEARD` of a change that nothing was clicked after.
    """
    named, sets = st.query_params.get("preset"), st.query_params.get_all("set")
    given = [named, *sets]
    if given == (st.session_state.get("draft_in_url") or [None]):
        _replaced().clear()
        return
    replaced = _replaced().get(json.dumps(given))
    if not (named or sets) or (replaced and time.monotonic() - replaced < HEARD):
        return
    st.session_state["draft_in_url"] = given
    try:
        base = load_preset(named or preset_names()[0])
        # Through Recipe, so that a link with a bad value says so and leaves the draft alone.
        new = Recipe.from_dict(apply_sets(base.to_dict(), sets)).to_dict()
        replace(new, named or preset_names()[0], follow=False)
    except RecipeError as error:
        st.session_state["link_problem"] = f"The link's recipe cannot be used: {error}."
    if st.session_state.get("link_problem"):
        text = _common.plain(st.session_state.pop("link_problem"))
        st.warning(text, icon=":material/link_off:")


def _replaced() -> dict:
    """When an address was replaced of which the browser may still not have heard, by that address."""
    return st.session_state.setdefault("draft_replaced", {})


def keep_in_url() -> None:
    """Writes the draft's differences into the address; the plain default leaves it clean."""
    if "draft" not in st.session_state:
        return
    sets = differences()
    named = preset() if sets or preset() != preset_names()[0] else None
    wanted = [named, *sets] if named else None
    before = st.session_state.get("draft_in_url")
    if before and before != wanted:
        _replaced()[json.dumps(before)] = time.monotonic()
    st.session_state["draft_in_url"] = wanted
    present = [st.query_params.get("preset"), *st.query_params.get_all("set")]
    if present != (wanted or [None]):
        rest = {k: v for k, v in st.query_params.items() if k not in ("preset", "set")}
        new = rest | ({"preset": named} if named else {}) | ({"set": sets} if sets else {})
        st.query_params.from_dict(new)
