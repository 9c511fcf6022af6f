"""Fused batch normalization computes what Keras' own layer computes."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras")


def layers(keras, **options):
    """Two equal one-layer networks, the second fused."""
    from engine.models import batch_norm

    made = []
    for _ in range(2):
        inputs = keras.Input((6, 5, 3))
        layer = keras.layers.BatchNormalization(**options)
        model = keras.Model(inputs, layer(inputs))
        rng = np.random.default_rng(1)
        model.set_weights([rng.uniform(0.5, 2, w.shape).astype("float32") for w in model.weights])
        made.append(model)
    batch_norm.use_fused(made[1])
    return made


def step(keras, model, values):
    """Outputs, gradients of inputs and weights, and moving statistics of one training step."""
    import tensorflow as tf

    factors = tf.constant(np.random.default_rng(2).normal(size=values.shape), tf.float32)
    inputs = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = model(inputs, training=True)
        loss = tf.reduce_sum(outputs * factors)
    gradients = tape.gradient(loss, [inputs, *model.trainable_weights])
    return [outputs, *gradients, *model.non_trainable_weights]


@pytest.mark.parametrize("options", [{}, {"momentum": 0.999, "epsilon": 1.001e-5}])
def test_outputs_gradients_and_moving_statistics_are_those_of_keras(keras, options):
    plain, fused = layers(keras, **options)
    values = np.random.default_rng(0).normal(3, 2, (8, 6, 5, 3)).astype("float32")
    for one, other in zip(step(keras, plain, values), step(keras, fused, values), strict=True):
        assert np.allclose(one, other, rtol=1e-4, atol=2e-5)


def test_frozen_layer_keeps_its_statistics_and_prediction_uses_them(keras):
    plain, fused = layers(keras)
    values = np.random.default_rng(0).normal(3, 2, (8, 6, 5, 3)).astype("float32")
    for model in (plain, fused):
        model.layers[-1].trainable = False
    before = fused.get_weights()
    outputs = [np.asarray(model(values, training=True)) for model in (plain, fused)]
    assert np.array_equal(*outputs)
    assert all(np.array_equal(a, b) for a, b in zip(before, fused.get_weights(), strict=True))


def test_a_layer_without_scale_is_left_to_keras(keras):
    plain, fused = layers(keras, scale=False)
    assert "call" not in vars(fused.layers[-1])
    values = np.random.default_rng(0).normal(3, 2, (8, 6, 5, 3)).astype("float32")
    assert np.array_equal(plain(values, training=True), fused(values, training=True))
