"""Harmful or broken models and run folders, for the tests and to try by hand.

    python -m tests.support.hostile_models FOLDER

writes one of each of `REFUSED` into FOLDER. If code in them ever ran, it would create the file
`CANARY` in the temporary folder. Writing them needs no TensorFlow.
"""

import argparse
import base64
import json
import marshal
import os
import pickle
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from tests.support.crafted_models import (
    RECIPE,
    SIDE,
    config,
    good,
    good_run,
    keras_file,
    layer,
    weights,
)

CANARY = Path(tempfile.gettempdir()) / "graft-hostile-model-ran"
ZEROS = 120_000_000
"""Bytes that a bomb unpacks to."""


# -- code ------------------------------------------------------------------------------------------


def lambda_with_code(path):
    """A Lambda that carries its own code."""
    code = compile(f"lambda x: open({str(CANARY)!r}, 'w').close() or x", "model", "eval")
    raw = base64.b64encode(marshal.dumps(code.co_consts[0])).decode()
    function = {
        "class_name": "__lambda__",
        "config": {"code": raw, "defaults": None, "closure": None},
    }
    keras_file(path, config(layer("Lambda", "code", "pixels", function=function)))


def lambda_by_name(path):
    """A Lambda with a public function of Keras that safe mode calls: set_floatx("float16")."""
    function = {"module": "keras.config", "class_name": "function", "config": "set_floatx",
                "registered_name": "set_floatx"}  # fmt: skip
    made = layer("Lambda", "half", "pixels", function=function)
    made["inbound_nodes"] = [{"args": [], "kwargs": {"inputs": "float16"}}]
    keras_file(path, config(made))


def activation_by_name(path):
    """The same, said to be an activation."""
    function = {"module": "keras.config", "class_name": "function", "config": "set_floatx",
                "registered_name": "set_floatx"}  # fmt: skip
    keras_file(path, config(layer("Activation", "half", "pixels", activation=function)))


def saved_model_layer(path):
    """A layer that loads a SavedModel from elsewhere."""
    keras_file(path, config(layer("TFSMLayer", "graph", "pixels", filepath="/tmp/evil")))


def function_of_the_system(path):
    """A layer whose class is os.system."""
    made = layer("system", "shell", "pixels", module="os", command=f"touch {CANARY}")
    keras_file(path, config(made))


def module_of_somebody(path):
    """A layer with a good name, from a module that would be imported."""
    keras_file(path, config(layer("ReLU", "relu", "pixels", module="antigravity")))


def custom_class(path):
    """A layer registered by whoever made it."""
    made = layer("ReLU", "mine", "pixels") | {"registered_name": "evil>ReLU"}
    keras_file(path, config(made))


def pickled(path):
    """A pickle that calls a command, renamed."""

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {CANARY}",)

    Path(path).write_bytes(pickle.dumps(Evil()))


# -- sizes -----------------------------------------------------------------------------------------


def billion_units(path):
    """A layer of 10^9 units."""
    keras_file(path, config(units=10**9))


def weights_that_are_not_there(path):
    """A layer whose weights would take 2 GB, in a file of a few kilobytes.

    Each number alone is possible.
    """
    wide = layer("Conv2D", "wide", "pixels", shape=[None, SIDE, SIDE, 65_000], filters=800,
                  kernel_size=[3, 3])  # fmt: skip
    keras_file(path, config(wide))


def huge_input(path):
    """Images of a million pixels' side."""
    keras_file(path, config(side=10**6))


def deep_text(path):
    """A megabyte of brackets."""
    keras_file(path, b"[" * 500_000 + b"]" * 500_000)


def bomb(path):
    """Weights that are zeros, packed."""
    keras_file(path, None, bytes(ZEROS), compress=zipfile.ZIP_DEFLATED)


# -- files that are not what they seem -------------------------------------------------------------


def outside(path):
    """A member that leads out of the folder."""
    keras_file(path, None, None, ("../../evil.py", b"evil"))


def link(path):
    """Weights that are a link."""
    info = zipfile.ZipInfo("model.weights.h5")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    described = json.dumps(config()).encode()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", described)
        file.writestr(info, b"/etc/passwd")


