"""The model that a run keeps: written in one step, checked against what was trained."""

import os

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from engine import (
    calibration,
    classifier,
    explanation,
    images,
    manifest,
    modeling,
    runs,
)


def write(bundle, run) -> None:
    """Writes final.keras and inference.tflite, each aside and then in one step."""
    aside = run.path / "aside.keras"
    # A model of the same layers that was never compiled: the optimizer's state would make the file up
    # to three times as large, and nobody who loads it wants it.
    model = keras.Model(bundle.model.inputs, bundle.model.outputs, name=bundle.model.name)
    model.save(aside)
    _to_disk(aside)
    os.replace(aside, run.path / "final.keras")
    explanation.write_head(bundle.model, run.path)
    to_litert(modeling.inference_model(bundle), run.path / "inference.tflite")
    manifest.write(run.path, runs.MODEL)


def to_litert(model, path) -> None:
    """Converts a Keras model to a LiteRT file that takes one image at a time.

    The weights are made constants before the conversion. Keras' own export goes through a SavedModel
    on disk instead, which took five times as long for a network that is no quicker
    (`python -m benchmarks --only choices`).

    Args:
        model: with one input (None, size, size, 3); all outputs are kept, in their order.
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
        _to_disk(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)  # the disk was full


def _to_disk(path) -> None:
    """Waits until a file is on the disk: renamed before that, it could be empty after a power cut."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def parity(run, bundle, trained, data) -> dict:
    """Compares what is kept with what was trained, on a few images.

    Args:
        run: the Run, with its inference model written.
        bundle: the float32 model that final.keras holds.
        trained: the model as it was trained, perhaps in mixed precision.
        data: list of encoded images.

    Returns:
        A dict: n; largest_difference in probability between Keras and the inference model;
        same_answers, the share of images that the trained model answers alike.
    """
    model = classifier.Classifier(run)
    ours = model.probabilities(data)
    pixels = np.stack([images.load(d, model.size, model.resize) for d in data]).astype(np.float32)
    # Called, not predicted with: for so few images, compiling would take longer than computing.
    keras_ = keras.ops.convert_to_numpy(bundle.model(pixels, training=False))
    before = keras_
    if trained is not bundle:
        before = keras.ops.convert_to_numpy(trained.model(pixels, training=False))
    keras_ = calibration.scaled(keras_, model.temperature)
    return {
        "n": len(data),
        "largest_difference": float(np.abs(ours - keras_).max()),
        "same_answers": float(np.mean(ours.argmax(1) == before.argmax(1))),
    }


def in_float32(bundle, head):
    """The model computing in float32, whatever it was trained in, so that it answers alike on
    every device."""
    if keras.config.dtype_policy().name == "float32":
        return bundle
    keras.config.set_dtype_policy("float32")
    return modeling.rebuilt(bundle, head)
