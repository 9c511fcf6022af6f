"""Augmentation: parameters drawn in NumPy, used in the same way by the preview and by training.

The random changes of one image in one epoch are eight numbers, drawn from (seed, stage, epoch)
alone. So an epoch can be repeated exactly, a preview shows precisely what training sees, and the
exported model has no random layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from engine.recipe import AugmentationSpec

PARAMETERS = 8
"""Six affine coefficients, contrast factor, brightness shift."""
FILL = 127
"""Grey value outside a moved image: the middle of every preprocessing's range."""


def draw(augmentation: AugmentationSpec, count: int, seed: int | Sequence[int]) -> np.ndarray:
    """Draws the changes for `count` images.

    Args:
        augmentation: which changes, and how large at most.
        count: number of images.
        seed: a number, or several; equal ones draw equal changes.

    Returns:
        float32 array (count, 8): a, b, c, d, e, f, contrast, brightness. A pixel (x, y) of the
        output, relative to the image's centre and in units of its side, comes from
        (a x + b y + c, d x + e y + f). Then value = (value - mean) * contrast + mean + 255 *
        brightness, where mean is the image's own mean.
    """
    random = np.random.default_rng(seed)
    # Each kind of change has its own row, so switching one on does not change the others.
    uniform = random.uniform(-1, 1, (8, count))
    angle = np.radians(augmentation.rotation) * uniform[0]
    # Symmetric as a ratio: shrinking to 1 / (1 + z) is as likely as enlarging to 1 + z.
    scale = (1 + augmentation.zoom) ** uniform[1]
    left_right = np.where((augmentation.flip != "none") & (uniform[4] < 0), -1.0, 1.0)
    up_down = np.where((augmentation.flip == "both") & (uniform[5] < 0), -1.0, 1.0)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    columns = [
        cos * left_right,
        -sin * up_down,
        augmentation.translation * uniform[2],
        sin * left_right,
        cos * up_down,
        augmentation.translation * uniform[3],
        1 + augmentation.contrast * uniform[6],
        augmentation.brightness * uniform[7],
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def pixel_affine(parameters: np.ndarray, size: int) -> np.ndarray:
    """Affine coefficients in pixel indices (0 to size - 1), for TensorFlow's projective transform.

    Args:
        parameters: float array (n, 8) from `draw`.
        size: side of the square images, pixels.

    Returns:
        float32 array (n, 6).
    """
    a, b, c, d, e, f = parameters[:, :6].T
    centre = (size - 1) / 2
    columns = [a, b, c * size + centre * (1 - a - b), d, e, f * size + centre * (1 - d - e)]
    return np.stack(columns, axis=1).astype(np.float32)


def apply(pixels: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Applies drawn changes to one image with Pillow; the area outside the image is mid-grey.

    Args:
        pixels: uint8 array (size, size, 3).
        parameters: float array (8,), one row of `draw`.

    Returns:
        uint8 array (size, size, 3), within one level of what training sees, except at the border.
    """
    size = pixels.shape[0]
    a, b, c, d, e, f = pixel_affine(parameters[None], size)[0]
    # Pillow counts from the corners of pixels, so an index is its position minus one half.
    shift = (c + 0.5 - 0.5 * (a + b), f + 0.5 - 0.5 * (d + e))
    moved = Image.fromarray(pixels).transform(
        (size, size),
        Image.Transform.AFFINE,
        (a, b, shift[0], d, e, shift[1]),
        Image.Resampling.BILINEAR,
        fillcolor=(FILL, FILL, FILL),
    )
    values = np.asarray(moved, np.float32)
    contrast, brightness = parameters[6:]
    if contrast != 1 or brightness != 0:
        mean = values.mean()
        values = (values - mean) * contrast + mean + 255 * brightness
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def epoch_order(count: int, buffer: int, seed: int | Sequence[int]) -> np.ndarray:
    """The order in which an epoch visits the training images.

    Args:
        count: number of training images.
        buffer: 0 shuffles all images uniformly; otherwise the buffer size of `tf.data`'s shuffle:
            each image is drawn from the next `buffer` images.
        seed: a number, or several; equal ones give the same order.

    Returns:
        int64 array (count,), a permutation of 0 to count - 1.
    """
    random = np.random.default_rng(seed)
    if buffer <= 0 or buffer >= count:
        return random.permutation(count)
    window, order = list(range(buffer)), np.empty(count, np.int64)
    places = random.random(count)
    for i in range(count):
        place = math.floor(places[i] * len(window))
        order[i] = window[place]
        if buffer + i < count:
            window[place] = buffer + i
        else:
            window[place] = window[-1]
            window.pop()
    return order
