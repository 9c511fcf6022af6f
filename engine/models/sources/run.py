"""The backbone of a finished run, with its fine-tuned weights: backbone.name=run:ID.

Heavy: imports Keras.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import keras

from engine.errors import BackboneError
from engine.home import home as graft_home
from engine.home import read_json
from engine.host import manifest
from engine.models import backbones, graph
from engine.models.sources.source import Backbone, check_size, first_line
from engine.recipe import BackboneSpec

PREFIX = "run:"
"""Names of backbones from this source begin with it."""


def build(spec: BackboneSpec, size: int, home: Path | None = None) -> Backbone:
    """The backbone of a finished run.

    Args:
        spec: the recipe's `backbone`; its name is "run:ID".
        size: height and width of the images in pixels.
        home: Graft's home; None for the usual one.

    Raises:
        BackboneError: if there is no finished run with that ID, or its model does not load.
        RecipeError: for an image size below the backbone's minimum.
    """
    identity = spec.name.removeprefix(PREFIX)
    folder = graft_home(home) / "runs" / identity
    valid = re.fullmatch(r"[\w.-]+", identity)
    known = read_json(folder / "architecture.json") if valid else None
    file = folder / "final.keras"
    if known is None or not file.is_file():
        raise BackboneError(
            f"backbone {spec.name} needs a finished run with that ID in {folder.parent}; it has no "
            "final model there (the Runs page lists the finished ones)"
        )
    manifest.check(folder / "manifest.json", "architecture.json", file.name)
    check_size(spec.name, size, known["min_image_size"])
    try:
        loaded = keras.models.load_model(file, compile=False, safe_mode=True)
        nested = loaded.get_layer(known["backbone"]["layer"])
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BackboneError(
            f"the final model of {spec.name} does not load ({first_line(error)}); "
            "choose another run"
        ) from error
    return Backbone(
        graph.copy(nested, size),
        known["backbone"]["name"],
        known["backbone"]["alpha"],
        known["preprocessing"],
        backbones.blocks_from_json(known["blocks"]),
        known["min_image_size"],
    )
