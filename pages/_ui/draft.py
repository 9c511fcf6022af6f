"""The recipe being edited: plain data in the session, and its differences in the address.

The draft may be invalid while it is edited; `problems()` names what is wrong, field by field. The
address holds a preset's name and what differs from it (`?preset=sample&set=stages.0.epochs=5`), so
a refresh keeps it and a colleague can open it (see `pages._ui.address`).

What is newer is decided by order. Every change has the next revision number. A field's widget has
the number of the last change that something else made to the field, so a value from an older
widget is recognised. The browser shows only addresses that its session wrote before, so an address
counts when a tab is opened and when the browser goes back or forward, and never on a click.
"""

import contextvars
import copy
import dataclasses
import functools

import streamlit as st

from engine import home as homes
from engine.data.sources import collection
from engine.errors import RecipeError
from engine.estimate import proposal
from engine.recipe import Recipe, load_preset, preset_names, setting

_MISSING = object()


@dataclasses.dataclass
class Draft:
    """What a session edits."""

    data: dict  # every field of a recipe
    preset: str  # that it started from
    follows: bool = True
    proposed: proposal.Proposal | None = None  # that it started from; None for a link or text
    revision: int = 1
    replaced: int = 1  # the revision at which all of it was last replaced
    fields: dict = dataclasses.field(default_factory=dict)  # {path: revision}, see `key`
    aside: dict = dataclasses.field(default_factory=dict)  # see `choose_source`
    reported: list | None = None  # the newest address that the browser is known to show

    def change(self, path: str | None = None) -> None:
        """Counts a change that a widget of `path` must show; None for a widget's own change."""
        self.revision += 1
        if path:
            self.fields[path] = self.revision


def current() -> Draft:
    """The draft of this session; the first preset if it has none yet."""
    if _held.get():
        return _held.get()
    if "draft" not in st.session_state:
        name = preset_names()[0]
        st.session_state["draft"] = Draft(load_preset(name).to_dict(), name)
    return st.session_state["draft"]


_held = contextvars.ContextVar("_held", default=None)


def whole(change):
    """Decorates a function that changes the draft: once begun, it is done as a whole.

    Streamlit interrupts a callback where it touches the session if the next click arrives.
    """

    @functools.wraps(change)
    def changed(*arguments, **options):
        token = _held.set(current())
        try:
            return change(*arguments, **options)
        finally:
            _held.reset(token)

    return changed


def data() -> dict:
    """The draft: plain data with every field of a recipe."""
    return current().data


def preset() -> str:
    """Name of the preset that the draft started from."""
    return current().preset


def key(path: str) -> str:
    """The key of the widget of a field, or of "preset"; another one when something else changed it.

    A new key gives the widget the draft's value, and a value that still comes from the old one is
    older than that change.
    """
    now = current()
    return f"{path}@{max(now.replaced, now.fields.get(path, 0))}"


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
    for name in path.split("."):
        try:
            value = value[int(name)] if isinstance(value, list) else value[name]
        except (KeyError, IndexError, TypeError):
            return default
    return value


def follows() -> bool:
    """Whether the draft's dataset uses the latest decisions about its images.

    Otherwise it uses those that the recipe (from a link, a run or a text) names, or none.
    """
    return current().follows


@whole
def follow(yes: bool, overlay: str = "") -> None:
    """Changes `follows`, and the decisions that the recipe names."""
    current().follows = yes
    data()["dataset"]["overlay"] = overlay
    current().change()


@whole
def put(path: str, value, own: bool = False) -> None:
    """Changes one field; `own` if its widget already shows the value.

    Decisions belong to a dataset: another one starts with its own latest.
    """
    if path in ("dataset.name", "dataset.path", "dataset.images") and value != get(path):
        follow(True)
    *parents, last = path.split(".")
    target = data()
    for name in parents:
        target = target[int(name)] if isinstance(target, list) else target[name]
    target[int(last) if isinstance(target, list) else last] = value
    current().change(None if own else path)


@whole
def replace(
    new: dict,
    preset_name: str | None = None,
    follow: bool | None = None,
    proposed: proposal.Proposal | None = None,
) -> None:
    """Replaces the draft, and gives every widget its new value.

    Args:
        new: every field of a recipe.
        preset_name: the preset it started from, if that has changed.
        follow: what `follows` returns from now on; None leaves it unchanged.
        proposed: the proposal it started from, if any.
    """
    now = current()
    now.data = new
    now.change()
    now.replaced, now.fields = now.revision, {}
    now.preset = preset_name or now.preset
    if follow is not None:
        now.follows = follow
    if preset_name or follow is False:  # it starts from something else now
        now.proposed = proposed


def _become(new: dict, own: str = "", moved: tuple = ()) -> None:
    """Replaces the draft, but only widgets of fields that differ get a new value.

    Args:
        new: every field of a recipe.
        own: the field whose widget shows its new value already.
        moved: what the paths of fields begin with that now mean something else.
    """
    now = current()
    before, after = (dict(_leaves(recipe)) for recipe in (now.data, new))
    now.data = new
    for path, value in after.items():
        if path != own and (value != before.get(path, _MISSING) or path.startswith(moved)):
            now.change(path)
    now.change()


def _leaves(value, prefix: str = ""):
    """(path, value) of each field of a recipe."""
    if isinstance(value, dict):
        parts = value.items()
    elif prefix == "stages.":
        parts = enumerate(value)
    else:
        yield prefix[:-1], value
        return
    for name, part in parts:
        yield from _leaves(part, f"{prefix}{name}.")


