"""The open dataset of the Dataset page, shared by its parts and by all sessions."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import streamlit as st

from engine import home as homes
from engine.charts import dataset as charts_dataset
from engine.data import curation, datasets
from engine.errors import DatasetError
from engine.inspection import findings, inspection
from engine.recipe import SplitSpec
from pages._ui import common, draft


@dataclass(frozen=True)
class View:
    """A prepared dataset as the page shows it.

    Attributes:
        spec: its DatasetSpec, overlay included.
        dataset: the open Dataset.
        parts: {part: indices} by the draft's split, or None.
        problem: what is wrong with the split, one sentence, or None.
        inspection: an Inspection, or None.
        name: identifies this state of dataset and split.
        editable: whether new decisions show here: only if the recipe uses the latest decisions.
    """

    spec: object
    dataset: object
    parts: dict | None
    problem: str | None
    inspection: object
    name: str
    editable: bool

    def found(self) -> list:
        """The findings, computed once for this state of dataset, split and inspection."""
        if not self.inspection:
            return []
        return _found(f"{self.name} {self.inspection.key}", self)

    @property
    def short(self) -> str:
        """A short `name` for keys of widgets: an index is valid for this state only."""
        return sha256(self.name.encode()).hexdigest()[:10]

    def measure(self, name: str) -> np.ndarray | None:
        """An inspection's measure of this dataset's images (n, ...), or None."""
        for kind in ("pixels", "features"):
            values = getattr(self.inspection, kind, None) or {}
            if name in values and len(np.shape(values[name])):
                return np.asarray(values[name])[self.dataset.rows]
        return None

    def picked(self, picks) -> np.ndarray:
        """The images that the picks in a chart stand for."""
        names = {pick[1] for pick in picks if pick[0] == "range"}
        measures = {n: aspect(self.dataset) if n == "aspect" else self.measure(n) for n in names}
        known = {n: values for n, values in measures.items() if values is not None}
        return charts_dataset.picked(picks, self.dataset, self.parts, known)


def aspect(dataset) -> np.ndarray:
    """Width over height of each image."""
    return dataset.widths / np.maximum(dataset.heights, 1)


def look_at(spec) -> View:
    """Opens a prepared dataset. Raises DatasetError."""
    home = common.home()
    name, dataset = opened(spec)
    parts, problem = None, None
    try:
        split = SplitSpec.model_validate(draft.get("split"))
        name += split.model_dump_json()
        parts = split_of(spec, split)
    except DatasetError as error:
        problem = str(error)
    except ValueError:
        problem = None  # the widgets of the split say what is wrong
    plain = spec.model_copy(update={"overlay": ""})
    found = inspection.open_inspection(plain, home, draft.recipe())
    return View(spec, dataset, parts, problem, found, name, draft.follows())


def opened(spec) -> tuple[str, object]:
    """(name of this state of the dataset, the open Dataset), opened once for all sessions.

    Raises DatasetError.
    """
    path = Path(common.home()) / "datasets" / datasets.key(spec)
    try:
        stamp = (path / "manifest.json").stat().st_mtime_ns
        stamp = f"{stamp} {(path / 'images.bin').stat().st_size}"
    except FileNotFoundError:
        stamp = 0
    name = f"{path} {stamp} {spec.overlay} "
    return name, _opened(name, spec)


def split_of(spec, split) -> dict:
    """The parts of a prepared dataset, divided once for all sessions. Raises DatasetError."""
    name, dataset = opened(spec)
    return _split(f"{name}{split.model_dump_json()}", dataset, split)


def division() -> str:
    """How the draft's dataset is divided, one sentence.

    Returns "" while the dataset is not prepared or the draft is not valid.
    """
    recipe = draft.recipe()
    if recipe is None or datasets.state(recipe.dataset, common.home())["state"] != "ready":
        return ""
    try:
        name, dataset = opened(recipe.dataset)
        return _division(f"{name}{recipe.split.model_dump_json()}", dataset, recipe.split)
    except DatasetError:  # the page says what is wrong with it
        return ""


def overlay_of(spec) -> str:
    """The decisions used for the draft's dataset.

    They are the latest of this host, or those that a recipe from elsewhere names
    (`draft.follows`).
    """
    latest = curation.current(common.home(), spec)
    if not draft.follows() and spec.overlay == latest:
        draft.follow(True, latest)
    return latest if draft.follows() else spec.overlay


@st.cache_resource(max_entries=6, show_spinner=False)
def _opened(name: str, _spec):
    return datasets.open_dataset(_spec, homes.home())


@st.cache_resource(max_entries=12, show_spinner=False)
def _split(name: str, _dataset, _split):
    return _dataset.split(_split)


@st.cache_resource(max_entries=12, show_spinner=False)
def _division(name: str, _dataset, _split) -> str:
    return _dataset.division(_split)


@st.cache_resource(max_entries=12, show_spinner=False)
def _found(name: str, _view):
    return findings.find(_view.dataset, _view.inspection, _view.parts)
