"""The throwaway process that loads a model from elsewhere: `python -m engine.imports.worker FOLDER`.

Heavy, but only once the limits are set. It finds in FOLDER what `engine.imports.imports` put there (job.json,
config.json written anew, model.weights.h5) and leaves final.keras, inference.tflite, head.npz and result.json
beside them. Whatever happens to it, the server that started it does not notice.
"""

import json
import os
import resource
import sys
import traceback
from pathlib import Path

from engine.errors import GraftError, RunError
from engine.host import limits
from engine.host.parallel import cores

MAX_DATASETS = 20_000
"""Arrays in a file of weights; NASNetLarge has 1,500."""
MAX_ACTIVATION = 64_000_000
"""Numbers that one layer may put out for an image (256 MB): the pages and the endpoint run the model too."""
SAME = 1e-3
"""Largest difference in probability between Keras and LiteRT that passes; a normal one is below 1e-5."""


def main(folder: str) -> int:
    folder = Path(folder)
    job = json.loads((folder / "job.json").read_text())
    _limit(job)
    try:
        _check_weights(folder / "model.weights.h5", job["weight_bytes"])
        result = _convert(folder, job)
    except GraftError as error:
        result = {"error": str(error)}
    except Exception as error:  # Keras, TensorFlow and its converter raise almost anything
        traceback.print_exc()
        if isinstance(error, MemoryError) or limits.speaks_of_memory(
            f"{error} {type(error).__name__}"
        ):
            raise  # told by the parent, as for one that was killed for it
        result = {"error": f"it does not load ({type(error).__name__}: {_first_line(error)})"}
    (folder / "result.json").write_text(json.dumps(result))
    return 0


def _limit(job) -> None:
    """Bounds this process, before anything of the file is looked at."""
    limits.limit_memory(job["memory"])
    for what, limit in (
        (resource.RLIMIT_CPU, job["seconds"] * cores()),
        (resource.RLIMIT_FSIZE, job["disk"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))


def _first_line(error) -> str:
    text = " ".join(str(error).split()) or "no reason given"
    return text if len(text) <= 160 else text[:157] + "…"


# -- weights, looked at before Keras sees them ------------------------------------------------------


def _check_weights(path, most: int) -> None:
    """Holds a file of weights to plain arrays of finite numbers: HDF5 can also point at other files, at
    itself, and at far more numbers than it holds.

    Args:
        path: of the .h5 file.
        most: bytes that all arrays may have.

    Raises:
        RunError: one sentence, to be put behind "FILE is not imported: ".
    """
    import h5py
    import numpy as np

    try:
        file = h5py.File(path, "r")
    except OSError:
        raise RunError("its weights are damaged: they cannot be opened as HDF5") from None
    left, seen, total, count = [file], set(), 0, 0
    while left:
        group = left.pop()
        where = h5py.h5o.get_info(group.id).addr
        if where in seen:
            raise RunError("its weights hold a group that lies within itself")
        seen.add(where)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RunError("its weights hold a link to another place or file")
            kind = group.get(name, getclass=True)
            if kind is h5py.Group:
                left.append(group[name])
                continue
            if kind is not h5py.Dataset:
                raise RunError("its weights hold something else than arrays")
            array, count = group[name], count + 1
            if array.external or array.is_virtual:
                raise RunError("its weights lie in another file")
            if array.dtype.kind not in "fiu" or array.ndim > 8 or count > MAX_DATASETS:
                raise RunError("its weights hold something else than plain arrays of numbers")
            total += array.nbytes
            if total > most:
                raise RunError("its weights declare far more numbers than the file holds")
            if array.dtype.kind == "f" and not np.isfinite(array[()]).all():
                raise RunError("its weights are not all finite numbers, so it can answer nothing")
    file.close()


# -- the model --------------------------------------------------------------------------------------


def _convert(folder, job) -> dict:
    """Loads the model, writes what a run keeps, and tries it.

    Returns:
        A dict: classes, features (their numbers), feature_map (height, width, channels), params (of
        backbone, head and total), backbone_layer (name, or None), graft_shaped, largest_difference
        between Keras and LiteRT, and notes (list of sentences).
    """
    import keras

    from engine.models import convert, modeling
    from engine.predict import explanation

    config = json.loads((folder / "config.json").read_text())
    model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    try:
        model.load_weights(folder / "model.weights.h5")
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"its weights do not fit its layers ({_first_line(error)})") from None
    _check_size(model)
    notes, classes = [], _classes(model)
    parts, graft_shaped = _parts(model, notes)
    size, mode = job["image_size"], job["preprocessing"]
    if mode != "included" or job["logits"]:
        graft_shaped = False
        pixels = keras.Input((size, size, 3), dtype="float32", name="pixels")
        probabilities, features, feature_map = parts(modeling.preprocess(pixels, mode))
        if job["logits"]:
            probabilities = keras.layers.Softmax(name="probabilities")(probabilities)
            notes.append("Its last layer gave logits, so a softmax was put behind it.")
        model = keras.Model(pixels, probabilities, name="classifier")
        parts = keras.Model(pixels, [probabilities, features, feature_map], name="inference")
    model.save(folder / "final.keras")
    if graft_shaped:
        explanation.write_head(model, folder)
    convert.to_litert(parts, folder / "inference.tflite")
    nested = [x for x in model.layers if isinstance(x, keras.Model)]
    backbone = next(
        (x for x in nested if len(x.outputs) == 1 and len(x.outputs[0].shape) == 4), None
    )
    inside, total = backbone.count_params() if backbone else 0, model.count_params()
    return {
        "classes": classes,
        "features": int(parts.outputs[1].shape[-1]),
        "params": {"backbone": inside, "head": total - inside, "total": total},
        "backbone_layer": backbone.name if backbone else None,
        "graft_shaped": graft_shaped,
        "largest_difference": _try(parts, folder / "inference.tflite", size),
        "notes": notes,
    }


