"""What the network will see, for people to look at, without TensorFlow."""

import numpy as np

from engine.images import augment, decode


def network_view(dataset, indices, recipe, augmented=False, seed=0) -> np.ndarray:
    """The pixels that enter the network, before its own preprocessing.

    Args:
        dataset: an open Dataset.
        indices: which of its images.
        recipe: decides size, resizing and augmentation.
        augmented: whether to change the images as an epoch of training would.
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
