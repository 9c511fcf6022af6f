"""From a prepared dataset to batches: tf.data, with everything random decided up front.

Order and augmentation of an epoch follow from (seed, stage, epoch) alone, so an epoch can be
repeated, and a run can be gone on with from any step.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from engine.data.unreadable import READING
from engine.features import store
from engine.host.parallel import cores
from engine.images import augment, decode


class Pixels:
    """The images of a dataset at a recipe's size, each decoded once if they fit the memory budget.

    Nothing is decoded before it is asked for: the first epoch, or the feature pass, overlaps with it.

    Args:
        dataset: an open Dataset.
        indices: int array, the images that will be asked for.
        size, resize: see `engine.images.decode.to_pixels`.
        budget: MiB that decoded images may take.
        unreadable: an `engine.data.unreadable.Unreadable`, which decides what becomes of an image that
            can no longer be read; None where that is an error.

    Attributes:
        cached: whether all of them fit.
        bytes: what they take when all are decoded; 0 if they do not fit.
        unreadable: as given.
    """

    def __init__(self, dataset, indices, size, resize, budget, unreadable=None):
        self._dataset, self._size, self._resize = dataset, size, resize
        self.unreadable = unreadable
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
        needed = len(indices) * size * size * 3
        self.cached = needed <= budget * 2**20
        self.bytes = needed if self.cached else 0
        if self.cached:
            self._rows = np.full(len(dataset), -1, np.int64)
            self._rows[indices] = np.arange(len(indices))
            # The system gives the memory when a row is first written.
            self._array = np.empty((len(indices), size, size, 3), np.uint8)
            self._decoded = np.zeros(len(indices), bool)

    def one(self, index: int, keep: bool = True) -> np.ndarray:
        """uint8 array (size, size, 3): the image, or the one that takes its place.

        Args:
            index: of the image in the dataset.
            keep: whether it is worth keeping, if there is room: False for an image that will not be
                asked for again.

        Raises:
            DatasetError, ImageError or OSError: if it cannot be read, and there is no `unreadable`.
            Paused: if nothing can take its place, or too much has been lost.
        """
        found = self.own(index, keep)
        if found is not None:
            return found
        for peer in self.unreadable.peers(int(index)):
            found = self._try(peer, keep)
            if found is not None:
                return found
        self.unreadable.none_left(int(index))

    def own(self, index: int, keep: bool = True) -> np.ndarray | None:
        """Like `one`, but None where another image would take the place."""
        if self.unreadable is None:
            return self._kept(index, keep)
        found = (self._try(copy, keep) for copy in self.unreadable.copies(int(index)))
        return next((pixels for pixels in found if pixels is not None), None)

    def _try(self, index, keep):
        """The pixels of one file; None if it cannot be read."""
        if index not in self.unreadable:
            try:
                return self._kept(index, keep)
            except READING as error:
                self.unreadable.note(index, error)
        return None

    def _kept(self, index, keep):
        if not self.cached:
            return self._decode(index)
        row = self._rows[index]
        if self._decoded[row]:
            return self._array[row]
        pixels = self._decode(index)
        if keep:
            self._array[row] = pixels
            self._decoded[row] = True  # after the pixels: another thread may look at any time
        return pixels

    def get(self, indices) -> np.ndarray:
        """uint8 array (n, size, size, 3); see `one`."""
        if self.cached:
            rows = self._rows[indices]
            for _ in self._pool.map(self.one, indices[~self._decoded[rows]].tolist()):
                pass
            if self._decoded[rows].all():
                return self._array[rows]
        # Also where an image's own row stays empty, since it can no longer be read.
        return np.stack(list(self._pool.map(self.one, indices)))

    def _decode(self, index):
        return decode.load(self._dataset.image_bytes(int(index)), self._size, self._resize)


def training_batches(
    pixels,
    indices,
    labels,
    class_count,
    recipe,
    stage,
    first_epoch=0,
    weights=None,
    cached=None,
    skip=0,
):
    """All epochs of a stage, one after another.

    Args:
        pixels: Pixels.
        indices: int array (n,), the training images.
        labels: int array over the whole dataset.
        stage: index of the stage in the recipe.
        first_epoch: epoch of the stage to begin with.
        weights: float array (classes,), or None.
        cached: an `engine.features.compute.Cached`, whose features take the pixels' place; or None.
        skip: batches of the first epoch to leave out, since they are done.

    Returns:
        A tf.data.Dataset of (inputs, one-hot float32 (b, classes)[, float32 sample weights (b,)]),
        `ceil(n / batch_size)` batches an epoch, in the same order whether cached or not. Inputs are
        float32 pixels (b, size, size, 3) in 0 to 255, or the features of the augmented pixels.
    """
    size, batch = recipe.image_size, recipe.batch_size
    epochs = recipe.stages[stage].epochs
    active = recipe.augmentation.active

    def plan(epoch):
        seed = [recipe.seed, stage, int(epoch)]
        order = augment.epoch_order(len(indices), recipe.shuffle_buffer, [*seed, 0])
        drawn = augment.draw(recipe.augmentation, len(indices), [*seed, 1])
        view = np.zeros(len(indices), np.int64)
        if cached:
            view = store.draw_views(recipe, drawn, [*seed, 2])
        return np.asarray(indices, np.int64)[order], drawn, view

    def epoch_batches(epoch):
        kinds = (tf.int64, tf.float32, tf.int64)
        order, drawn, view = tf.numpy_function(plan, [epoch], kinds, stateful=False)
        order.set_shape([len(indices)])
        drawn.set_shape([len(indices), augment.PARAMETERS])
        view.set_shape([len(indices)])
        return tf.data.Dataset.from_tensor_slices((order, drawn, view)).batch(batch)

    def load(chosen, drawn, view):
        if cached:
            values = cached.fetch(chosen, view)
        else:
            values = _pixels(pixels, size, chosen)
            if active:
                values = _augment(values, drawn, size)
        answers = _one_hot(labels, class_count, chosen)
        if weights is None:
            return values, answers
        return values, answers, tf.reduce_sum(answers * tf.constant(weights, tf.float32), axis=1)

    order = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches)
    return _in_background(order.skip(skip), load)


def evaluation_batches(pixels, indices, labels, class_count, recipe, cached=None):
    """(inputs, one-hot labels) in a fixed order, unchanged by augmentation; see
    `training_batches`."""

    def load(chosen):
        if cached:
            values = cached.fetch(chosen)
        else:
            values = _pixels(pixels, recipe.image_size, chosen)
        return values, _one_hot(labels, class_count, chosen)

    order = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int64)).batch(
        recipe.batch_size
    )
    return _in_background(order, load)


def _in_background(order, load):
    """Makes batches ahead, in order, on as many threads as there are cores.

    The number of threads is fixed and tf.data's autotuning off: its thread sleeps between rounds, and
    the end of a fit waited for it, by 10 to 30 s after the sample's last epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = order.map(load, num_parallel_calls=cores(), deterministic=True).prefetch(4)
    return batches.with_options(options)


def _pixels(pixels, size, chosen):
    values = tf.numpy_function(pixels.get, [chosen], tf.uint8, stateful=False)
    values.set_shape([None, size, size, 3])
    return tf.cast(values, tf.float32)


def _one_hot(labels, class_count, chosen):
    return tf.one_hot(tf.gather(tf.constant(labels, tf.int64), chosen), class_count)


def _augment(values, drawn, size):
    """`engine.images.augment.apply` for a batch; see there. (Rounded to whole levels likewise.)"""
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
