"""The process that loads a foreign model: `python -m engine.imports.worker FOLDER`.

Heavy, but only after its limits are set. `engine.imports.keras_file` has written job.json, the
rebuilt config.json and the weights to FOLDER. The process adds final.keras, inference.tflite,
possibly head.npz, and result.json; or, for `engine.imports.weights`, the numbers of a backbone.
Whatever happens in it, the process that started it is safe.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import GraftError, RunError
from engine.host import limits, processes
from engine.host.parallel import cores
from engine.runs import files

if TYPE_CHECKING:
    import keras

MAX_DATASETS = 20_000
"""Maximum number of arrays in a file of weights; NASNetLarge has 1,500."""
MAX_ACTIVATION = 64_000_000
"""Maximum number of values in a layer's output for one image (256 MB): pages run the model too."""
SAME = 1e-3
"""Maximum difference in any probability between Keras and LiteRT; it is normally below 1e-5."""


def main(path: str) -> int:
    """Loads the model in a folder, or writes why it is refused; returns the exit code."""
    folder = Path(path)
    job = json.loads((folder / "job.json").read_bytes())
    processes.end_with(job["parent"])
    _limit(job)
    try:
        _check_weights(folder / job["weights"], job["weight_bytes"])
        act = _read_weights if "backbone" in job else _convert
        result: dict[str, Any] = act(folder, job)
    except GraftError as error:
        result = {"error": str(error)}
    except Exception as error:  # Keras, TensorFlow and its converter raise almost anything
        traceback.print_exc()
        if limits.speaks_of_memory(f"{error} {type(error).__name__}"):
            raise  # the parent reports it, as it does when this process is killed for its memory
        result = {"error": f"it does not load ({type(error).__name__}: {_first_line(error)})"}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return 0


def _limit(job) -> None:
    """Limits this process, before it reads anything of the file."""
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


# -- weights, checked before Keras reads them ------------------------------------------------------


def _check_weights(path: Path, most: int) -> None:
    """Accepts only plain arrays of finite numbers in a file of weights.

    HDF5 can also link to other files and to itself, and declare more numbers than a file contains.

    Args:
        path: of the .h5 file.
        most: maximum bytes of all arrays together.

    Raises:
        RunError: the reason, to follow "FILE is not imported: ".
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
            raise RunError("its weights contain a group that contains itself")
        seen.add(where)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RunError("its weights contain a link to another place or file")
            kind = group.get(name, getclass=True)
            if kind is h5py.Group:
                left.append(group[name])
                continue
            if kind is not h5py.Dataset:
                raise RunError("its weights contain something other than arrays")
            array, count = group[name], count + 1
            if array.external or array.is_virtual:
                raise RunError("its weights are in another file")
            if array.dtype.kind not in "fiu" or array.ndim > 8 or count > MAX_DATASETS:
                raise RunError("its weights contain something other than plain arrays of numbers")
            total += array.nbytes
            if total > most:
                raise RunError("its weights declare more numbers than the file contains")
            if array.dtype.kind == "f" and not np.isfinite(array[()]).all():
                raise RunError("its weights contain NaN or infinite numbers, so it cannot classify")
    file.close()


# -- the model -------------------------------------------------------------------------------------


def _convert(folder, job) -> dict:
    """Loads the model, writes a run's model files, and tries them.

    Returns:
        The fields of `engine.imports.keras_file.Result`.
    """
    import keras

    from engine.models import convert, modeling
    from engine.predict import explanation

    model = _model(folder, job)
    _check_size(model)
    classes, notes = _classes(model), []
    parts, pooled = _parts(model)
    if not pooled:
        notes.append("It has no visible global pooling, so it cannot show regions that matter.")
    graft_shaped = _has_head(model)
    size, mode = job["image_size"], job["preprocessing"]
    if mode != "included" or job["logits"]:
        graft_shaped = False
        pixels = keras.Input((size, size, 3), dtype="float32", name="pixels")
        probabilities, features, feature_map = parts(modeling.preprocess(pixels, mode))
        if job["logits"]:
            probabilities = keras.layers.Softmax(name="probabilities")(probabilities)
            notes.append("Its last layer returned logits, so a softmax was added after it.")
        model = keras.Model(pixels, probabilities, name="classifier")
        parts = keras.Model(pixels, [probabilities, features, feature_map], name="inference")
    model.save(folder / files.KERAS)
    if graft_shaped:
        explanation.write_head(model, folder)
    convert.to_litert(parts, folder / files.LITERT)
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
        "largest_difference": _try(parts, folder / files.LITERT, size),
        "notes": notes,
    }


def _model(folder, job) -> keras.Model:
    """The model of the rebuilt config.json, with its weights."""
    import keras

    config = json.loads((folder / "config.json").read_bytes())
    model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    _load(model, folder / job["weights"], "its layers")
    return model


def _load(model, path, what) -> None:
    """Fills a model from a file of weights. Raises RunError if they do not fit."""
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        raise RunError(f"its weights do not fit {what} ({_first_line(error)})") from None


def _read_weights(folder, job) -> dict:
    """Writes the weights of a backbone as plain numbers (`engine.imports.weights`).

    Returns:
        The fields of `engine.imports.weights.Result`.
    """
    import numpy as np

    from engine.models import backbones
    from engine.models.sources import keras_applications

    name, alpha, size = job["backbone"]
    entry = backbones.get(name, alpha)
    model = keras_applications.plain(entry, size)
    if (folder / "config.json").exists():
        model = _part_like(_model(folder, job), model, entry.title)
    else:
        _load(model, folder / job["weights"], f"{entry.title} without its top")
    values = model.get_weights()
    with open(folder / "numbers", "wb") as file:
        for value in values:
            value.astype(np.float32).tofile(file)
    return {"shapes": [list(value.shape) for value in values]}


def _part_like(loaded: keras.Model, model: keras.Model, title: str) -> keras.Model:
    """`loaded` itself or the model nested in it whose weights have the shapes of `model`'s."""
    import keras

    wanted = [tuple(w.shape) for w in model.weights]
    for part in (loaded, *(x for x in loaded.layers if isinstance(x, keras.Model))):
        if [tuple(w.shape) for w in part.weights] == wanted:
            return part
    raise RunError(f"no part of it has the same weights as {title} without its top")


