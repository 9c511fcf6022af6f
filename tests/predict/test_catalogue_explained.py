"""Grad-CAM behind backbones of every kind, as LiteRT runs them, against Keras' own gradient.

A few of the catalogue; all of it (twenty minutes) with GRAFT_ALL_BACKBONES=1.
"""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from engine import load_preset
from engine.models import backbones
from engine.predict import explanation
from engine.recipe import Recipe
from engine.runs import runs

QUICK = ["MobileNetV3Small", "VGG16"]  # with and without batch norm
ALL = [name for name in backbones.names() if name != "GraftSmall"]
CLASSES = ["a", "b", "c"]


@pytest.mark.parametrize("name", ALL if os.environ.get("GRAFT_ALL_BACKBONES") else QUICK)
def test_grad_cam_of_a_catalogue_backbone_is_keras_own_gradient(name, tmp_path):
    import keras
    import tensorflow as tf

    from engine.models import convert, modeling
    from engine.models.litert import Network

    side = max(96, backbones.get(name).min_image_size)
    recipe = load_preset("sample").to_dict() | {"image_size": side}
    recipe["backbone"] = {"name": name, "alpha": None, "weights": "none"}
    keras.utils.set_random_seed(0)
    bundle = modeling.build(Recipe.from_dict(recipe), CLASSES)
    images = np.random.default_rng(0).integers(0, 256, (4, side // 8, side // 8, 3))
    images = np.asarray(tf.image.resize(images.astype(np.float32), (side, side)))
    _settle(bundle, images)
    inference = modeling.inference_model(bundle)
    convert.to_litert(inference, tmp_path / "inference.tflite")
    explanation.write_head(bundle.model, tmp_path)

    pixels = images[0].astype(np.uint8)
    _, features, maps = Network(tmp_path / "inference.tflite", 1)(pixels)
    answer = SimpleNamespace(features=features, feature_map=maps, classes=CLASSES)
    own = np.asarray(inference(pixels[None].astype(np.float32), training=False)[2])
    heats = []
    for place, label in enumerate(CLASSES):
        with tf.GradientTape() as tape:
            given = tf.constant(own)
            tape.watch(given)
            logit = bundle.model.get_layer("logits")(tf.reduce_mean(given, axis=(1, 2)))[0, place]
        heat = np.maximum(0, own[0] @ np.asarray(tape.gradient(logit, given))[0].mean(axis=(0, 1)))
        found = explanation.grad_cam(runs.Run(tmp_path), answer, label)
        assert np.abs(found - heat / max(heat.max(), 1e-12)).max() < 0.01
        heats.append(found)
    assert np.abs(heats[0] - heats[1]).max() > 0.1  # it depends on the class


def _settle(bundle, images):
    """Gives random weights the statistics of images, as training would: without them, activations
    fade from layer to layer, and there is nothing to explain."""
    import keras

    from engine.models import modeling

    bundle.backbone.trainable = True
    for layer in bundle.backbone._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable, layer.momentum = True, 0.0
    bundle.backbone(modeling.preprocess(images, bundle.preprocessing), training=True)