@whole
def use_preset(name: str, whole: bool = False) -> None:
    """Starts again from a preset. The dataset and the split stay unless `whole`."""
    new = load_preset(name).to_dict()
    if not whole:
        new |= {key: copy.deepcopy(data()[key]) for key in ("dataset", "split")}
    replace(new, name, True if whole else None)


@whole
def undo_changes() -> None:
    """Resets every setting to the preset's, but keeps the dataset."""
    made = current().proposed
    replace(_start(), made and made.preset, proposed=made)


def _start() -> dict:
    """The recipe that the draft started from, with the draft's dataset."""
    made, dataset = current().proposed, data()["dataset"]
    # A copy: editing the draft must not change what it started from.
    new = copy.deepcopy(made.recipe) if made else load_preset(preset()).to_dict()
    if new["dataset"] | {"overlay": ""} != dataset | {"overlay": ""}:
        new["split"] = _fitting(new["split"], "")
    return new | {"dataset": copy.deepcopy(dataset)}


def _fitting(split: dict, source: str) -> dict:
    """A split, or the default one if slices would not name the parts of the dataset's source."""
    if split["method"] == "slices" and source != "tfds":
        return Recipe.model_fields["split"].default.model_dump(mode="json")
    return split


@whole
def choose_dataset(dataset: dict, own: str = "") -> None:
    """Changes the dataset, and a recipe that nobody has edited to one that fits the new dataset.

    See `engine.estimate.proposal`. An edited recipe stays, and so does an edited split.

    Args:
        dataset: every field of a DatasetSpec.
        own: the field whose widget was used.
    """
    before, home = data(), homes.home()
    split = _fitting(before["split"], dataset["source"])
    new = before | {"dataset": dataset, "split": split}
    kind = proposal.preset_for(dataset, home)
    if kind != proposal.preset_for(before["dataset"], home) and _untouched(home):
        made = proposal.propose(dataset, home)
        keep = ("dataset",) if before["split"] == _start()["split"] else ("dataset", "split")
        new = made.recipe | {name: new[name] for name in keep}
        current().preset, current().proposed = made.preset, made
        current().change("preset")
    current().follows = True
    _become(copy.deepcopy(new), own)


@whole
def propose() -> None:
    """Replaces the draft with the recipe that fits the dataset; dataset and split stay."""
    made = proposal.propose(data()["dataset"], homes.home())
    kept = {name: data()[name] for name in ("dataset", "split")}
    replace(copy.deepcopy(made.recipe | kept), made.preset, proposed=made)


def proposed_warning() -> str:
    """What the proposal that the draft started from had to leave out; "" for nothing."""
    made = current().proposed
    return made.warning if made else ""


def _untouched(home) -> bool:
    """Whether the draft is still the recipe proposed for its dataset."""
    own = ("dataset", "split")
    start, now = _start(), data()
    same = all(now[name] == start[name] for name in start if name not in own)
    return same and preset() == proposal.preset_for(now["dataset"], home)


@whole
def use_text(text: str) -> None:
    """Replaces the draft with YAML text. If it raises RecipeError, nothing has changed."""
    replace(Recipe.from_yaml(text).to_dict(), follow=False)


@whole
def choose_backbone(name: str, own: str = "") -> None:
    """Changes the backbone, and what belonged to the old one: weights, width, size.

    Args:
        name: of the backbone.
        own: the field whose widget was used.
    """
    from engine.models import backbones

    before, known = data()["backbone"], backbones.names()
    kind = "run" if name.startswith("run:") else "builtin" if name == "GraftSmall" else "imagenet"
    new = copy.deepcopy(data()) | {"backbone": {"name": name, "alpha": None, "weights": kind}}
    if before["name"] in known and name in known:
        # Only if nobody chose the size: it is the one the old backbone was trained on.
        if new["image_size"] == backbones.get(before["name"]).image_size:
            new["image_size"] = backbones.get(name).image_size
    _become(new, own)


@whole
def choose_source(source: str) -> None:
    """Changes the dataset's source; the name or path of the old source is kept for when it is
    chosen again."""
    aside, before = current().aside, data()["dataset"]
    aside[before["source"]] = {name: before[name] for name in ("name", "path")}
    back = aside.get(source, {"name": "", "path": ""}) | {"overlay": ""}
    if source == "saved" and not back["name"]:
        back["name"] = next(iter(collection.names(homes.home())), "")
    choose_dataset(before | back | {"source": source}, own="dataset.source")


# -- stages -------------------------------------------------------------------------------------


@whole
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
        first = place + 1
    elif action == "remove" and len(stages) > 1:
        del stages[place]
        first = place
    elif action in ("up", "down"):
        first, second = (place, place + 1) if action == "down" else (place - 1, place)
        if first < 0 or second >= len(stages):
            return
        stages[first], stages[second] = stages[second], stages[first]
    else:
        return
    _become(new, moved=tuple(f"stages.{number}." for number in range(first, len(stages))))


# -- differences --------------------------------------------------------------------------------


def changes() -> list[str]:
    """Settings that differ from the recipe that "Undo all changes" returns to."""
    return _differences(_start(), data())


def _differences(old, new, prefix=""):
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


def address(of: Draft) -> list:
    """What the address of a draft names: preset and settings; [None] for the default recipe."""
    sets = _differences(load_preset(of.preset).to_dict(), of.data)
    return [of.preset, *sets] if sets or of.preset != preset_names()[0] else [None]