def _check_size(model) -> None:
    """Refuses a model that would need too much memory for a single image on any host."""
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
                            f"the output of its layer {layer.name} has {shape} values per image; "
                            f"Graft accepts at most {MAX_ACTIVATION:,}"
                        )


def _classes(model) -> int:
    shape = model.outputs[0].shape
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(shape) != 2 or not shape[-1]:
        raise RunError(
            "its output is not one row of probabilities but has the shape "
            f"({', '.join(str(size or 'any') for size in shape)})"
        )
    if shape[-1] < 2:
        raise RunError(
            "it returns a single number; Graft needs a probability for each of two or more classes"
        )
    return int(shape[-1])


def _parts(model: keras.Model) -> tuple[keras.Model, bool]:
    """The network with three outputs, probabilities, features and feature map, like
    `engine.models.modeling.inference_model`.

    Features are the output of the last global pooling, and the feature map is its input. Without a
    visible pooling layer, the features are the input of the last Dense layer, and the feature map
    is a single cell of them: it shows no regions, but whatever reads it works.

    Returns:
        The network, and whether it has a visible global pooling.
    """
    import keras

    layers = keras.layers
    pooling = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
    last = next((x for x in reversed(model.layers) if isinstance(x, pooling)), None)
    if last is not None and not getattr(last, "keepdims", False):
        features, feature_map, pooled = last.output, last.input, True
    else:
        pooled = False
        dense = next((x for x in reversed(model.layers) if isinstance(x, layers.Dense)), None)
        features = dense.input if dense is not None else model.outputs[0]
        if len(features.shape) != 2:
            features = model.outputs[0]
        cell = layers.Reshape((1, 1, features.shape[-1]), name=_unused("cell", model))
        feature_map = cell(features)
    outputs = [
        # Names must be unique, and the file chose those of the other layers.
        layers.Activation("linear", dtype="float32", name=_unused(name, model))(tensor)
        for name, tensor in (
            ("answer", model.outputs[0]), ("pooled", features), ("feature_map", feature_map)
        )
    ]  # fmt: skip
    return keras.Model(model.inputs[0], outputs, name="parts"), pooled


def _unused(name, model) -> str:
    """A name for a new layer that no layer of the model has."""
    own = {operation.name for operation in model.operations}
    while name in own:
        name += "_"
    return name


def _has_head(model) -> bool:
    """Whether it ends in features, (hidden,) logits and probabilities like Graft's models."""
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


def _try(parts: keras.Model, path: Path, size: int) -> float:
    """Runs Keras and LiteRT on three images; returns the largest difference in probability."""
    import keras
    import numpy as np

    from engine.models.litert import Network

    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3)).astype(np.float32)
    pixels[0] = 127  # a plain image
    # One at a time: a batch would need several times the memory.
    given = [parts(image[None], training=False)[0] for image in pixels]
    expected = np.concatenate([keras.ops.convert_to_numpy(answer) for answer in given])
    if (
        not np.isfinite(expected).all()
        or (expected < 0).any()
        or (abs(expected.sum(1) - 1) > SAME).any()
    ):
        raise RunError("its answers are not probabilities: they do not add up to 1")
    try:
        network = Network(path, 1)
        got = np.stack([network(image)[0] for image in pixels])
    except (RuntimeError, ValueError, MemoryError):  # LiteRT often gives no reason
        raise RunError(
            "LiteRT cannot run it: it needs more memory than the limit, or an operation that "
            "LiteRT does not have"
        ) from None
    difference = float(np.abs(got - expected).max())
    if not difference <= SAME:
        raise RunError(
            "its answers change when it is converted for prediction, so Graft cannot use it"
        )
    return difference


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main(*sys.argv[1:]))
