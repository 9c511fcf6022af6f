"""Batch normalization in training by one fused TensorFlow operation instead of several.

Keras computes moments, scale and shift one after another, each in a pass over the activations, and
more of them backwards. The fused operation gives the same outputs, gradients and moving statistics
up to float32 rounding (tests/models/test_batch_norm.py). A training step of all layers of
MobileNetV2 0.35 with batch norm updated took 0.44 s instead of 0.64 s on 2 cores.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

SMALLEST_EPSILON = 1.001e-5
"""The operation silently raises smaller values to this one, a limit of cuDNN."""


def use_fused(model: keras.Model) -> None:
    """Makes a network's batch normalization run fused wherever it normalizes by the batch.

    Only the computation changes; weights, configuration and file are those of Keras. Layers run as
    in Keras while they are frozen or predict, and if they normalize another axis than the last of
    four, lack scale or shift, or compute in half precision (for which Keras takes the moments in
    float32).

    Args:
        model: a built keras.Model, nested models included.
    """
    if keras.backend.backend() != "tensorflow":
        return
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.BatchNormalization and _applicable(layer):
            layer.call = _call(layer)


def _applicable(layer: keras.Layer) -> bool:
    return (
        layer.compute_dtype == "float32"
        and layer.scale
        and layer.center
        and layer.epsilon >= SMALLEST_EPSILON
        and not layer.renorm
        and not layer.synchronized
    )


def _call(layer: keras.Layer) -> Callable:
    plain = layer.call

    def call(inputs, training=None, mask=None):
        follows = training and layer.trainable and mask is None
        if not follows or len(inputs.shape) != 4 or layer.axis not in (-1, 3):
            return plain(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(layer.gamma),
            tf.convert_to_tensor(layer.beta),
            epsilon=layer.epsilon,
            is_training=True,
        )
        # The operation gives the unbiased variance; Keras uses that of the batch itself.
        count = tf.cast(tf.size(inputs) // tf.size(mean), tf.float32)
        variance = variance * (count - 1) / count
        for moving, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + now * (1.0 - layer.momentum))
        return outputs

    return call
