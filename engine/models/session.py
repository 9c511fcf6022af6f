"""The process that computes: its devices, seeds and number format. Heavy: imports TensorFlow."""

from collections.abc import Callable

import keras
import tensorflow as tf

from engine.models import precision


def prepare_device(recipe, events, chosen=None) -> str:
    """Seeds, memory growth and precision; returns the precision's name.

    Args:
        chosen: the precision that was chosen before, when a run is resumed.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    if chosen is None:
        chosen = precision.choose(recipe, events)
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(chosen)
    return chosen


class Silent:
    """In the place of an EventLog where there is no run to write of.

    Args:
        on_step: called with the step of each batch event; None for nothing.
    """

    def __init__(self, on_step: Callable[[int], None] | None = None):
        self._on_step = on_step

    def write(self, event: str, **fields) -> None:
        """Takes an event; writes nothing."""
        if event == "batch" and self._on_step:
            self._on_step(fields["step"])
