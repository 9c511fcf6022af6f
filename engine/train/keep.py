"""The model that a run keeps: written in one step, checked against what was trained."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np

from engine import home as homes
from engine.images import decode
from engine.models import convert, modeling
from engine.models.modeling import Bundle
from engine.predict import calibration, classifier, explanation
from engine.recipe import HeadSpec
from engine.runs import files
from engine.runs.runs import Run


def write(bundle: Bundle, folder: Path) -> None:
    """Writes final.keras and inference.tflite, each aside and then in one step.

    Args:
        bundle: the float32 model.
        folder: takes the files; that of a run.
    """
    aside = folder / "aside.keras"
    # A model of the same layers that was never compiled: the optimizer's state would make the file
    # up to three times as large, and is of no use in it.
    model = keras.Model(bundle.model.inputs, bundle.model.outputs, name=bundle.model.name)
    model.save(aside)
    homes.to_disk(aside)
    os.replace(aside, folder / files.KERAS)
    explanation.write_head(bundle.model, folder)
    convert.to_litert(modeling.inference_model(bundle), folder / files.LITERT)


def parity(run: Run, bundle: Bundle, trained: Bundle, data: list[bytes]) -> dict:
    """Compares what is kept with what was trained, on a few images.

    Args:
        run: the Run, with its inference model written.
        bundle: the float32 model that final.keras holds.
        trained: the model as it was trained, perhaps in mixed precision.
        data: list of encoded images.

    Returns:
        A dict: n; largest_difference in probability between Keras and the inference model;
        same_answers, the share of images that the trained model classifies the same.
    """
    model = classifier.Classifier(run)
    ours = model.probabilities(data)
    pixels = np.stack([decode.load(d, model.size, model.resize) for d in data]).astype(np.float32)
    # Called, not `predict`: for a few images, compiling would take longer than computing.
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


def in_float32(bundle: Bundle, head: HeadSpec) -> Bundle:
    """The model computing in float32, whatever it was trained in, so that it gives the same answers
    on every device.

    Args:
        bundle: the trained model.
        head: of the recipe.
    """
    if keras.config.dtype_policy().name == "float32":
        return bundle
    keras.config.set_dtype_policy("float32")
    return modeling.rebuilt(bundle, head)
