"""The recipe being edited: plain data in the session, and its differences in the address.

The draft may be invalid while it is edited; `problems()` names what is wrong, field by field. The
address holds a preset's name and what differs from it (`?preset=sample&set=stages.0.epochs=5`), so
a refresh keeps it and a colleague can open it.
"""

import copy
import json
import time

import streamlit as st

from engine import home as homes
from engine.data.sources import collection
from engine.errors import RecipeError
from engine.estimate import proposal
from engine.recipe import Recipe, apply_sets, load_preset, preset_names, setting
from pages._ui import common

_MISSING = object()
HEARD = 5
"""Seconds after which the browser must know a new address, even if it has not reported it."""


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
    """Grows when something other than its widgets replaces the draft; part of all widget keys."""
    return st.session_state.setdefault("draft_version", 0)


def recipe() -> Recipe | None:
    """The draft as a recipe, or None while it is invalid."""
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
    """The draft's value at a path like "stages.0.epochs"."""
    value = data()
    for key in path.split("."):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError):
            return default
    return value


def follows() -> bool:
    """Whether the draft's dataset uses the latest decisions about its images.

    Otherwise it uses those that the recipe (from a link, a run or a text) names, or none.
    """
    return st.session_state.setdefault("overlay_follows", True)


def follow(yes: bool, overlay: str = "") -> None:
    """Changes `follows`, and the decisions that the recipe names."""
    st.session_state["overlay_follows"] = yes
    data()["dataset"]["overlay"] = overlay


def put(path: str, value) -> None:
    """Changes one field. Decisions belong to a dataset: another one starts with its own latest."""
    if path in ("dataset.name", "dataset.path", "dataset.images") and value != get(path):
        follow(True)
    *parents, last = path.split(".")
    target = data()
    for key in parents:
        target = target[int(key)] if isinstance(target, list) else target[key]
    target[int(last) if isinstance(target, list) else last] = value


def replace(new: dict, preset_name: str | None = None, follow: bool | None = None) -> None:
    """Replaces the draft, and gives every widget its new value.

    Args:
        new: every field of a recipe.
        preset_name: the preset it started from, if that has changed.
        follow: what `follows` returns from now on; None leaves it unchanged.
    """
    if follow is not None:
        st.session_state["overlay_follows"] = follow
    st.session_state["draft"] = new
    st.session_state["draft_preset"] = preset_name or st.session_state.get("draft_preset", "sample")
    st.session_state["draft_version"] = version() + 1
    if preset_name or follow is False:  # it starts from something else now
        st.session_state.pop("draft_proposed", None)


def use_preset(name: str, whole: bool = False) -> None:
    """Starts again from a preset. The dataset and the split stay unless `whole`."""
    new = load_preset(name).to_dict()
    if not whole:
        new |= {key: copy.deepcopy(data()[key]) for key in ("dataset", "split")}
    replace(new, name, True if whole else None)


def undo_changes() -> None:
    """Resets every setting to the preset's, but keeps the dataset."""
    _replace_as_proposed(_start(), _made())


def _start() -> dict:
    """The recipe that the draft started from, with the draft's dataset."""
    made, dataset = _made(), data()["dataset"]
    new = copy.deepcopy(made.recipe) if made else load_preset(preset()).to_dict()
    if new["dataset"] | {"overlay": ""} != dataset | {"overlay": ""}:
        new["split"] = _fitting(new["split"], "")
    return new | {"dataset": copy.deepcopy(dataset)}


def _fitting(split: dict, source: str) -> dict:
    """A split, or the default one if slices would not name the parts of the dataset's source."""
    if split["method"] == "slices" and source != "tfds":
        return Recipe.model_fields["split"].default.model_dump(mode="json")
    return split


def choose_dataset(dataset: dict) -> None:
    """Changes the dataset, and a recipe that nobody has edited to one that fits the new dataset.

    See `engine.estimate.proposal`. An edited recipe stays, and so does an edited split.
    """
    before, home = data(), homes.home()
    split = _fitting(before["split"], dataset["source"])
    new = copy.deepcopy(before) | {"dataset": dataset, "split": split}
    kind = proposal.preset_for(dataset, home)
    if kind == proposal.preset_for(before["dataset"], home) or not _untouched(home):
        _replace_as_proposed(new, _made(), follow=True)
        return
    made = proposal.propose(dataset, home)
    keep = ("dataset",) if before["split"] == _start()["split"] else ("dataset", "split")
    _replace_as_proposed(made.recipe | {key: new[key] for key in keep}, made, follow=True)


