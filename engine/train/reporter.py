"""Events during a stage's fit: batches and epochs, with speed and remaining time."""

from __future__ import annotations

import time

import keras

from engine.features import store
from engine.recipe import Recipe, StageSpec
from engine.train.progress import Progress
from engine.train.work import Work

EVENTS_EVERY = 0.5
"""Seconds between two batch events: evaluating a schedule's rate alone takes 1 to 2 ms, and pages
read events less often than that."""


class Reporter(keras.callbacks.Callback):
    """Writes `batch` and `epoch` events.

    Args:
        work: the run's Work.
        progress: of the stage; `seconds_a_step` is set here.
    """

    def __init__(self, work: Work, progress: Progress):
        super().__init__()
        self.work, self.progress, self.recipe = work, progress, work.recipe
        self._whole = min(self.recipe.batch_size, len(work.split["train"]))
        self._costs = [step_cost(stage, self.recipe) for stage in self.recipe.stages]
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
        # The first batch of a stage includes the tracing of the graph.
        if last_images or progress.epoch:
            pace = elapsed * self.recipe.batch_size / count
            before = progress.seconds_a_step
            progress.seconds_a_step = pace if before is None else 0.8 * before + 0.2 * pace
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
            eta_seconds=self._eta(progress.batches),
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
            eta_seconds=self._eta(self.work.steps),
        )

    def _rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _eta(self, batches: int) -> float | None:
        """Seconds to the end of all stages, after `batches` of the current epoch: a step
        costs in proportion to what it trains."""
        progress, stages, steps = self.progress, self.recipe.stages, self.work.steps
        if progress.seconds_a_step is None:
            return None
        number = progress.number
        left = (stages[number].epochs - progress.epoch) * steps - batches
        rest = zip(stages[number + 1 :], self._costs[number + 1 :], strict=True)
        later = sum(stage.epochs * steps * cost / self._costs[number] for stage, cost in rest)
        return (left + later) * progress.seconds_a_step


def step_cost(stage: StageSpec, recipe: Recipe) -> float:
    """A step's cost against a forward pass of the whole network: the backward pass of all layers
    costs about twice the forward one (Kaplan et al. 2020, arXiv:2001.08361, section 2.1)."""
    if not store.why_not(recipe, stage.trainable):
        return 0.02 if stage.trainable == "none" else 0.7
    return {"none": 1.0, "all": 3.0}.get(stage.trainable, 2.0)
