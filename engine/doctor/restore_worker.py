"""The process that makes a file of a run's network again (`engine.doctor.restore`).

Heavy, in its function.
"""

from __future__ import annotations

from pathlib import Path

from engine import home as homes
from engine.errors import RunError
from engine.host.background import Report, silent
from engine.runs import events, files, runs

SAME = 1e-3
"""Largest difference in any probability between Keras and LiteRT, as for an import."""


def restore(run: str, name: str, home: Path, report: Report = silent) -> str:
    """Makes a file again; returns its name.

    Args:
        run: path of the run's folder.
        name: `files.LITERT` or `files.HEAD`, made from final.keras; or `files.ARCHITECTURE`, made
            from the recipe and the log.
        home: Graft's home.
        report: see `Report`.

    Raises:
        GraftError: if it cannot be made.
    """
    report("Starting TensorFlow")
    found = runs.Run(run)
    if name == files.ARCHITECTURE:
        _architecture(found, home)
    else:
        _from_keras(found, name)
    return name


def _architecture(run: runs.Run, home: Path) -> None:
    from engine.models import modeling

    begun = next((e for e in events.effective(run.events()[0]) if e["event"] == "start"), None)
    if begun is None:
        raise RunError("its log does not say how it was trained, as for an imported model")
    recipe = run.recipe
    if not recipe.backbone.name.startswith("run:"):
        # The weights do not matter, so they need not be there.
        backbone = recipe.backbone.model_copy(update={"weights": "none"})
        recipe = recipe.model_copy(update={"backbone": backbone})
    bundle = modeling.build(recipe, begun["classes"], home)
    known = {"classes": begun["classes"], "precision": begun["precision"]}
    homes.write_json(run.path / files.ARCHITECTURE, modeling.architecture(bundle) | known)


def _from_keras(run: runs.Run, name: str) -> None:
    path = run.checked(files.KERAS)
    import keras

    from engine.models import convert
    from engine.predict import explanation

    with homes.reading(path):
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    if not {"features", "logits"} <= {layer.name for layer in model.layers}:
        raise RunError("the model was imported and is built differently; import it again")
    if name == files.HEAD:
        explanation.write_head(model, run.path)
        return
    features = model.get_layer("features")
    last = keras.layers.Activation("linear", dtype="float32", name="feature_map")(features.input)
    outputs = [model.outputs[0], features.output, last]
    parts = keras.Model(model.inputs[0], outputs, name="inference")
    convert.to_litert(parts, run.path / files.LITERT)
    _compare(parts, run.path / files.LITERT)


def _compare(parts, path: Path) -> None:
    """Deletes a converted file, and raises RunError, if its answers are not those of Keras."""
    import keras
    import numpy as np

    from engine.models.litert import Network

    size = parts.inputs[0].shape[1]
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    network = Network(path, 1)
    for image in pixels:
        expected = keras.ops.convert_to_numpy(parts(image[None], training=False)[0])[0]
        if not np.abs(network(image)[0] - expected).max() <= SAME:
            path.unlink()
            raise RunError("its answers change when final.keras is converted")
