"""Augmentation: parameters drawn in NumPy, applied alike by the preview and by training.

Everything random about one image in one epoch is eight numbers, drawn from (seed, stage, epoch)
alone. So an epoch can be repeated exactly, a preview shows precisely what training sees, and no
random layer hides in the exported model.
"""

import math

import numpy as np
from PIL import Image

PARAMETERS = 8
"""Six affine coefficients, contrast factor, brightness shift."""


def draw(augmentation, count: int, seed) -> np.ndarray:
    """Draws the changes for `count` images.

    Args:
        augmentation: an AugmentationSpec.
        seed: int or sequence of ints.

    Returns:
        float32 array (count, 8): a, b, c, d, e, f, contrast, brightness. A pixel (x, y) of the
        output, counted from the image's centre in units of its side, is taken from
        (a x + b y + c, d x + e y + f). Then value = (value - mean) * contrast + mean + 255 *
        brightness, where mean is the image's own mean.
    """
    random = np.random.default_rng(seed)
    # Each kind draws from its own columns, so switching one on leaves the others as they were.
    uniform = random.uniform(-1, 1, (8, count))
    angle = np.radians(augmentation.rotation) * uniform[0]
    # Even in ratio: shrinking to 1 / (1 + z) is as likely as enlarging to 1 + z.
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
    """Affine coefficients in pixel indices (0 to size - 1), as TensorFlow's projective transform
    wants them.

    Args:
        parameters: float array (n, 8) from `draw`.

    Returns:
        float32 array (n, 6).
    """
    a, b, c, d, e, f = parameters[:, :6].T
    centre = (size - 1) / 2
    columns = [a, b, c * size + centre * (1 - a - b), d, e, f * size + centre * (1 - d - e)]
    return np.stack(columns, axis=1).astype(np.float32)


def apply(pixels: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Applies drawn changes to one image with Pillow; what lies outside is mid-grey.

    Args:
        pixels: uint8 array (size, size, 3).
        parameters: float array (8,), one row of `draw`.

    Returns:
        uint8 array (size, size, 3), within one level of what training sees (except at the border).
    """
    size = pixels.shape[0]
    a, b, c, d, e, f = pixel_affine(parameters[None], size)[0]
    # Pillow counts from pixel corners, so an index is its position minus one half.
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


FILL = 127
"""Grey value outside a moved image: the middle of every preprocessing's range."""


def epoch_order(count: int, buffer: int, seed) -> np.ndarray:
    """The order in which an epoch visits the training images.

    Args:
        count: number of training images.
        buffer: 0 for an even shuffle of all; otherwise the window of `tf.data`'s shuffle: each
            next image is drawn from the `buffer` that come next in line.
        seed: int or sequence of ints.

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
