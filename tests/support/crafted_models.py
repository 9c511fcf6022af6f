"""A small Keras model and a run folder, written by hand: harmless, and the base of others."""

import io
import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("red", "green", "blue")
SIDE = 32


def layer(kind, name, after=None, module="keras.layers", shape=None, **fields) -> dict:
    """One layer of a Functional model, as Keras 3.15 writes it."""
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 3], "dtype": "float32", "keras_history": [after, 0, 0]},
    }
    found = {
        "module": module,
        "class_name": kind,
        "config": {"name": name, **fields},
        "registered_name": None,
        "name": name,
        "inbound_nodes": [{"args": [tensor], "kwargs": {}}] if after else [],
    }
    return found | ({"build_config": {"input_shape": shape}} if shape else {})


def config(*more, units=3, activation="softmax", side=SIDE) -> dict:
    """The configuration of a model that tells colours apart: mean colour, then one Dense layer.

    Args:
        more: layers between input and mean, each named as it is called after the one before.
    """
    layers = [layer("InputLayer", "pixels", batch_shape=[None, side, side, 3]), *more]
    layers.append(layer("GlobalAveragePooling2D", "mean", layers[-1]["name"]))
    layers.append(
        layer("Dense", "answer", "mean", shape=[None, 3], units=units, activation=activation)
    )
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "colours",
            "layers": layers,
            "input_layers": [["pixels", 0, 0]],
            "output_layers": [["answer", 0, 0]],
        },
        "registered_name": "Functional",
    }


def weights(kernel=None, bias=None, change=None) -> bytes:
    """A file of weights for `config`.

    Args:
        kernel, bias: arrays (3, units) and (units,).
        change: called with the open HDF5 file at last.
    """
    import h5py

    found = io.BytesIO()
    with h5py.File(found, "w") as file:
        for name in ("layers/dense/vars", "vars", "layers/input_layer/vars",
                     "layers/global_average_pooling2d/vars"):  # fmt: skip
            file.create_group(name)
        file["layers/dense/vars/0"] = np.eye(3, dtype="f4") / 25 if kernel is None else kernel
        file["layers/dense/vars/1"] = np.zeros(3, "f4") if bias is None else bias
        if change:
            change(file)
    return found.getvalue()


def keras_file(path, described=None, numbers=None, *more, compress=zipfile.ZIP_STORED) -> Path:
    """A .keras file.

    Args:
        described: bytes or a dict for config.json; `config()` by default.
        numbers: bytes of the weights; `weights()` by default.
        more: further members, (name or ZipInfo, bytes).
    """
    described = config() if described is None else described
    if isinstance(described, dict):
        described = json.dumps(described).encode()
    members = [
        ("metadata.json", b'{"keras_version": "3.15.1"}'),
        ("config.json", described),
        ("model.weights.h5", weights() if numbers is None else numbers),
        *more,
    ]
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compress) as file:
        warnings.simplefilter("ignore")  # a name may be there already
        for name, data in members:
            if data is not None:
                file.writestr(name, data, compress)
    return Path(path)


def good(path) -> Path:
    """A model that is imported."""
    return keras_file(path)


RECIPE = """name: colours
dataset: {source: folder, path: colours}
image_size: 32
stages: [{name: frozen, epochs: 1}]
"""


def good_run(folder) -> Path:
    """A run folder with this model, which is imported."""
    folder = Path(folder)
    (folder / "examples").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    keras_file(folder / "final.keras")
    (folder / "inference.tflite").write_bytes(b"not looked at")
    files = {
        "status.json": {"status": "finished", "started": 1.0, "ended": 2.0},
        "environment.json": {"python": "3.11"},
        "architecture.json": {
            "classes": list(CLASSES),
            "backbone": {"name": "colours", "alpha": None, "origin": "colours", "layer": None},
            "preprocessing": "included",
            "image_size": SIDE,
            "min_image_size": SIDE,
            "blocks": [],
        },
        "examples/examples.json": [{"file": "000.png", "label": "red", "name": "a red one"}],
    }
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data))
    Image.new("RGB", (40, 30), "red").save(folder / "examples" / "000.png")
    return folder
