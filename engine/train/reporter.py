"""What happens during a stage's fit: events, checkpoints, the best weights, early stopping, divergence,
stop and pause."""

import time
from dataclasses import dataclass, field

import keras
import numpy as np

from engine.host.signals import Paused, Stopped

EVENTS_EVERY = 0.5
"""Seconds between two batch events: evaluating a schedule's rate alone takes 1 to 2 ms, and pages look
less often than that."""


@dataclass
class Best:
    """The weights with the lowest validation loss over all stages."""

    loss: float = float("inf")
    weights: list = field(default_factory=list)
    stage: int = -1
    epoch: int = -1

    def offer(self, model, loss, stage, epoch) -> bool:
        """Takes the model's weights if their loss is finite and lower."""
        if not loss < self.loss:
            return False
        self.loss, self.stage, self.epoch = float(loss), stage, epoch
        self.weights = model.get_weights()
        return True

    def record(self) -> dict | None:
        """Plain data that tells one best from another; None while there is none."""
        if not self.weights:
            return None
        return {"loss": self.loss, "stage": self.stage, "epoch": self.epoch}


class Reporter(keras.callbacks.Callback):
    """Writes events and checkpoints, keeps the best weights, watches for divergence, stop and pause.

    Args:
        number: the stage's index in the recipe.
        work: the `engine.train.stages.Work`.
        first_step: the global step before the stage.
        images: of the training part.
        costs: seconds of a step relative to others, for each stage of the recipe.
        facts: what a checkpoint's position says beside the counters; see `engine.train.resume.Keeper`.
    """

    COUNTERS = ("reason", "epochs_done", "best_loss", "best_epoch", "seconds_a_step")

    def __init__(self, number, work, first_step, images, costs, facts):
        super().__init__()
        self.number, self.work, self.costs, self.facts = number, work, costs, facts
        self.recipe, self.events, self.best = work.recipe, work.events, work.best
        self.step, self.steps, self.images = first_step, work.steps, images
        self.reason, self.epoch, self.epochs_done = "completed", 0, 0
        self.best_loss, self.best_epoch = float("inf"), None
        self.seconds_a_step = None
        self.begun, self.spent = time.time(), 0.0
        self._written, self._skipped, self._sums = 0.0, 0, (0.0, 0.0)
        self._resume = False

    def take_up(self, position) -> None:
        """Goes on from a checkpoint: counters now, network and optimizer when fit has built them."""
        for name, value in position["reporter"].items():
            setattr(self, name, float("inf") if value is None and name == "best_loss" else value)
        self.step, self.spent = position["step"], position["seconds"]
        self._skipped, self._sums = position["batch"], tuple(position["sums"])
        self._resume = True

    @property
    def ended(self) -> bool:
        """Whether the stage is over before its last epoch."""
        return self.model is not None and self.model.stop_training

    @property
    def seconds(self) -> float:
        """Seconds of the stage's fit so far, with those before an interruption."""
        return self.spent + time.time() - self.begun

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self._resume:
            self.work.keeper.restore(self.work.network, self.model)
        elif self._skipped:
            self._skipped, self._sums = 0, (0.0, 0.0)  # the epoch after the one taken up
        self._resume = False
        self._seen = self._last_seen = min(self._skipped * self.recipe.batch_size, self.images)
        self._last_sums = self._sums
        self._began = self._last = time.time()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        done = self._skipped + batch + 1  # batches of this epoch
        if self._skipped and not batch:
            self.work.keeper.restore_metrics(self.model)
            logs = {k: float(v) for k, v in self.model.get_metrics_result().items()}
        now = time.time()
        self._trained = now
        self._seen = min(done * self.recipe.batch_size, self.images)
        loss = logs["loss"]
        if not np.isfinite(loss):
            self._diverge("The training loss is no longer a number")
        # The last batch of an epoch may hold a handful of images, whose mean says nothing; it counts
        # in the epoch's own event.
        whole = self._seen - self._last_seen >= min(self.recipe.batch_size, self.images)
        if now - self._written >= EVENTS_EVERY and whole:
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
                eta_seconds=self._eta(done),
            )
            self._last_seen, self._last_sums, self._last, self._written = self._seen, sums, now, now
        asked = self.work.ask()
        # The last batch belongs to its validation: taken up after it, an epoch would have no batch.
        if done < self.steps and not self.model.stop_training:
            keeper = self.work.keeper
            if keeper and (asked == "pause" or keeper.due()):
                sums = (float(loss) * self._seen, float(logs["accuracy"]) * self._seen)
                self._save(self.epoch, done, sums)
            if asked == "pause":
                raise Paused
        if asked == "stop":
            raise Stopped

    def on_test_batch_end(self, batch, logs=None):
        asked = self.work.ask()
        if asked == "pause":
            raise Paused  # taken up from the checkpoint before
        if asked == "stop" and self.best.weights:
            raise Stopped

    def _save(self, epoch, batch, sums=(0.0, 0.0)):
        counters = {name: getattr(self, name) for name in self.COUNTERS}
        # JSON has no infinity.
        counters["best_loss"] = self.best_loss if np.isfinite(self.best_loss) else None
        position = {
            "stage": self.number,
            "epoch": epoch,
            "batch": batch,
            "step": self.step,
            "ended": bool(self.model.stop_training),
            "seconds": self.seconds,
            "sums": sums,
            "reporter": counters,
        }
        self.work.keeper.save(position | self.facts, self.work.network, self.model, self.best)

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
        self.best.offer(self.work.network, loss, self.number, epoch)
        patience = self.recipe.stages[self.number].early_stopping
        since = epoch - (-1 if self.best_epoch is None else self.best_epoch)
        if patience and since >= patience and epoch > 0:
            self.model.stop_training = True
        self.events.write(
            "epoch",
            stage=self.number,
            epoch=epoch,
            step=self.step,
            learning_rate=self._rate(),
            **{k: logs[k] for k in ("loss", "accuracy", "val_loss", "val_accuracy")},
            seconds=time.time() - self._began,
            images_per_second=(self._seen - self._skipped * self.recipe.batch_size)
            / max(seconds, 1e-9),
            eta_seconds=self._eta(self.steps),
        )
        if self.work.keeper and self.work.keeper.due():
            self._save(epoch + 1, 0)

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
