"""What the Dataset page looks at, opened once and shared by its parts and by all sessions."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from engine import charts_dataset, curation, datasets, findings, inspection
from engine import home as homes
from engine.errors import DatasetError
from engine.recipe import SplitSpec
from pages import _common, _draft


@dataclass(frozen=True)
class View:
    """A prepared dataset as the page shows it.

    Attributes:
        spec: its DatasetSpec, overlay included.
        dataset: the open Dataset.
        parts: {part: indices} of the draft's split, or None.
        problem: what is wrong with the split, one sentence, or None.
        inspection: an Inspection, or None.
    """

    spec: object
    dataset: object
    parts: dict | None
    problem: str | None
    inspection: object

    def found(self) -> list:
        """The findings, computed once for this state of dataset, split and inspection."""
        return _found(self._name, self) if self.inspection else []

    def measure(self, name: str) -> np.ndarray | None:
        """An inspection's measure of this dataset's images (n, ...), or None."""
        for kind in ("pixels", "features"):
            values = getattr(self.inspection, kind, None) or {}
            if name in values and len(np.shape(values[name])):
                return np.asarray(values[name])[self.dataset.rows]
        return None

    def picked(self, picks) -> np.ndarray:
        """The images that picks of a chart stand for."""
        names = {pick[1] for pick in picks if pick[0] == "range"}
        measures = {n: aspect(self.dataset) if n == "aspect" else self.measure(n) for n in names}
        known = {n: values for n, values in measures.items() if values is not None}
        return charts_dataset.picked(picks, self.dataset, self.parts, known)

    @property
    def _name(self) -> str:
        split = json.dumps(_draft.get("split"), sort_keys=True, default=str)
        made = getattr(self.inspection, "key", "")
        return f"{self.dataset.fingerprint} {split if self.parts else ''} {made}"


def aspect(dataset) -> np.ndarray:
    """Width over height of each image."""
    return dataset.widths / np.maximum(dataset.heights, 1)


def look_at(spec) -> View:
    """Opens a prepared dataset. Raises DatasetError."""
    home = _common.home()
    path = Path(home) / "datasets" / datasets.key(spec)
    stamp = (path / "manifest.json").stat().st_mtime_ns
    dataset = _opened(f"{path} {stamp} {spec.overlay}", spec)
    parts, problem = None, None
    try:
        split = SplitSpec.model_validate(_draft.get("split"))
        parts = _split(f"{dataset.fingerprint} {split.model_dump_json()}", dataset, split)
    except DatasetError as error:
        problem = str(error)
    except ValueError:
        problem = None  # the split's own widgets say what is wrong
    recipe = _draft.recipe()
    plain = spec.model_copy(update={"overlay": ""})
    found = inspection.open_inspection(plain, home, recipe)
    return View(spec, dataset, parts, problem, found)


def overlay_of(spec) -> str:
    """The decisions that hold for the draft's dataset: the latest of this host, unless another set of
    them came with a link, or the user wants none."""
    mode = st.session_state.setdefault("overlay_mode", {})
    name = datasets.key(spec)
    latest = curation.current(_common.home(), spec)
    if name not in mode:
        mode[name] = "link" if spec.overlay and spec.overlay != latest else "latest"
    return {"latest": latest, "none": "", "link": spec.overlay}[mode[name]]


def overlay_mode(spec, new: str | None = None) -> str:
    """Which decisions a dataset is looked at with: "latest", "none" or "link"; changes it to `new`."""
    mode = st.session_state.setdefault("overlay_mode", {})
    if new:
        mode[datasets.key(spec)] = new
    return mode.get(datasets.key(spec), "latest")


@st.cache_resource(max_entries=6, show_spinner=False)
def _opened(name: str, _spec):
    return datasets.open_dataset(_spec, homes.home())


@st.cache_resource(max_entries=12, show_spinner=False)
def _split(name: str, _dataset, _split):
    return _dataset.split(_split)


@st.cache_resource(max_entries=12, show_spinner=False)
def _found(name: str, _view):
    return findings.find(_view.dataset, _view.inspection, _view.parts)
