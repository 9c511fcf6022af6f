"""Devices, seeds and number format of a process that computes. Heavy: imports TensorFlow."""

from __future__ import annotations

import keras
import tensorflow as tf

from engine.host.log import EventWriter
from engine.models import precision
from engine.recipe import Recipe


def prepare_device(recipe: Recipe, events: EventWriter, chosen: str | None = None) -> str:
    """Sets seeds, memory growth and precision; returns the precision's name.

    Args:
        recipe: seed, deterministic and precision are read.
        events: takes a note about the precision.
        chosen: the precision of a run that is resumed; None to choose one.
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
