"""What happens during a stage's fit: events, the best weights, divergence, the stop."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

WRITE_EVERY = 5
"""Seconds between writes of the best weights: epochs on cached features take less than a write."""


class Stopped(Exception):
    """The user asked to stop; what is best so far is kept."""


@dataclass
class Best:
    """The weights with the lowest validation loss over all stages, in memory and on disk.

    Attributes:
        path: file ending in .weights.h5 that holds the best weights so far, whole: what a run that
            dies leaves behind. Epochs of a second each do not write it each time; see `flush`.
    """

    path: Path
    loss: float = float("inf")
    weights: list = field(default_factory=list)
    stage: int = -1
    epoch: int = -1
    _written: float = float("-inf")
    _unwritten: bool = False

    def offer(self, model, loss, stage, epoch) -> bool:
        """Takes the model's weights if their loss is finite and lower."""
        if not loss < self.loss:
            return False
        self.loss, self.stage, self.epoch = float(loss), stage, epoch
        self.weights, self._unwritten = model.get_weights(), True
        if time.monotonic() - self._written > WRITE_EVERY:
            self.flush(model)
        return True

    def flush(self, model) -> None:
        """Writes the best weights to `path` if they are not there yet."""
        if not self._unwritten:
            return
        present = model.get_weights()
        model.set_weights(self.weights)
        aside = self.path.with_name("aside.weights.h5")
        model.save_weights(aside)
        os.replace(aside, self.path)
        model.set_weights(present)
        self._written, self._unwritten = time.monotonic(), False


class Reporter(keras.callbacks.Callback):
    """Writes events, keeps the best weights, watches for divergence and for the stop.

    Args:
        whole: the network whose weights are kept; the model that is fitted may be a part of it.
        costs: seconds of a step relative to others, for each stage of the recipe.
    """

    def __init__(self, number, recipe, whole, best, events, stop, first_step, steps, images, costs):
        super().__init__()
        self.whole, self.costs = whole, costs
        self.number, self.recipe, self.best, self.events, self.stop = (
            number,
            recipe,
            best,
            events,
            stop,
        )
        self.step, self.steps, self.images = first_step, steps, images
        self.reason, self.epoch, self.epochs_done = "completed", 0, 0
        self.best_loss, self.best_epoch = float("inf"), None
        self.seconds_a_step = None
        self._written = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self._seen = self._last_seen = 0
        self._last_sums = (0.0, 0.0)
        self._began = self._last = time.time()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        now = time.time()
        self._trained = now
        self._seen = min((batch + 1) * self.recipe.batch_size, self.images)
        loss = logs["loss"]
        if not np.isfinite(loss):
            self._diverge("The training loss is no longer a number")
        # The last batch of an epoch may hold a handful of images, whose mean says nothing; it counts
        # in the epoch's own event.
        whole = self._seen - self._last_seen >= min(self.recipe.batch_size, self.images)
        if now - self._written >= 0.25 and whole:
            # Keras logs means over the epoch so far; a chart wants those since the last event.
            sums = (loss * self._seen, logs["accuracy"] * self._seen)
            count = self._seen - self._last_seen
            elapsed = max(now - self._last, 1e-9)
            # The first batch of a stage waits for the graph to be traced; it tells nothing of speed.
            if self._last_seen or self.epoch:
                pace = elapsed * self.recipe.batch_size / count
                self.seconds_a_step = (
                    pace if self.seconds_a_step is None else 0.8 * self.seconds_a_step + 0.2 * pace
                )
            self.events.write(
                "batch",
                stage=self.number,
                epoch=self.epoch,
                step=self.step,
                loss=(sums[0] - self._last_sums[0]) / count,
                accuracy=(sums[1] - self._last_sums[1]) / count,
                learning_rate=self._rate(),
                images_per_second=count / elapsed,
                eta_seconds=self._eta(batch + 1),
            )
            self._last_seen, self._last_sums, self._last, self._written = self._seen, sums, now, now
        if self.stop():
            raise Stopped

    def on_test_batch_end(self, batch, logs=None):
        if self.best.weights and self.stop():
            raise Stopped

    def on_epoch_end(self, epoch, logs=None):
        self.epochs_done += 1
        loss, seconds = logs["val_loss"], self._trained - self._began
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = float(loss), epoch
        # Three times the loss of guessing, ln(classes), and hardly more right answers: a high loss
        # alone is no sign, since a high rate makes confident mistakes while it still learns.
        classes = self.model.output_shape[-1]
        if logs["loss"] > 3 * np.log(classes) and logs["accuracy"] < 1.5 / classes:
            self._diverge("The training loss is three times that of guessing")
        self.best.offer(self.whole, loss, self.number, epoch)
        self.events.write(
            "epoch",
            stage=self.number,
            epoch=epoch,
            step=self.step,
            learning_rate=self._rate(),
            **{k: logs[k] for k in ("loss", "accuracy", "val_loss", "val_accuracy")},
            seconds=time.time() - self._began,
            images_per_second=self._seen / max(seconds, 1e-9),
            eta_seconds=self._eta(self.steps),
        )

    def _diverge(self, what):
        """Ends the stage: what it does now is worse than stopping."""
        self.reason = "diverged"
        self.model.stop_training = True
        name = self.recipe.stages[self.number].name
        self.events.write(
            "warning",
            text=f"{what} at step {self.step}, so stage {name} ends; a lower learning rate helps.",
        )

    def _rate(self):
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _eta(self, batches_done):
        """Seconds to the end of all stages: a step costs in proportion to what it trains."""
        if self.seconds_a_step is None:
            return None
        stages, cost = self.recipe.stages, self.costs[self.number]
        left = (stages[self.number].epochs - self.epoch) * self.steps - batches_done
        rest = zip(stages[self.number + 1 :], self.costs[self.number + 1 :], strict=True)
        later = sum(stage.epochs * self.steps * other / cost for stage, other in rest)
        return (left + later) * self.seconds_a_step
