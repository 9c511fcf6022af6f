"""From a prepared dataset to batches: tf.data, with everything random decided up front.

Order and augmentation of an epoch depend on (seed, stage, epoch) alone, so an epoch can be
repeated, and a run can resume at any step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from engine.features import store
from engine.features.compute import Cached
from engine.features.pixels import Pixels
from engine.host.parallel import cores
from engine.images import augment
from engine.recipe import Recipe

__all__ = ["Examples", "PixelSource", "Pixels", "evaluation_batches", "training_batches"]


class PixelSource(Protocol):
    """Anything that gives pixels, such as `Pixels`."""

    def get(self, indices: np.ndarray) -> np.ndarray:
        """uint8 array (n, size, size, 3)."""


@dataclass(frozen=True)
class Examples:
    """Images with their answers, to train or to measure on.

    Attributes:
        pixels: gives the images.
        indices: int array (n,), the images of this part.
        labels: int array over the whole dataset.
        classes: number of classes.
        weights: of the classes, float array (classes,), or None; for training only.
        cached: features in place of pixels, or None.
    """

    pixels: PixelSource
    indices: np.ndarray
    labels: np.ndarray
    classes: int
    weights: np.ndarray | None = None
    cached: Cached | None = None

    def answers(self, chosen: tf.Tensor) -> tf.Tensor:
        """One-hot answers of images, int64 (b,): float32 (b, classes)."""
        return tf.one_hot(tf.gather(tf.constant(self.labels, tf.int64), chosen), self.classes)


def training_batches(
    examples: Examples, recipe: Recipe, stage: int, first_epoch: int = 0, skip: int = 0
) -> tf.data.Dataset:
    """All epochs of a stage, one after another.

    Args:
        examples: the training images.
        recipe: batch_size, image_size, augmentation, seed, shuffle_buffer and stages are read.
        stage: index of the stage in the recipe.
        first_epoch: epoch of the stage to start with.
        skip: batches of the first epoch to leave out because they are done.

    Returns:
        A tf.data.Dataset of (inputs, one-hot float32 (b, classes)[, float32 sample weights (b,)]),
        `ceil(n / batch_size)` batches an epoch, in the same order whether cached or not. Inputs are
        float32 pixels (b, size, size, 3) in 0 to 255, or the features of the augmented pixels.
    """
    indices, cached, weights = examples.indices, examples.cached, examples.weights
    size, batch = recipe.image_size, recipe.batch_size
    epochs = recipe.stages[stage].epochs
    active = recipe.augmentation.active

    def plan(epoch):
        return _plan(recipe, [recipe.seed, stage, int(epoch)], indices, bool(cached))

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
            values = _pixels(examples.pixels, size, chosen)
            if active:
                values = _augment(values, drawn, size)
        answers = examples.answers(chosen)
        if weights is None:
            return values, answers
        return values, answers, tf.reduce_sum(answers * tf.constant(weights, tf.float32), axis=1)

    order = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches)
    return _in_background(order.skip(skip), load)


def _plan(
    recipe: Recipe, seed: list[int], indices: np.ndarray, cached: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An epoch: images in order (n,), their augmentation (n, 8) and their views (n,)."""
    order = augment.epoch_order(len(indices), recipe.shuffle_buffer, [*seed, 0])
    drawn = augment.draw(recipe.augmentation, len(indices), [*seed, 1])
    view = np.zeros(len(indices), np.int64)
    if cached:
        view = store.draw_views(recipe, drawn, [*seed, 2])
    return np.asarray(indices, np.int64)[order], drawn, view


def evaluation_batches(examples: Examples, recipe: Recipe) -> tf.data.Dataset:
    """(inputs, one-hot answers) in a fixed order, without augmentation; see `training_batches`."""

    def load(chosen):
        if examples.cached:
            values = examples.cached.fetch(chosen)
        else:
            values = _pixels(examples.pixels, recipe.image_size, chosen)
        return values, examples.answers(chosen)

    indices = np.asarray(examples.indices, np.int64)
    return _in_background(
        tf.data.Dataset.from_tensor_slices(indices).batch(recipe.batch_size), load
    )


def _in_background(order: tf.data.Dataset, load: Callable) -> tf.data.Dataset:
    """Prepares batches ahead, in order, with one thread per core.

    The number of threads is fixed and tf.data's autotuning is off: its thread sleeps between
    rounds, and the end of a fit waited 10 to 30 s for it after the sample's last epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = order.map(load, num_parallel_calls=cores(), deterministic=True).prefetch(4)
    return batches.with_options(options)


def _pixels(pixels, size, chosen):
    values = tf.numpy_function(pixels.get, [chosen], tf.uint8, stateful=False)
    values.set_shape([None, size, size, 3])
    return tf.cast(values, tf.float32)


def _augment(values, drawn, size):
    """`engine.images.augment.apply` for a batch; rounds to whole levels too."""
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
