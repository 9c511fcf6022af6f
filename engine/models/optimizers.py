"""How a stage is compiled: optimizer with learning-rate schedule, loss and accuracy.

Heavy: imports Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from engine.recipe import StageSpec, schedules

NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}


def optimizer(stage: StageSpec, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The stage's optimizer with its learning-rate schedule.

    Args:
        stage: of a recipe.
        steps_per_epoch: batches in an epoch, 1 or more.
    """
    constant = stage.schedule == "constant"
    rates = schedules.learning_rates(stage, steps_per_epoch)
    shared: dict[str, Any] = {"learning_rate": stage.learning_rate if constant else _Rates(rates)}
    # None leaves the decay out of the graph; AdamW alone insists on a number.
    shared["weight_decay"] = stage.weight_decay or (0.0 if stage.optimizer == "adamw" else None)
    if stage.optimizer in ("sgd", "rmsprop"):
        shared["momentum"] = stage.momentum
    return getattr(keras.optimizers, NAMES[stage.optimizer])(**shared)


def compile_(
    model: keras.Model, stage: StageSpec, steps_per_epoch: int, label_smoothing: float
) -> None:
    """Compiles a model for a stage.

    Args:
        model: the network, or the part of it that is trained.
        stage, steps_per_epoch: as for `optimizer`.
        label_smoothing: of the recipe's head, 0 to 1.
    """
    model.compile(
        optimizer=optimizer(stage, steps_per_epoch),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        # XLA made a step ten times slower on a CPU, and its results change between GPU drivers.
        jit_compile=False,
    )
    # Keras would build it in the first step, too late for a checkpoint's values.
    model.optimizer.build(model.trainable_variables)


class _Rates(keras.optimizers.schedules.LearningRateSchedule):
    """The rates of `engine.recipe.schedules.learning_rates`, one for each step."""

    def __init__(self, rates):
        super().__init__()
        self.rates = np.asarray(rates, "float32")

    def __call__(self, step):
        # Only a probe takes steps beyond the last; they keep the last rate.
        place = keras.ops.minimum(keras.ops.cast(step, "int32"), len(self.rates) - 1)
        return keras.ops.take(self.rates, place)

    def get_config(self):
        return {"rates": self.rates.tolist()}