def twice(path):
    """Two descriptions: one to look at, and one to load."""
    evil = config(layer("Lambda", "code", "pixels"))
    keras_file(path, None, None, ("config.json", json.dumps(evil).encode()))


def not_json(path):
    """A description that is none."""
    keras_file(path, b"import os")


def truncated(path):
    """An incomplete download."""
    data = good(path).read_bytes()
    Path(path).write_bytes(data[: len(data) * 2 // 3])


def hdf5(path):
    """An old model file, renamed."""
    Path(path).write_bytes(weights())


def no_weights(path):
    """A description alone."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config()))


def link_in_weights(path):
    """Weights that lie in another file of the host."""

    def change(file):
        import h5py

        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "/")

    keras_file(path, None, weights(change=change))


def not_finite(path):
    """Weights that are no numbers."""
    keras_file(path, None, weights(bias=np.full(3, np.nan, "f4")))


def other_shapes(path):
    """Weights of another model."""
    keras_file(path, None, weights(kernel=np.zeros((7, 3), "f4")))


def no_probabilities(path):
    """A model whose answers are anything."""
    keras_file(path, config(activation="relu"))


# -- run folders -----------------------------------------------------------------------------------


def _run(path) -> Path:
    """A run folder at the path's place, without its ending."""
    folder = Path(path).with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    return good_run(folder)


def recipe_with_code(path):
    """A recipe whose YAML would make a Python object."""
    folder = _run(path)
    tag = f"name: !!python/object/apply:os.system ['touch {CANARY}']\n"
    (folder / "recipe.yaml").write_text(RECIPE.replace("name: colours\n", tag))
    return folder


def recipe_bomb(path):
    """A recipe of 600 bytes that stands for gigabytes."""
    folder = _run(path)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 10):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    (folder / "recipe.yaml").write_text("\n".join([*lines, RECIPE]))
    return folder


def run_with_link(path):
    """A run whose figures are a link to a file of the host."""
    folder = _run(path)
    (folder / "evaluation.json").symlink_to("/etc/passwd")
    return folder


def example_outside(path):
    """A run that names an example image elsewhere."""
    folder = _run(path)
    rows = [{"file": "../../../etc/passwd", "label": "red", "name": "x"}]
    (folder / "examples" / "examples.json").write_text(json.dumps(rows))
    return folder


def figures_of_nothing(path):
    """A run whose figures would break the pages that show them."""
    folder = _run(path)
    (folder / "evaluation.json").write_text(json.dumps({"test": {"n": "many"}, "validation": []}))
    return folder


def zip_of_links(path):
    """A run, packed, with a member that leads out of the folder."""
    folder = _run(path)
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as file:
        for each in folder.rglob("*"):
            file.write(each, f"run/{each.relative_to(folder)}")
        file.writestr("run/../../evil.py", b"evil")
    shutil.rmtree(folder)
    return target


REFUSED = (
    lambda_with_code, lambda_by_name, activation_by_name, saved_model_layer, function_of_the_system,
    module_of_somebody, custom_class, pickled, billion_units, weights_that_are_not_there,
    huge_input, deep_text, bomb, outside, link, twice, not_json, truncated, hdf5, no_weights,
    link_in_weights, not_finite, other_shapes, no_probabilities, recipe_with_code, recipe_bomb,
    run_with_link, example_outside, figures_of_nothing, zip_of_links,
)  # fmt: skip
"""Each of them deserves one sentence, and nothing else."""
LOADED = (link_in_weights, not_finite, other_shapes, no_probabilities)
"""Those that are found out only in the throwaway process."""


def write(make, folder) -> Path:
    """Writes one; returns where it lies."""
    path = Path(folder) / f"{make.__name__}.keras"
    return make(path) or path


def write_all(folder) -> list[Path]:
    """Writes every one of them; returns the paths."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return [write(make, folder) for make in REFUSED]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m tests.support.hostile_models"
    )
    parser.add_argument("folder", help="where to write them")
    for written in write_all(parser.parse_args().folder):
        print(written)
