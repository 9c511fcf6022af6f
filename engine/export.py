"""The model that a run keeps: written in one step, checked against what was trained."""

import os

import keras
import numpy as np

from engine import classifier, images, modeling


def write(bundle, run) -> None:
    """Writes final.keras and inference.tflite, each aside and then in one step."""
    aside = run.path / "aside.keras"
    bundle.model.save(aside)
    os.replace(aside, run.path / "final.keras")
    aside = run.path / "aside.tflite"
    modeling.inference_model(bundle).export(str(aside), format="litert", verbose=False)
    os.replace(aside, run.path / "inference.tflite")


def parity(run, bundle, dataset, indices) -> dict:
    """The largest difference in probability between Keras and the inference model."""
    model = classifier.Classifier(run)
    data = [dataset.image_bytes(int(i)) for i in indices]
    ours = model.probabilities(data)
    pixels = np.stack([images.load(d, model.size, model.resize) for d in data])
    theirs = bundle.model.predict(pixels.astype(np.float32), batch_size=16, verbose=0)
    return {"n": len(indices), "largest_difference": float(np.abs(ours - theirs).max())}


def in_float32(bundle, recipe, classes, home, weights):
    """The model with the given weights, computing in float32."""
    if keras.config.dtype_policy().name != "float32":
        keras.config.set_dtype_policy("float32")
        untrained = recipe.backbone.model_copy(update={"weights": "none"})
        if recipe.backbone.weights != "run":
            recipe = recipe.model_copy(update={"backbone": untrained})
        bundle = modeling.build(recipe, classes, home)
    bundle.model.set_weights(weights)
    return bundle
