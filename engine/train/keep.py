"""The model that a run keeps: written in one step, checked against what was trained."""

import os

import keras
import numpy as np

from engine import home as homes
from engine.images import decode
from engine.models import convert, modeling
from engine.predict import calibration, classifier, explanation
from engine.runs import manifest, runs


def write(bundle, run) -> None:
    """Writes final.keras and inference.tflite, each aside and then in one step."""
    aside = run.path / "aside.keras"
    # A model of the same layers that was never compiled: the optimizer's state would make the file up
    # to three times as large, and nobody who loads it wants it.
    model = keras.Model(bundle.model.inputs, bundle.model.outputs, name=bundle.model.name)
    model.save(aside)
    homes.to_disk(aside)
    os.replace(aside, run.path / "final.keras")
    explanation.write_head(bundle.model, run.path)
    convert.to_litert(modeling.inference_model(bundle), run.path / "inference.tflite")
    manifest.write(run.path, runs.MODEL)


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
    pixels = np.stack([decode.load(d, model.size, model.resize) for d in data]).astype(np.float32)
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
