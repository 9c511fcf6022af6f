"""Exact resume: what a checkpoint holds of the network, the optimizer and the counters.

Heavy: imports Keras. Order and augmentation of an epoch depend on (seed, stage, epoch), so only the
place in the epoch is saved. Everything else that a step depends on is saved: weights, moving
statistics, the state of every seed generator (dropout), the optimizer with its step count
(schedules), the running means of the epoch's metrics, the counters of early stopping, and the best
weights.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import keras
import numpy as np

from engine.errors import TrainingError
from engine.host import settings
from engine.host.signals import Paused
from engine.runs import checkpoint
from engine.train.best import Best

SECONDS = 15.0
"""Least seconds between checkpoints; GRAFT_CHECKPOINT_SECONDS changes it."""
SHARE = 0.02
"""Largest share of the time spent on checkpoints: large networks are saved less often."""


class Keeper:
    """Saves and restores the exact state of a run's training.

    Args:
        run: the run's folder.
        home: Graft's home, for its settings.

    Attributes:
        position: where the run was, or None if it starts: stage, epoch (to continue with), batch
            (done in it), step, batch_size, steps_per_epoch, precision, best (loss, stage, epoch),
            best_before, seconds (of the stage so far) and reporter (the counters of
            `engine.train.progress`).
        best: the best weights so far, or None.
    """

    def __init__(self, run: Path, home: Path):
        self.store, self.home = checkpoint.Checkpoints(run), home
        self.position: dict | None = None
        self.best: list[np.ndarray] | None = None
        self._state: dict = {}
        if found := self.store.load():
            self.position, self._state, self.best = found
        self._every = float(os.environ.get("GRAFT_CHECKPOINT_SECONDS", SECONDS))
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        wait = max(self._every, self.store.seconds / SHARE) if self._every >= 1 else self._every
        return time.monotonic() - self._last >= wait

    def save(self, position: dict, network: keras.Model, model: keras.Model, best: Best) -> None:
        """Writes a checkpoint.

        Args:
            position: see `position`.
            network: the whole model.
            model: the one that is fitted, with optimizer and metrics; may be a part of the network.
            best: the best weights so far.

        Raises:
            Paused: if the disk is too full; earlier checkpoints stay.
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

    def _check_room(self) -> None:
        least = settings.get(self.home)["min_free_mb"] * 2**20
        if shutil.disk_usage(self.store.path.parent).free < least + self.store.bytes:
            raise Paused(_full(self.home))

    def restore_network(self, network: keras.Model) -> None:
        """Gives the network the saved weights, statistics and seeds."""
        self._assign("network", network.variables)

    def restore(self, network: keras.Model, model: keras.Model) -> None:
        """Gives network and optimizer the saved values.

        Call it when fit has begun an epoch: until then, fit itself builds and draws.
        """
        assert self.position is not None
        self.restore_network(network)
        self._assign("optimizer", model.optimizer.variables)
        ratio = self.position.get("iterations_ratio")
        if ratio:  # the batch size has changed: the same place in the schedule
            steps = model.optimizer.iterations
            steps.assign(round(int(keras.ops.convert_to_numpy(steps)) * ratio))

    def restore_metrics(self, model: keras.Model) -> None:
        """Adds the epoch's sums and counts before the checkpoint to the metrics.

        Call it after the first batch, in which Keras builds its metrics. They are sums and counts
        since the epoch began, so those before and those of this batch add up, to the last bit.
        """
        now = [keras.ops.convert_to_numpy(v) for v in model.metrics_variables]
        self._assign("metric", model.metrics_variables)
        for variable, value in zip(model.metrics_variables, now, strict=True):
            variable.assign_add(value)
        self._state = {}  # as large as network and optimizer together

    def _assign(self, kind: str, variables: list) -> None:
        saved = {k: v for k, v in self._state.items() if k.startswith(f"{kind}_")}
        shapes = [tuple(v.shape) for v in variables]
        if [value.shape for value in saved.values()] != shapes:
            raise TrainingError(
                f"the last checkpoint does not fit the {kind} that this version of Keras builds, "
                "so the run cannot be resumed; start it again"
            )
        for variable, value in zip(variables, saved.values(), strict=True):
            variable.assign(value)


def _parts(network: keras.Model, model: keras.Model) -> dict[str, list]:
    return {
        "network": network.variables,
        "optimizer": model.optimizer.variables,
        "metric": model.metrics_variables,
    }


def _full(home: Path) -> str:
    return (
        f"the disk of Graft's home {home} is nearly full, so the run was paused; "
        "free some space, then resume it"
    )
