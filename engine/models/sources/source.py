"""What every source of backbones gives, and what sources share. Heavy: imports Keras."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from engine.errors import RecipeError
from engine.models.backbones import Block


@dataclass(frozen=True)
class Backbone:
    """A backbone with its weights.

    Attributes:
        network: the Keras model, input (size, size, 3), output the last feature map; its layers
            have the names in `blocks`.
        name, alpha: name and width in the catalogue; alpha is None where there is one width.
        preprocessing: "tf", "torch", "caffe" or "included" (`engine.models.backbones.Backbone`).
        blocks: from input to output.
        min_image_size: the smallest image it takes, in pixels.
    """

    network: keras.Model
    name: str
    alpha: float | None
    preprocessing: str
    blocks: tuple[Block, ...]
    min_image_size: int


def check_size(name: str, size: int, smallest: int) -> None:
    """Raises RecipeError, with the field `image_size`, for images below a backbone's minimum."""
    if size < smallest:
        raise RecipeError(
            {"image_size": f"must be at least {smallest} for {name}; {size} was given"}
        )


def first_line(error: BaseException) -> str:
    """The first line of an error, short enough for one sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 160 else text[:157] + "…"
