"""Taking a run up exactly: what of the network, the optimizer and the counters goes into a checkpoint.

Heavy: imports Keras. Order and augmentation of an epoch follow from (seed, stage, epoch), so with the
place in the epoch they need no state of their own; all else that a step depends on is here: weights,
moving statistics, the state of every seed generator (dropout), the optimizer with its step count
(schedules), the running means of the epoch's metrics, the counters of early stopping, the best weights.
"""

import os
import shutil
import time

import keras

from engine.errors import TrainingError
from engine.host import settings
from engine.host.signals import Paused
from engine.runs import checkpoint

SECONDS = 15.0
"""Between checkpoints, at least; GRAFT_CHECKPOINT_SECONDS changes it."""
SHARE = 0.02
"""Of the time, that writing checkpoints may take: large networks are saved less often."""


class Keeper:
    """Saves and restores the exact state of a run's training.

    Args:
        run: the run's folder.
        home: Graft's home, for its settings.

    Attributes:
        position: where the run was, or None if it begins: stage, epoch (to go on with), batch (done
            in it), step, batch_size, steps_per_epoch, precision, best (loss, stage, epoch),
            best_before, seconds (of the stage so far) and reporter (its counters).
        best: the best weights so far, or None.
    """

    def __init__(self, run, home):
        self.store, self.home = checkpoint.Checkpoints(run), home
        self.position, self._state, self.best = self.store.load() or (None, None, None)
        self._every = float(os.environ.get("GRAFT_CHECKPOINT_SECONDS", SECONDS))
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        wait = max(self._every, self.store.seconds / SHARE) if self._every >= 1 else self._every
        return time.monotonic() - self._last >= wait

    def save(self, position: dict, network, model, best) -> None:
        """Writes a checkpoint.

        Args:
            position: see `position`.
            network: the whole keras.Model.
            model: the one that is fitted, with optimizer and metrics; perhaps a part of the network.
            best: the `engine.train.reporter.Best`.

        Raises:
            Paused: if the disk has no room for it; what was saved before stays.
        """
        self._check_room()
        state = {
            f"{kind}_{i:05d}": keras.ops.convert_to_numpy(variable)
            for kind, variables in _parts(network, model).items()
            for i, variable in enumerate(variables)
        }
        position = position | {"best": best.record()}
        try:
            self.store.save(position, state, best.weights or None)
        except OSError as error:
            if not checkpoint.disk_full(error):
                raise
            raise Paused(_full(self.home)) from None
        self._last = time.monotonic()

    def _check_room(self):
        least = settings.get(self.home)["min_free_mb"] * 2**20
        if shutil.disk_usage(self.store.path.parent).free < least + self.store.bytes:
            raise Paused(_full(self.home))

    def restore_network(self, network) -> None:
        """Gives the network the saved weights, statistics and seeds."""
        self._assign("network", network.variables)

    def restore(self, network, model) -> None:
        """Gives network and optimizer what was saved.

        To be called when fit has begun an epoch: what it draws and builds before does not count.
        """
        self.restore_network(network)
        self._assign("optimizer", model.optimizer.variables)
        ratio = self.position.get("iterations_ratio")
        if ratio:  # the batches have another size now: as far in the schedule as before
            steps = model.optimizer.iterations
            steps.assign(round(int(keras.ops.convert_to_numpy(steps)) * ratio))

    def restore_metrics(self, model) -> None:
        """Adds the epoch's sums and counts before the checkpoint to the metrics.

        To be called after the first batch, in which Keras builds its metrics. They are sums and counts
        since the epoch began, so those before and those of this batch add up, to the last bit.
        """
        now = [keras.ops.convert_to_numpy(v) for v in model.metrics_variables]
        self._assign("metric", model.metrics_variables)
        for variable, value in zip(model.metrics_variables, now, strict=True):
            variable.assign_add(value)
        self._state = None  # as large as network and optimizer together

    def _assign(self, kind, variables):
        saved = {k: v for k, v in self._state.items() if k.startswith(f"{kind}_")}
        shapes = [tuple(v.shape) for v in variables]
        if [value.shape for value in saved.values()] != shapes:
            raise TrainingError(
                f"the last checkpoint does not fit the {kind} that this version of Keras builds, so the "
                "run cannot be taken up; start it again"
            )
        for variable, value in zip(variables, saved.values(), strict=True):
            variable.assign(value)


def _parts(network, model) -> dict:
    return {
        "network": network.variables,
        "optimizer": model.optimizer.variables,
        "metric": model.metrics_variables,
    }


def _full(home) -> str:
    return (
        f"the disk of Graft's home {home} is nearly full, so the run was paused before anything broke; "
        "free some space, then resume it"
    )
