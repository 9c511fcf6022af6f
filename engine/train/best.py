"""The best weights of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

import keras
import numpy as np


@dataclass
class Best:
    """The weights with the lowest validation loss over all stages.

    Attributes:
        loss: validation loss; infinite while there are no weights.
        weights: of the whole network, as `get_weights` gives them.
        stage, epoch: where they were found; -1 for those of a run that this one continues.
    """

    loss: float = float("inf")
    weights: list[np.ndarray] = field(default_factory=list)
    stage: int = -1
    epoch: int = -1

    def offer(self, model: keras.Model, loss: float, stage: int, epoch: int) -> bool:
        """Takes the model's weights if their loss is finite and lower."""
        if not loss < self.loss:
            return False
        self.loss, self.stage, self.epoch = float(loss), stage, epoch
        self.weights = model.get_weights()
        return True

    def record(self) -> dict | None:
        """Plain data that identifies the best weights; None while there are none."""
        if not self.weights:
            return None
        return {"loss": self.loss, "stage": self.stage, "epoch": self.epoch}
