"""When a stage ends before its last epoch: divergence and early stopping; and its best weights."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from engine.train.best import Best
from engine.train.progress import Progress
from engine.train.work import Work


def between_steps(ask: Callable[[], str], resumed: bool, best: Best) -> Callable[[], str]:
    """What a run obeys while it does not train, for example while it computes features.

    Args:
        ask: returns "stop" or "pause" once the user has asked for it, else "".
        resumed: whether the run has a checkpoint. Then it stops where it has weights to keep, at
            the latest in its next step.
        best: the best weights so far.
    """

    def obeyed() -> str:
        asked = ask()
        return "" if asked == "stop" and resumed and not best.weights else asked

    return obeyed


class Stopping(keras.callbacks.Callback):
    """Keeps the best weights; ends a stage that diverges or no longer improves.

    Args:
        work: the run's Work; its `best` takes the weights.
        progress: of the stage; `reason`, `best_loss` and `best_epoch` are set here.
    """

    def __init__(self, work: Work, progress: Progress):
        super().__init__()
        self.work, self.progress = work, progress
        self._stage = work.recipe.stages[progress.number]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Ends the stage if the loss is no longer finite."""
        if not np.isfinite(self.progress.loss):
            self._diverged("The training loss is no longer a number")

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        """Offers the weights as the best ones; applies early stopping."""
        progress, loss = self.progress, logs["val_loss"]
        if loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = float(loss), epoch
        # Three times the loss of guessing, ln(classes), and hardly better accuracy than guessing: a
        # high loss alone means little, because a high rate makes confident mistakes while the
        # network still learns.
        classes = self.model.output_shape[-1]
        if logs["loss"] > 3 * np.log(classes) and logs["accuracy"] < 1.5 / classes:
            self._diverged("The training loss is three times that of guessing")
        self.work.best.offer(self.work.network, loss, progress.number, epoch)
        patience = self._stage.early_stopping
        since = epoch - (-1 if progress.best_epoch is None else progress.best_epoch)
        if patience and since >= patience and epoch > 0:
            self.model.stop_training = True

    def _diverged(self, what: str) -> None:
        self.progress.reason = "diverged"
        self.model.stop_training = True
        self.work.events.write(
            "warning",
            text=f"{what} at step {self.progress.step}, so stage {self._stage.name} ends; "
            "use a lower learning rate.",
        )
