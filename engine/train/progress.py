"""How far a stage's fit has come: counters that its callbacks share and checkpoints keep."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import keras

from engine.train.work import Work

COUNTERS = ("reason", "epochs_done", "best_loss", "best_epoch")
"""What a checkpoint keeps of a Progress by its own name."""


@dataclass
class Progress:
    """How far a stage's fit has come.

    Attributes:
        number: the stage's index in the recipe.
        step: batches done in all stages.
        epoch: the current one, 0 for the first.
        batches: done in the current epoch.
        images: seen in the current epoch.
        sums: loss and accuracy of the current epoch, each times `images`.
        loss, accuracy: means over the current epoch so far.
        reason: "completed", or "diverged" once the stage was ended for that.
        epochs_done: finished epochs.
        best_loss, best_epoch: lowest validation loss of this stage, and where it was.
        seconds_before: seconds of the fit before an interruption.
        skipped: batches of the current epoch that were done before an interruption.
        epoch_started, trained: unix seconds of the epoch's start and of its last batch.
        resuming: whether the saved state is still to be restored.
    """

    number: int
    step: int
    epoch: int = 0
    batches: int = 0
    images: int = 0
    sums: tuple[float, float] = (0.0, 0.0)
    loss: float = float("nan")
    accuracy: float = float("nan")
    reason: str = "completed"
    epochs_done: int = 0
    best_loss: float = float("inf")
    best_epoch: int | None = None
    seconds_before: float = 0.0
    skipped: int = 0
    epoch_started: float = 0.0
    trained: float = 0.0
    resuming: bool = False
    started: float = field(default_factory=time.time)

    @property
    def seconds(self) -> float:
        """Seconds of the stage's fit so far, including those before an interruption."""
        return self.seconds_before + time.time() - self.started

    def resume(self, position: dict) -> None:
        """Continues from a checkpoint's position; `Counter` restores network and optimizer."""
        for name in COUNTERS:
            value = position["reporter"][name]
            setattr(self, name, float("inf") if value is None and name == "best_loss" else value)
        self.step, self.seconds_before = position["step"], position["seconds"]
        self.skipped, self.sums = position["batch"], tuple(position["sums"])
        self.resuming = True


class Counter(keras.callbacks.Callback):
    """Counts steps and images, and restores a checkpoint when the fit begins. The first callback:
    the others read what it counts.

    Args:
        work: the run's Work.
        progress: of the stage; changed in place.
    """

    def __init__(self, work: Work, progress: Progress):
        super().__init__()
        self.work, self.progress = work, progress
        self._batch_size, self._images = work.recipe.batch_size, len(work.split["train"])

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Restores network and optimizer at the beginning of a resumed fit."""
        progress = self.progress
        progress.epoch = epoch
        if progress.resuming:
            assert self.work.keeper is not None
            self.work.keeper.restore(self.work.network, self.model)
        else:
            progress.skipped, progress.sums = 0, (0.0, 0.0)
        progress.resuming = False
        progress.images = min(progress.skipped * self._batch_size, self._images)
        progress.epoch_started = time.time()

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        """Counts a step; adds the metrics of batches before an interruption."""
        progress = self.progress
        progress.step += 1
        progress.batches = progress.skipped + batch + 1
        if progress.skipped and not batch:
            assert self.work.keeper is not None
            self.work.keeper.restore_metrics(self.model)
            logs = {k: float(v) for k, v in self.model.get_metrics_result().items()}
        progress.trained = time.time()
        progress.images = min(progress.batches * self._batch_size, self._images)
        progress.loss, progress.accuracy = logs["loss"], logs["accuracy"]
        progress.sums = (progress.loss * progress.images, progress.accuracy * progress.images)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Counts an epoch."""
        self.progress.epochs_done += 1