def _check_size(model) -> None:
    """Refuses a model that would need too much memory for a single image, wherever it is run."""
    import math

    left = [model]
    while left:
        for layer in left.pop().layers:
            if hasattr(layer, "layers"):
                left.append(layer)
            for node in layer._inbound_nodes:
                for tensor in node.output_tensors:
                    if math.prod(size or 1 for size in tensor.shape) > MAX_ACTIVATION:
                        shape = "x".join(str(size) for size in tensor.shape[1:])
                        raise RunError(
                            f"its layer {layer.name} puts out {shape} numbers for an image, and at most "
                            f"{MAX_ACTIVATION:,} fit"
                        )


def _classes(model) -> int:
    shape = model.outputs[0].shape
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(shape) != 2 or not shape[-1]:
        raise RunError(
            "it does not answer with one row of classes: its output is "
            f"({', '.join(str(size or 'any') for size in shape)})"
        )
    if shape[-1] < 2:
        raise RunError(
            "it answers with a single number; Graft needs a probability for each of two or more classes"
        )
    return int(shape[-1])


def _parts(model, notes):
    """The same network with three outputs: its answer, features and feature map, as
    `engine.models.modeling.inference_model` has them.

    Features are what the last global pooling gives, and the feature map is what it pools. Where there is
    none in the open, the features are what the last Dense layer sees, and the map is one cell of them:
    it says nothing of places, and everything that reads it still works.

    Returns:
        (model, whether it has a head as Graft builds it).
    """
    import keras

    layers = keras.layers
    pooling = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
    last = next((x for x in reversed(model.layers) if isinstance(x, pooling)), None)
    if last is not None and not getattr(last, "keepdims", False):
        features, feature_map = last.output, last.input
    else:
        dense = next((x for x in reversed(model.layers) if isinstance(x, layers.Dense)), None)
        features = dense.input if dense is not None else model.outputs[0]
        if len(features.shape) != 2:
            features = model.outputs[0]
        cell = layers.Reshape((1, 1, features.shape[-1]), name=_unused("cell", model))
        feature_map = cell(features)
        notes.append(
            "It has no global pooling in the open, so it shows no places that matter in an image."
        )
    outputs = [
        # A file may call its own layers anything, and no name may be there twice.
        layers.Activation("linear", dtype="float32", name=_unused(name, model))(tensor)
        for name, tensor in (
            ("answer", model.outputs[0]), ("pooled", features), ("feature_map", feature_map)
        )
    ]  # fmt: skip
    return keras.Model(model.inputs[0], outputs, name="parts"), _has_head(model)


def _unused(name, model) -> str:
    """A name for a new layer that none of the model's own has."""
    own = {operation.name for operation in model.operations}
    while name in own:
        name += "_"
    return name


def _has_head(model) -> bool:
    """Whether features, [hidden], logits and probabilities follow each other as Graft builds them."""
    own = {layer.name: layer for layer in model.layers}
    if not {"features", "logits", "probabilities"} <= set(own):
        return False
    wide, head = own["features"].output.shape[-1], [own.get("hidden"), own["logits"]]
    for layer in filter(None, head):
        weights = layer.get_weights()
        if len(weights) != 2 or weights[0].ndim != 2 or weights[0].shape[0] != wide:
            return False
        wide = weights[0].shape[1]
    return wide == model.outputs[0].shape[-1]


def _try(parts, path, size) -> float:
    """Runs both on a few random images; returns the largest difference in probability."""
    import keras
    import numpy as np

    from engine.models.litert import Network

    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3)).astype(np.float32)
    pixels[0] = 127  # and a plain one
    # One at a time: a batch would need several times the memory.
    given = [parts(image[None], training=False)[0] for image in pixels]
    expected = np.concatenate([keras.ops.convert_to_numpy(answer) for answer in given])
    if (
        not np.isfinite(expected).all()
        or (expected < 0).any()
        or (abs(expected.sum(1) - 1) > SAME).any()
    ):
        raise RunError("its answers are not probabilities of classes: they do not add up to 1")
    try:
        network = Network(path, 1)
        got = np.stack([network(image)[0] for image in pixels])
    except (RuntimeError, ValueError, MemoryError):  # LiteRT often gives no reason
        raise RunError(
            "LiteRT cannot run it: it needs more memory than an import may take, or an operation that "
            "LiteRT does not have"
        ) from None
    difference = float(np.abs(got - expected).max())
    if not difference <= SAME:
        raise RunError(
            "it answers otherwise once it is converted for prediction, so it cannot be trusted here"
        )
    return difference


if __name__ == "__main__":
    # TensorFlow writes there as well; the result is a file.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main(*sys.argv[1:]))
