"""What the parts of a run take before anything of it was measured (`engine.estimate.outlook`).

Light. A part is named "data", "export" or, in stage 0, "0:epoch".
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine import home as homes
from engine.data import datasets
from engine.data.splits import PARTS
from engine.errors import BackboneError, DamagedFile, GraftError
from engine.features import cache, store
from engine.models import backbones
from engine.predict.reference import MOST
from engine.recipe import Recipe, SplitSpec
from engine.runs import files
from engine.runs.remaining import FINISHING
from engine.runs.runs import Run

PACES = "paces.json"
"""In the cache: what the parts of runs on this host took, in seconds for each of their units."""
FORWARD, LITE, DECODE = 0.004, 0.001, 0.001
"""Seconds in which two cores run a network of `PARAMETERS` on an image of 224 px in Keras and in
LiteRT, and in which they read it (measured on MobileNetV2 0.35)."""
PARAMETERS = 410_000
STEP = 0.005
"""Seconds of a training step beside those of its images."""


@dataclass
class Known:
    """What is known of a run before it begins.

    Attributes:
        images: of its dataset; None if it has yet to be prepared, and their number is unknown.
        prepared: whether the dataset is.
        records: features of a frozen backbone that the cache holds.
        predicted: the preflight's result; {} without one.
        paces: of earlier runs; see `PACES`.
        device: "cpu" or "gpu".
    """

    images: int | None = None
    prepared: bool = True
    records: int = 0
    predicted: Mapping[str, Any] = field(default_factory=dict)
    paces: Mapping[str, float] = field(default_factory=dict)
    device: str = "cpu"

    @cached_property
    def parts(self) -> dict[str, float]:
        """The preflight's seconds of each part that it predicts."""
        if not self.predicted:
            return {}
        start = self.predicted["startup_seconds"]
        # Earlier versions predicted their sum only.
        even = dict.fromkeys(FINISHING, self.predicted["finish_seconds"] / len(FINISHING))
        found = {"start": 0.8 * start, "model": 0.2 * start}
        found |= self.predicted.get("finish") or even
        for number, row in enumerate(self.predicted["stages"]):
            features = ("feature_seconds", "conversion_seconds", "check_seconds")
            found[f"{number}:features"] = sum(row[name] for name in features)
            found[f"{number}:setup"] = row["setup_seconds"] + row["decode_seconds"]
            found[f"{number}:epoch"] = row["epoch_seconds"]
        return found


def known(run: Run) -> Known:
    """What is known of a run before it begins."""
    recipe, home = run.recipe, run.home
    device = (run.state.get("device") or "cpu").split(":")[0]
    try:
        paces = homes.read_json(home / homes.CACHE / PACES, {})
        predicted = homes.read_json(run.path / files.PREFLIGHT, {})
    except DamagedFile:
        paces, predicted = {}, {}
    try:
        dataset = datasets.open_dataset(recipe.dataset, home)
    except GraftError:  # not prepared, or damaged: then the run itself says so
        drawn = recipe.dataset.images if recipe.dataset.source == "sample" else None
        return Known(drawn, False, 0, predicted, paces, device)
    return Known(len(dataset), True, _records(recipe, home), predicted, paces, device)


def _records(recipe: Recipe, home: Path) -> int:
    """Features of the recipe's frozen backbone over its dataset that the cache holds."""
    spec, found = recipe.backbone, 0
    name = f"{spec.name} {spec.alpha:g}" if spec.alpha else spec.name
    title = f"{recipe.dataset.title}, {name} frozen, {recipe.image_size} px"
    for path in (home / homes.CACHE / "features").glob("*"):
        about = cache.identity(path) or {}
        if about.get("title") == title and about.get("views") == store.layout(recipe)[0]:
            with contextlib.suppress(FileNotFoundError):  # evicted this moment
                sums = np.fromfile(path / "sums.u32", np.uint32)
                found = max(found, int(np.count_nonzero(sums)))
    return found


def counts(recipe: Recipe, images: int | None) -> dict[str, int]:
    """Images in each part of the split; {} if their number is unknown."""
    if not images:
        return {}
    shares = {part: getattr(recipe.split, part) for part in PARTS}
    if any(isinstance(share, str) for share in shares.values()):
        shares = {part: getattr(SplitSpec(), part) for part in PARTS}
    return {part: round(images * share / 100) for part, share in shares.items()}


def key(recipe: Recipe, part: str, whole: Sequence[bool], known: Known) -> str:
    """The name in `PACES` of what decides how long a part takes.

    Args:
        recipe, part: the recipe and the part.
        whole: for each stage, whether it runs the whole network in every epoch.
        known: what is known of the run.
    """
    if part == "start":
        return f"{known.device} start"
    if part == "data":
        return f"{known.device} data {recipe.dataset.source if not known.prepared else 'prepared'}"
    network = f"{known.device} {recipe.backbone.title} {recipe.image_size} px"
    if ":" not in part:
        return f"{network} {part}"
    number, name = part.split(":")
    how = "whole" if whole[int(number)] else "cached"
    return f"{network} {name} {recipe.stages[int(number)].trainable} {how}"


def units(recipe: Recipe, part: str, counts: Mapping[str, int], known: Known) -> float:
    """How many units of work a part has: images, or 1 where their number does not matter."""
    name = part.split(":")[-1]
    if name == "epoch":
        return counts.get("train", 0)
    if name == "evaluation":
        return counts.get("test", 0) + counts.get("validation", 0)
    if name == "reference":
        return min(counts.get("train", 0), MOST["train"])
    if name == "data" and not known.prepared:
        return sum(counts.values())
    if name == "features":
        needed = counts.get("train", 0) * store.layout(recipe)[0] + counts.get("validation", 0)
        return max(0, needed - known.records)
    return 1


def guess(recipe: Recipe, part: str, whole: Sequence[bool], units: float) -> float:
    """Seconds of a part of a kind that never ran here; of one epoch.

    Args:
        recipe, part, whole: as for `key`.
        units: of the part.
    """
    try:
        size = backbones.get(recipe.backbone.name, recipe.backbone.alpha).params / PARAMETERS
    except BackboneError:  # one that was made here
        size = 1.0
    # A network 51 times as large (Xception) takes 12 times as long; small images use less of the
    # processor.
    work = size**0.63 * (recipe.image_size / 224) ** 1.4
    number, _, name = part.rpartition(":")
    if name == "features":
        return 0.0 if whole[int(number)] else 1 + units * (LITE * work + DECODE)
    if name == "setup":
        return 1.5 + 2 * size**0.5 if whole[int(number)] else 1.5
    if name == "epoch":
        steps, trainable = units / recipe.batch_size, recipe.stages[int(number)].trainable
        if not whole[int(number)]:
            return STEP * steps + (0 if trainable == "none" else FORWARD * work * units)
        passes = {"none": 1, "all": 3}.get(trainable, 2)  # arXiv:2001.08361, section 2.1
        return STEP * steps + passes * FORWARD * work * units
    if name in ("evaluation", "reference"):
        return 0.5 + units * (LITE * work + DECODE)
    drawn = recipe.dataset.source == "sample"
    each = {"start": 9, "check": 0.8, "data": (0.015 if drawn else 0.002) * units}
    return (each | {"model": 1 + size**0.5, "export": 0.2 + 2.5 * size**0.6})[name]
