"""From a prepared dataset to batches: tf.data, with everything random decided up front.

Order and augmentation of an epoch follow from (seed, stage, epoch) alone, so an epoch can be
repeated, and a run can be gone on with from any step.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from engine import augment, images
from engine.parallel import cores


class Pixels:
    """The images of a dataset at a recipe's size, decoded once if they fit the memory budget.

    Args:
        dataset: an open Dataset.
        indices: int array, the images that will be asked for.
        size, resize: see `engine.images.to_pixels`.
        budget: MiB that decoded images may take.
        progress: called with (done, total) while decoding; may raise to stop.
    """

    def __init__(self, dataset, indices, size, resize, budget, progress=None):
        self._dataset, self._size, self._resize = dataset, size, resize
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        needed = len(indices) * size * size * 3
        self.cached = needed <= budget * 2**20
        self.bytes = needed if self.cached else 0
        self._rows = None
        if self.cached:
            rows = np.full(len(dataset), -1, np.int64)
            rows[indices] = np.arange(len(indices))
            self._rows = rows
            self._array = np.empty((len(indices), size, size, 3), np.uint8)
            # In slices, so that progress is told and a stop is heeded.
            for begin in range(0, len(indices), 256):
                part = indices[begin : begin + 256]
                for row, pixels in enumerate(self._pool.map(self._decode, part), begin):
                    self._array[row] = pixels
                if progress:
                    progress(min(begin + 256, len(indices)), len(indices))

    def _decode(self, index):
        return images.load(self._dataset.image_bytes(int(index)), self._size, self._resize)

    def get(self, indices) -> np.ndarray:
        """uint8 array (n, size, size, 3)."""
        if self.cached:
            return self._array[self._rows[indices]]
        return np.stack(list(self._pool.map(self._decode, indices)))


def training_batches(
    pixels, indices, labels, class_count, recipe, stage, first_epoch=0, weights=None
):
    """All epochs of a stage, one after another.

    Args:
        pixels: Pixels.
        indices: int array (n,), the training images.
        labels: int array over the whole dataset.
        stage: index of the stage in the recipe.
        first_epoch: epoch of the stage to begin with.
        weights: float array (classes,), or None.

    Returns:
        A tf.data.Dataset of (float32 pixels (b, size, size, 3) in 0 to 255, one-hot float32
        (b, classes)[, float32 sample weights (b,)]), `ceil(n / batch_size)` batches an epoch.
    """
    size, batch = recipe.image_size, recipe.batch_size
    epochs = recipe.stages[stage].epochs
    active = recipe.augmentation.active

    def plan(epoch):
        seed = [recipe.seed, stage, int(epoch)]
        order = augment.epoch_order(len(indices), recipe.shuffle_buffer, [*seed, 0])
        drawn = augment.draw(recipe.augmentation, len(indices), [*seed, 1])
        return np.asarray(indices, np.int64)[order], drawn

    def epoch_batches(epoch):
        order, drawn = tf.numpy_function(plan, [epoch], (tf.int64, tf.float32), stateful=False)
        order.set_shape([len(indices)])
        drawn.set_shape([len(indices), augment.PARAMETERS])
        return tf.data.Dataset.from_tensor_slices((order, drawn)).batch(batch)

    def load(chosen, drawn):
        values, answers = _fetch(pixels, labels, class_count, size, chosen)
        if active:
            values = _augment(values, drawn, size)
        if weights is None:
            return values, answers
        return values, answers, tf.reduce_sum(answers * tf.constant(weights, tf.float32), axis=1)

    order = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches)
    return order.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(4)


def evaluation_batches(pixels, indices, labels, class_count, recipe):
    """(pixels, one-hot labels) in a fixed order, unchanged by augmentation."""
    order = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int64)).batch(
        recipe.batch_size
    )
    return order.map(
        lambda chosen: _fetch(pixels, labels, class_count, recipe.image_size, chosen),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    ).prefetch(2)


def _fetch(pixels, labels, class_count, size, chosen):
    values = tf.numpy_function(pixels.get, [chosen], tf.uint8, stateful=False)
    values.set_shape([None, size, size, 3])
    answers = tf.one_hot(tf.gather(tf.constant(labels, tf.int64), chosen), class_count)
    return tf.cast(values, tf.float32), answers


def _augment(values, drawn, size):
    """`engine.augment.apply` for a batch; see there. (Rounded to whole levels likewise.)"""
    centre = (size - 1) / 2
    a, b, c, d, e, f = tf.unstack(drawn[:, :6], axis=1)
    zero = tf.zeros_like(a)
    transforms = tf.stack(
        [a, b, c * size + centre * (1 - a - b), d, e, f * size + centre * (1 - d - e), zero, zero],
        axis=1,
    )
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=values,
        transforms=transforms,
        output_shape=[size, size],
        fill_value=float(augment.FILL),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    mean = tf.reduce_mean(moved, axis=(1, 2, 3), keepdims=True)
    contrast, brightness = drawn[:, 6, None, None, None], drawn[:, 7, None, None, None]
    return tf.clip_by_value(tf.round((moved - mean) * contrast + mean + 255 * brightness), 0, 255)
