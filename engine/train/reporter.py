"""Events during a stage's fit: batches and epochs, with their speed."""

from __future__ import annotations

import time

import keras

from engine.train.progress import Progress
from engine.train.work import Work

EVENTS_EVERY = 0.5
"""Seconds between two batch events: evaluating a schedule's rate alone takes 1 to 2 ms, and pages
read events less often than that."""


class Reporter(keras.callbacks.Callback):
    """Writes `batch` and `epoch` events.

    Args:
        work: the run's Work.
        progress: of the stage.
    """

    def __init__(self, work: Work, progress: Progress):
        super().__init__()
        self.work, self.progress, self.recipe = work, progress, work.recipe
        self._whole = min(self.recipe.batch_size, len(work.split["train"]))
        self._written = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts a new count of images and seconds."""
        self._note(time.time())

    def _note(self, now: float) -> None:
        self._last = now, self.progress.images, self.progress.sums

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Writes a `batch` event at most every `EVENTS_EVERY` seconds."""
        progress, now = self.progress, self.progress.trained
        last, last_images, last_sums = self._last
        count = progress.images - last_images
        # The last batch of an epoch may hold a handful of images, whose mean says nothing; the
        # epoch's own event includes it.
        if now - self._written < EVENTS_EVERY or count < self._whole:
            return
        elapsed = max(now - last, 1e-9)
        # Keras gives means over the epoch so far; a chart needs those since the last event.
        self.work.events.write(
            "batch",
            stage=progress.number,
            epoch=progress.epoch,
            step=progress.step,
            loss=(progress.sums[0] - last_sums[0]) / count,
            accuracy=(progress.sums[1] - last_sums[1]) / count,
            learning_rate=self._rate(),
            images_per_second=count / elapsed,
        )
        self._written = now
        self._note(now)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        """Writes the `epoch` event."""
        progress = self.progress
        seconds = progress.trained - progress.epoch_started
        images = progress.images - progress.skipped * self.recipe.batch_size
        self.work.events.write(
            "epoch",
            stage=progress.number,
            epoch=epoch,
            step=progress.step,
            learning_rate=self._rate(),
            **{k: logs[k] for k in ("loss", "accuracy", "val_loss", "val_accuracy")},
            seconds=time.time() - progress.epoch_started,
            images_per_second=images / max(seconds, 1e-9),
        )

    def _rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
