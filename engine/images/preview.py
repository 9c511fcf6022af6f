"""The network's input as images for people, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.images import Images, augment, decode

if TYPE_CHECKING:
    from engine.recipe import Recipe


def network_view(
    dataset: Images,
    indices: Sequence[int] | np.ndarray,
    recipe: Recipe,
    augmented: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """The pixels that enter the network, before its own preprocessing.

    Args:
        dataset: an open Dataset.
        indices: which of its images.
        recipe: its image size, resizing and augmentation are used.
        augmented: whether to change the images as in an epoch of training.
        seed: another number shows another epoch.

    Returns:
        uint8 array (n, image_size, image_size, 3).
    """
    size = recipe.image_size
    views = np.zeros((len(indices), size, size, 3), np.uint8)
    drawn = augment.draw(recipe.augmentation, len(indices), [recipe.seed, seed])
    for row, index in enumerate(indices):
        view = decode.load(dataset.image_bytes(int(index)), size, recipe.resize)
        views[row] = augment.apply(view, drawn[row]) if augmented else view
    return views
