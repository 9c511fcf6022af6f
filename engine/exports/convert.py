"""Writing a run's model in other formats.

Heavy: imports TensorFlow. Every format is made from final.keras with the run's temperature
(`engine.predict.confidence`) divided into its last layer, so that an export is as sure of itself as the app:
softmax(logits / T) is what the app answers. All take pixels float32 0 to 255 and answer `probabilities`;
the backbone's own scaling is inside.
"""

import shutil
from dataclasses import asdict

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from engine.errors import GraftError
from engine.exports import half as export_half
from engine.predict import calibration

CALIBRATION = 200
"""Images from which int8 learns the range of each activation; a few hundred are what the converter's
guide asks for (https://ai.google.dev/edge/litert/models/post_training_quantization)."""


def write(run, format, precision, folder, pixels, report) -> tuple[list[int], dict | None]:
    """Writes the model in a format.

    Args:
        run: a finished Run with final.keras.
        format, precision: of `engine.exports.formats.FORMATS`.
        folder: an empty folder that takes the model's file or folder.
        pixels: uint8 array (n, size, size, 3), images that int8 and float16 may look at.
        report: called with (text, done, total); may raise to stop.

    Returns:
        The places in `pixels` of the images that were looked at, empty for float32; and for float16 an
        `engine.exports.half.Stored` as a dict, otherwise None.

    Raises:
        GraftError: if the run's model is damaged, the format has no word for one of its layers, or none
            of its weights can be float16.
    """
    model = answering(run)
    looked_at, half = [], None
    try:
        if format == "keras":
            model.save(folder / "model.keras")
        elif format == "saved_model":
            saved_model(model, folder / "saved_model", run.recipe.resize)
        elif format == "onnx":
            onnx(model, folder / "model.onnx")
        else:
            count = {"float16": export_half.EXAMPLES, "int8": CALIBRATION}.get(precision, 0)
            looked_at = spread(len(pixels), count)
            examples = [pixels[i] for i in looked_at]
            litert(model, folder / "model.tflite", precision, examples)
            if precision == "float16":
                half = asdict(export_half.halve(folder / "model.tflite", examples, report))
    except (ValueError, RuntimeError, tf.lite.ConverterError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise GraftError(
            f"the model of run {run.id} cannot be converted to {format} ({reason}); choose another format"
        ) from error
    return looked_at, half


def answering(run) -> keras.Model:
    """The run's model, float32, with its temperature divided into the logits."""
    try:
        model = keras.saving.load_model(run.path / "final.keras", compile=False)
    except (ValueError, OSError) as error:
        raise GraftError(
            f"the model of run {run.id} is damaged ({str(error).splitlines()[0]}); train it again"
        ) from None
    temperature = calibration.temperature_of(run)
    if temperature == 1:
        return model
    if "logits" not in {layer.name for layer in model.layers}:
        raise GraftError(
            f"the model of run {run.id} comes from elsewhere and has no layer of logits, so its calibration "
            "cannot be put into an export; export it before it is calibrated"
        )
    logits = model.get_layer("logits")
    logits.set_weights([weights / temperature for weights in logits.get_weights()])
    return model


def spread(n: int, count: int) -> list[int]:
    """At most `count` of n places, evenly spaced: a folder's images lie class by class."""
    return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(int)).tolist() if n else []


def saved_model(model, path, resize: str) -> None:
    """Writes a SavedModel with two signatures, both to {"probabilities": (batch, classes) float32}.

    serving_default takes the bytes of encoded images, string (batch,); pixels takes prepared ones,
    float32 (batch, size, size, 3).

    Args:
        model: of `answering`.
        path: of the folder.
        resize: the recipe's.
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


def decoded(data, size: int, resize: str):
    """One encoded image to pixels with TensorFlow's operations, as near to `engine.images.decode` as they come.

    JPEG is decoded with the accurate transform, which Pillow's library uses too (TensorFlow's usual
    one differs by up to 5 levels of 255). Pillow rounds what it resizes with antialias, and cuts off
    what it resizes plainly: done the other way, the mean difference was 0.5 levels instead of 0.2 and
    0.002 on 22 photos.

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


def litert(model, path, precision: str, examples=()) -> None:
    """Writes a LiteRT file that takes one image at a time, float32 in and out.

    Args:
        model: of `answering`.
        path: of the .tflite file.
        precision: "int8", weights and activations; otherwise all in float32, which
            `engine.exports.half.halve` makes float16 of.
        examples: uint8 arrays (size, size, 3), for int8: prepared by the path that prepares every image.
    """
    shape = (1, *model.input_shape[1:])
    aside = path.with_suffix(".saved_model")
    archive = keras.export.ExportArchive()
    archive.track(model)
    # Through a SavedModel, so that the file has a signature, `pixels` to `probabilities`; and through
    # one of Keras' own: from_concrete_functions left the weights out without a word.
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
        # Without this, an operation that int8 does not know would stay float in silence.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())
    shutil.rmtree(aside)


def onnx(model, path) -> None:
    """Writes an ONNX file from `pixels` (batch, size, size, 3) to `probabilities` (batch, classes).

    The weights are made constants first: Keras' own export loses constants that are no weights, such as
    EfficientNet's input scaling for ImageNet.
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
