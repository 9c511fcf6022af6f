"""What all stages of a run share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from engine.data.prepared import Dataset
from engine.features.pixels import Pixels
from engine.host.log import EventWriter, PhaseReport
from engine.models.modeling import Bundle
from engine.recipe import Recipe
from engine.train.best import Best
from engine.train.resume import Keeper


@dataclass
class Work:
    """What all stages of a run share.

    Attributes:
        recipe, bundle, dataset: what is trained, and on what.
        pixels: of the training and validation images.
        split: indices of the images in "train", "validation" and "test".
        home: Graft's home.
        events: takes the run's events.
        ask: returns "stop" or "pause" once the user has asked for it, else "".
        report: shows progress.
        keeper: writes checkpoints; None where nothing is kept, as in a probe.
        best: the best weights so far.
        initial: weights before the first stage, for a stage that diverges before there is a best.
        started: indices of stages whose start is in the events already.
    """

    recipe: Recipe
    bundle: Bundle
    dataset: Dataset
    pixels: Pixels
    split: dict[str, np.ndarray]
    home: Path
    events: EventWriter
    ask: Callable[[], str]
    report: PhaseReport
    keeper: Keeper | None = None
    best: Best = field(default_factory=Best)
    initial: list[np.ndarray] = field(default_factory=list)
    started: set[int] = field(default_factory=set)

    @property
    def network(self) -> keras.Model:
        """The whole model."""
        return self.bundle.model

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.split["train"]) // self.recipe.batch_size)

    def kept(self) -> str:
        """Whose weights are best so far, in words."""
        if self.best.stage < 0:
            return f"run {self.recipe.continue_from}, which this one continues,"
        return f"stage {self.recipe.stages[self.best.stage].name}"
