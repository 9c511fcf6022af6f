"""The weights of a backbone from a foreign file, read in a separate process. Light.

A weights file passes the checks of an imported model: of a `.keras` file, the configuration is
rebuilt (`engine.imports.config`); of an `.h5` file, nothing but plain arrays of finite numbers is
accepted. The process (`engine.imports.worker`) writes them as numbers, one after another, and only
those are read here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from engine.errors import RunError
from engine.host.background import silent
from engine.imports import archive, keras_file
from engine.imports.imports import staging
from engine.models import backbones

_Size = Annotated[int, Field(ge=0, le=10**9)]


class Result(BaseModel):
    """The shapes of the arrays that the process wrote, in order."""

    shapes: Annotated[list[Annotated[list[_Size], Field(max_length=8)]], Field(max_length=20_000)]


def read(path: Path, entry: backbones.Backbone, size: int, home: Path) -> list[np.ndarray]:
    """The weights of a backbone without its top, in the order of Keras' `get_weights`.

    Args:
        path: a .keras, .h5 or .weights.h5 file; a model may have the backbone nested in it.
        entry: the backbone.
        size: height and width of the images in pixels.
        home: Graft's home, where the file is copied to while it is checked.

    Returns:
        float32 arrays.

    Raises:
        RunError: why it is refused, to follow "FILE is not used: ".
    """
    with staging(home) as work:
        if path.suffix == ".keras":
            keras_file.unpack(path, work, size, strict=False)
            weights = work / keras_file.WEIGHTS
        else:  # Keras reads its two formats by the ends of their names
            new = path.name.endswith(".weights.h5")
            weights = work / (keras_file.WEIGHTS if new else "weights.h5")
            with open(path, "rb") as file, open(weights, "wb") as kept:
                archive.copy_all(file, kept, "weights", archive.MAX_MODEL)
        job = keras_file.allowed(weights, home) | {"backbone": [entry.name, entry.alpha, size]}
        shapes = keras_file.in_separate_process(work, job, silent, Result).shapes
        counts = [math.prod(shape) for shape in shapes]
        if (work / "numbers").stat().st_size != 4 * sum(counts):
            raise RunError("the process that read it wrote other numbers than it says")
        numbers = np.fromfile(work / "numbers", np.float32)
    parts = np.split(numbers, np.cumsum(counts)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