def propose() -> None:
    """Replaces the draft with the recipe that fits the dataset; dataset and split stay."""
    made = proposal.propose(data()["dataset"], homes.home())
    kept = {key: copy.deepcopy(data()[key]) for key in ("dataset", "split")}
    _replace_as_proposed(made.recipe | kept, made)


def proposed_warning() -> str:
    """What the proposal that the draft started from had to leave out; "" for nothing."""
    made = _made()
    return made.warning if made else ""


def _made() -> proposal.Proposal | None:
    """The proposal that this draft started from; None if it started from a preset, link or text."""
    return st.session_state.get("draft_proposed")


def _replace_as_proposed(new: dict, made: proposal.Proposal | None, follow: bool | None = None):
    """Replaces the draft, which still starts from a proposal."""
    # A copy: editing the draft must not change what it started from.
    replace(copy.deepcopy(new), made and made.preset, follow)
    if made:
        st.session_state["draft_proposed"] = made


def _untouched(home) -> bool:
    """Whether the draft is still the recipe proposed for its dataset."""
    own = ("dataset", "split")
    start, now = _start(), data()
    same = all(now[key] == start[key] for key in start if key not in own)
    return same and preset() == proposal.preset_for(now["dataset"], home)


def _start_from_preset(name: str) -> None:
    replace(load_preset(name).to_dict(), name)


def use_text(text: str) -> None:
    """Replaces the draft with YAML text. If it raises RecipeError, nothing has changed."""
    replace(Recipe.from_yaml(text).to_dict(), follow=False)


def choose_backbone(name: str) -> None:
    """Changes the backbone, and what belonged to the old one: weights, width, size."""
    from engine.models import backbones

    before, known = data()["backbone"], backbones.names()
    if before["name"] in known and name in known:
        # Only if nobody chose the size: it is the one the old backbone was trained on.
        if data()["image_size"] == backbones.get(before["name"]).image_size:
            put("image_size", backbones.get(name).image_size)
    own = "run" if name.startswith("run:") else "builtin" if name == "GraftSmall" else "imagenet"
    new = copy.deepcopy(data()) | {"backbone": {"name": name, "alpha": None, "weights": own}}
    replace(new)


def choose_source(source: str) -> None:
    """Changes the dataset's source; the name or path of the old source is kept for when it is
    chosen again."""
    aside = st.session_state.setdefault("dataset_aside", {})
    before = data()["dataset"]
    aside[before["source"]] = {key: before[key] for key in ("name", "path")}
    back = aside.get(source, {"name": "", "path": ""}) | {"overlay": ""}
    if source == "saved" and not back["name"]:
        back["name"] = next(iter(collection.names(homes.home())), "")
    choose_dataset(copy.deepcopy(before) | back | {"source": source})


# -- stages -------------------------------------------------------------------------------------


def edit_stages(action: str, place: int) -> None:
    """ "duplicate", "remove", "up" or "down" for the stage at a place; "add" appends one."""
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


def changes() -> list[str]:
    """Settings that differ from the recipe that "Undo all changes" returns to."""
    return _differences(_start(), data(), "")


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
            found.append(setting(path, value))
    return found


def load_from_url() -> None:
    """Loads the draft from the address, unless this session wrote that address.

    A click made before the browser knows the newest address comes with an older one; read as a
    link, it would discard what has changed since. So the browser's back button also does nothing
    within `HEARD` seconds of a change that no click has followed.
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
        named = named or _preset_of(sets)
        # Through Recipe, so that a link with a bad value says so and leaves the draft alone.
        new = Recipe.from_dict(apply_sets(load_preset(named).to_dict(), sets)).to_dict()
        replace(new, named, follow=False)
    except RecipeError as error:
        st.session_state["link_problem"] = f"The link's recipe cannot be used: {error}."
    if st.session_state.get("link_problem"):
        text = common.plain(st.session_state.pop("link_problem"))
        st.warning(text, icon=":material/link_off:")


def _preset_of(sets) -> str:
    """The preset of a link that names none: the one that fits its dataset."""
    plain = load_preset(preset_names()[0]).to_dict()
    given = apply_sets(plain, sets)["dataset"]
    if not isinstance(given, dict):  # reading the link says what is wrong with it
        return preset_names()[0]
    return proposal.preset_for(plain["dataset"] | given, homes.home())


def _replaced() -> dict:
    """When each address was replaced, for replacements the browser may not know yet."""
    return st.session_state.setdefault("draft_replaced", {})


def keep_in_url() -> None:
    """Writes the draft's differences into the address; the default recipe leaves it empty."""
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
