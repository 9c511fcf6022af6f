"""Writing a run's model in other formats.

Heavy: imports TensorFlow. Every format is made from final.keras, with the weights of its last layer
divided by the run's temperature T (`engine.predict.calibration`), so that an export gives the same
confidence as the app: softmax(logits / T). All formats take pixels, float32 from 0 to 255, and
return `probabilities`; the backbone's own scaling is part of the model.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from engine.errors import GraftError
from engine.exports import half
from engine.host.background import Report
from engine.predict import calibration
from engine.runs import files

if TYPE_CHECKING:
    from engine.runs.runs import Run

CALIBRATION = 200
"""Images used to estimate the range of each activation for int8. The converter's guide asks for a
few hundred (https://ai.google.dev/edge/litert/models/post_training_quantization)."""


def write(
    run: Run,
    format: str,
    precision: str,
    folder: Path,
    pixels: np.ndarray,
    report: Report,
) -> tuple[list[int], dict | None]:
    """Writes the model in a format.

    Args:
        run: a finished run with final.keras.
        format, precision: of `engine.exports.formats.FORMATS`.
        folder: an empty folder, where the model's file or folder is written.
        pixels: uint8 array (n, size, size, 3), images that int8 and float16 are fitted on.
        report: called with (text, done, total); may raise to stop.

    Returns:
        The indices of the images in `pixels` that the precision was fitted on, empty for float32;
        and for float16 an `engine.exports.half.Stored` as a dict, otherwise None.

    Raises:
        GraftError: if the run's model is damaged, the format does not support one of its layers, or
            none of its weights can be float16.
    """
    model = answering(run)
    fitted_on: list[int] = []
    stored = None
    try:
        if format == "keras":
            model.save(folder / "model.keras")
        elif format == "saved_model":
            saved_model(model, folder / "saved_model", run.recipe.resize)
        elif format == "onnx":
            onnx(model, folder / "model.onnx")
        else:
            count = {"float16": half.EXAMPLES, "int8": CALIBRATION}.get(precision, 0)
            fitted_on = spread(len(pixels), count)
            examples = [pixels[i] for i in fitted_on]
            litert(model, folder / "model.tflite", precision, examples)
            if precision == "float16":
                stored = asdict(half.halve(folder / "model.tflite", examples, report))
    except (ValueError, RuntimeError, tf.lite.ConverterError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise GraftError(
            f"the model of run {run.id} cannot be converted to {format} ({reason}); choose "
            "another format"
        ) from error
    return fitted_on, stored


def answering(run: Run) -> keras.Model:
    """The run's model in float32, with its logits divided by its temperature."""
    path = run.checked(files.KERAS)
    try:
        model = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError) as error:
        raise GraftError(
            f"the model of run {run.id} is damaged ({str(error).splitlines()[0]}); train it again"
        ) from None
    temperature = calibration.temperature_of(run)
    if temperature == 1:
        return model
    if "logits" not in {layer.name for layer in model.layers}:
        raise GraftError(
            f"the imported model of run {run.id} has no layer named logits, so an export cannot "
            "include its calibration; import it again and export that run without calibrating it"
        )
    logits = model.get_layer("logits")
    logits.set_weights([weights / temperature for weights in logits.get_weights()])
    return model


def spread(n: int, count: int) -> list[int]:
    """At most `count` of n indices, evenly spaced, since images are often sorted by class."""
    return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(int)).tolist() if n else []


def saved_model(model: keras.Model, path: Path, resize: str) -> None:
    """Writes a SavedModel with two signatures.

    `serving_default` takes encoded images, string (batch,), and `pixels` takes prepared images,
    float32 (batch, size, size, 3). Both return {"probabilities": float32 (batch, classes)}.

    Args:
        model: from `answering`.
        path: of the folder to write.
        resize: of the recipe, "antialias" or "plain".
    """
    size = model.input_shape[1]

    def pixels(pixels):
        return {"probabilities": model(pixels, training=False)}

    def encoded(image_bytes):
        return pixels(
            tf.map_fn(
                lambda data: decoded(data, size, resize),
                image_bytes,
                fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32),
            )
        )

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", encoded, [tf.TensorSpec([None], tf.string, "image_bytes")]
    )
    archive.add_endpoint(
        "pixels", pixels, [tf.TensorSpec([None, size, size, 3], tf.float32, "pixels")]
    )
    archive.write_out(str(path), verbose=False)


def decoded(data: tf.Tensor, size: int, resize: str) -> tf.Tensor:
    """Decodes an image with TensorFlow, as closely to `engine.images.decode` as possible.

    JPEG is decoded with the accurate transform, which Pillow uses too (TensorFlow's default differs
    by up to 5 levels of 255). Pillow rounds after resizing with antialias and truncates after a
    plain resize. The other way round, the mean difference on 22 photos was 0.5 levels instead of
    0.2 and 0.002.

    Args:
        data: string tensor ().
        size: side in pixels.
        resize: "antialias" or "plain".

    Returns:
        float32 tensor (size, size, 3), whole numbers 0 to 255.
    """
    image = tf.cond(
        tf.io.is_jpeg(data),
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )
    image.set_shape((None, None, 3))
    resized = tf.image.resize(image, (size, size), antialias=resize == "antialias")
    whole = tf.round(resized) if resize == "antialias" else tf.floor(resized)
    return tf.clip_by_value(whole, 0, 255)


def litert(
    model: keras.Model, path: Path, precision: str, examples: Sequence[np.ndarray] = ()
) -> None:
    """Writes a LiteRT file that takes one image at a time, float32 in and out.

    Args:
        model: from `answering`.
        path: of the .tflite file to write.
        precision: "int8" for weights and activations in int8; otherwise all is float32
            (`engine.exports.half.halve` then makes float16 of it).
        examples: uint8 arrays (size, size, 3), prepared images to calibrate int8 on.
    """
    shape = (1, *model.input_shape[1:])
    aside = path.with_suffix(".saved_model")
    archive = keras.export.ExportArchive()
    archive.track(model)
    # A SavedModel gives the file a signature from `pixels` to `probabilities`. Keras must write it:
    # from_concrete_functions left out the weights without an error.
    archive.add_endpoint(
        "serving_default",
        lambda pixels: {"probabilities": model(pixels, training=False)},
        [tf.TensorSpec(shape, tf.float32, "pixels")],
    )
    archive.write_out(str(aside), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(aside), ["serving_default"])
    if precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x[None].astype(np.float32)] for x in examples)
        # Otherwise an operation without an int8 version would silently stay float.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())
    shutil.rmtree(aside)


def onnx(model: keras.Model, path: Path) -> None:
    """Writes an ONNX file from `pixels` (batch, size, size, 3) to `probabilities` (batch, classes).

    The weights become constants first: Keras' own export loses constants that are not weights, such
    as EfficientNet's input scaling for ImageNet.
    """
    import tf2onnx

    graph = tf.function(lambda pixels: model(pixels, training=False))
    traced = graph.get_concrete_function(tf.TensorSpec(model.input_shape, tf.float32, "pixels"))
    frozen = convert_variables_to_constants_v2(traced)
    given, answer = frozen.inputs[0].name, frozen.outputs[0].name
    tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[given],
        output_names=[answer],
        tensors_to_rename={given: "pixels", answer: "probabilities"},
        output_path=str(path),
    )
