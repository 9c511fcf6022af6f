"""Converts a Keras model to a LiteRT file. Heavy: imports TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from engine import home as homes


def to_litert(model: keras.Model, path: Path) -> None:
    """Converts a Keras model to a LiteRT file that takes one image at a time.

    The weights become constants before the conversion. Keras' own export writes a SavedModel first,
    which took five times as long for a network that is not faster (`python -m benchmarks --only
    choices`).

    Args:
        model: with one input (None, size, size, 3); all outputs are kept in order.
        path: of the .tflite file, which appears in one step.
    """
    shape = [1, *model.inputs[0].shape[1:]]
    graph = tf.function(lambda pixels: keras.tree.flatten(model(pixels, training=False)))
    traced = graph.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    frozen = convert_variables_to_constants_v2(traced)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(converter.convert())
        homes.to_disk(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)  # left over if the disk was full
