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
    to_litert(modeling.inference_model(bundle), run.path / "inference.tflite")


def to_litert(model, path) -> None:
    """Converts a Keras model to a LiteRT file that takes one image at a time, in one step."""
    aside = path.with_name("aside.tflite")
    model.export(str(aside), format="litert", verbose=False)
    os.replace(aside, path)


def parity(run, bundle, trained, dataset, indices) -> dict:
    """Compares what is kept with what was trained, on a few images.

    Args:
        run: the Run, with its inference model written.
        bundle: the float32 model that final.keras holds.
        trained: the model as it was trained, perhaps in mixed precision.
        dataset, indices: the images.

    Returns:
        A dict: n; largest_difference in probability between Keras and the inference model;
        same_answers, the share of images that the trained model answers alike.
    """
    model = classifier.Classifier(run)
    data = [dataset.image_bytes(int(i)) for i in indices]
    ours = model.probabilities(data)
    pixels = np.stack([images.load(d, model.size, model.resize) for d in data]).astype(np.float32)
    keras_, before = (m.model.predict(pixels, batch_size=16, verbose=0) for m in (bundle, trained))
    return {
        "n": len(indices),
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
