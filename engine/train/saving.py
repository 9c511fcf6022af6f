"""Checkpoints during a stage's fit, and the user's requests to pause or stop."""

from __future__ import annotations

import keras
import numpy as np

from engine.host.signals import Paused, Stopped
from engine.train.progress import COUNTERS, Progress
from engine.train.work import Work


class Saving(keras.callbacks.Callback):
    """Writes a checkpoint when one is due; pauses or stops when the user asks for it. The last
    callback: what it saves includes what the others counted.

    Args:
        work: the run's Work; without a keeper nothing is saved.
        progress: of the stage.
        facts: what a checkpoint's position holds beside the counters; see `Keeper`.

    Raises:
        Paused, Stopped: from within the fit.
    """

    def __init__(self, work: Work, progress: Progress, facts: dict):
        super().__init__()
        self.work, self.progress, self._facts = work, progress, facts

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves and obeys between two batches."""
        work, progress = self.work, self.progress
        asked = work.ask()
        # The last batch is saved after its validation: resumed before, the epoch would have no
        # batch left.
        if progress.batches < work.steps and not self.model.stop_training:
            if work.keeper and (asked == "pause" or work.keeper.due()):
                self._save(progress.epoch, progress.batches, progress.sums)
            if asked == "pause":
                raise Paused
        if asked == "stop":
            raise Stopped

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Obeys between two batches of validation."""
        asked = self.work.ask()
        if asked == "pause":
            raise Paused  # resumes at the checkpoint before
        if asked == "stop" and self.work.best.weights:
            raise Stopped

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves and obeys between two epochs."""
        asked = self.work.ask()
        if self.work.keeper and (asked == "pause" or self.work.keeper.due()):
            self._save(epoch + 1, 0, (0.0, 0.0))
        if asked == "pause":
            raise Paused
        if asked == "stop" and self.work.best.weights:
            raise Stopped

    def _save(self, epoch: int, batch: int, sums: tuple[float, float]) -> None:
        assert self.work.keeper is not None
        counters = {name: getattr(self.progress, name) for name in COUNTERS}
        # JSON has no infinity.
        if not np.isfinite(counters["best_loss"]):
            counters["best_loss"] = None
        position = {
            "stage": self.progress.number,
            "epoch": epoch,
            "batch": batch,
            "step": self.progress.step,
            "ended": bool(self.model.stop_training),
            "seconds": self.progress.seconds,
            "sums": sums,
            "reporter": counters,
        }
        self.work.keeper.save(position | self._facts, self.work.network, self.model, self.work.best)
