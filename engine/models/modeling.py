"""From a recipe to a Keras model: pixels in, probabilities out.

Heavy: imports Keras. The model of every recipe has the same structure, so that training, export,
explanations and prediction need no special cases:

    pixels (size, size, 3), 0..255 → preprocessing → backbone, one nested Functional layer
      → features (pooled vector) → [hidden] → dropout → logits → probabilities (float32)

All layers are Keras' own, so a saved file loads in safe mode. Set the precision policy before
`build`.
"""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np

from engine.models import backbones, batch_norm, freezing, graph
from engine.models.backbones import Block
from engine.models.graph import Operations, leaf_layers
from engine.models.sources import keras_applications, run
from engine.recipe import HeadSpec, Recipe, StageSpec

HEAD_LAYERS = ("features", "hidden", "dropout", "logits", "probabilities")
"""Names of the layers on top of the backbone, in order; hidden and dropout may be missing."""

# x / 127.5 - 1, (x / 255 - mean) / deviation, and blue-green-red minus mean, as scale and offset of
# one Rescaling layer; the figures are those of keras.applications.imagenet_utils.
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_RESCALING = {
    "tf": (1 / 127.5, -1.0),
    "torch": ((1 / (255 * _DEVIATION)).tolist(), (-_MEAN / _DEVIATION).tolist()),
    "caffe": (1.0, [-103.939, -116.779, -123.68]),
}


@dataclass
class Bundle:
    """A built model and its parts.

    Attributes:
        model: the whole network, input `pixels` (batch, size, size, 3) float32 in 0..255, output
            (batch, classes) float32.
        backbone: the nested model inside it; its layers carry the names in `blocks`.
        blocks: the backbone's blocks, input to output.
        preprocessing: "tf", "torch", "caffe" or "included" (see `backbones.Backbone`).
        name: the backbone's name in the catalogue, also where it came from another run.
        alpha: its width, or None.
        image_size, min_image_size: in pixels.
        origin: the backbone's name in the recipe, such as "run:ID".
        feature_map, features: the model's symbolic tensors before and after pooling.
        graph: the backbone's operations (`engine.models.graph.operations`), or None. Read when the
            model is built: a layer that becomes part of a second model no longer gives its tensors.
    """

    model: keras.Model
    backbone: keras.Model
    blocks: tuple[Block, ...]
    preprocessing: str
    name: str
    alpha: float | None
    image_size: int
    min_image_size: int
    origin: str
    feature_map: keras.KerasTensor = field(init=False)
    features: keras.KerasTensor = field(init=False)
    graph: Operations | None = field(init=False)

    def __post_init__(self) -> None:
        pooling = self.model.get_layer("features")
        self.feature_map, self.features = pooling.input, pooling.output
        self.graph = graph.operations(self.backbone)

    def layer(self, name: str) -> keras.Layer | None:
        """A layer of the head, or None."""
        return next((layer for layer in self.model.layers if layer.name == name), None)


def build(recipe: Recipe, class_names: list[str], home: Path | None = None) -> Bundle:
    """Builds the model of a recipe, with its weights.

    Args:
        recipe: backbone, image_size and head are read.
        class_names: two or more; only their number matters here.
        home: Graft's home, for a backbone named run:ID; None for the usual one.

    Raises:
        BackboneError: an unknown backbone, or weights that are not available.
        RecipeError: for an image size below the backbone's minimum.
    """
    spec, size = recipe.backbone, recipe.image_size
    source = run if spec.name.startswith(run.PREFIX) else keras_applications
    found = source.build(spec, size, home)
    return Bundle(
        model=_assemble(found.network, found.preprocessing, recipe.head, len(class_names), size),
        backbone=found.network,
        blocks=found.blocks,
        preprocessing=found.preprocessing,
        name=found.name,
        alpha=found.alpha,
        image_size=size,
        min_image_size=found.min_image_size,
        origin=spec.name,
    )


def rebuilt(bundle: Bundle, head: HeadSpec) -> Bundle:
    """The same model with the same weights under the current precision policy.

    The backbone is copied layer by layer: building it again from its name would lose what Keras
    adds for ImageNet weights alone (EfficientNet's input scaling).

    Args:
        bundle: a built model.
        head: the recipe's `head`.
    """
    backbone = graph.copy(bundle.backbone, bundle.image_size)
    classes = bundle.model.output_shape[-1]
    model = _assemble(backbone, bundle.preprocessing, head, classes, bundle.image_size)
    model.set_weights(bundle.model.get_weights())
    return replace(bundle, model=model, backbone=backbone)  # finds its own tensors again


def preprocess(pixels: keras.KerasTensor, mode: str) -> keras.KerasTensor:
    """Applies a backbone's input scaling to a Keras tensor, as layers that can be saved.

    Args:
        pixels: (batch, height, width, 3) float32 in 0..255, red-green-blue.
        mode: "tf", "torch", "caffe" or "included".

    Returns:
        A tensor of the same shape, equal to `keras.applications.*.preprocess_input`.
    """
    if mode == "included":
        return pixels
    if mode == "caffe":
        pixels = keras.ops.flip(pixels, axis=-1)
    scale, offset = _RESCALING[mode]
    # float32 under any policy: half precision would round 0..255 before the network sees it.
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")(pixels)


def _assemble(
    backbone: keras.Model, preprocessing: str, head: HeadSpec, classes: int, size: int
) -> keras.Model:
    layers = keras.layers
    pixels = keras.Input((size, size, 3), dtype="float32", name="pixels")
    x = backbone(preprocess(pixels, preprocessing))
    pooling = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    x = pooling[head.pooling](dtype="float32", name="features")(x)
    if head.hidden:
        x = layers.Dense(head.hidden, activation="relu", name="hidden")(x)
    if head.dropout:
        x = layers.Dropout(head.dropout, name="dropout")(x)
    x = layers.Dense(classes, dtype="float32", name="logits")(x)
    x = layers.Activation("softmax", dtype="float32", name="probabilities")(x)
    model = keras.Model(pixels, x, name="classifier")
    batch_norm.use_fused(model)
    return model


def inference_model(bundle: Bundle) -> keras.Model:
    """The same weights with three outputs, for export and for prediction.

    Returns:
        A model from `pixels` to [probabilities (classes,), features (channels,), feature_map
        (height, width, channels)], in this order, all float32.
    """
    feature_map = keras.layers.Activation("linear", dtype="float32", name="feature_map")(
        bundle.feature_map
    )
    outputs = [bundle.model.outputs[0], bundle.features, feature_map]
    return keras.Model(bundle.model.inputs[0], outputs, name="inference")


def architecture(bundle: Bundle) -> dict:
    """What a finished run keeps about its model, as plain data for `architecture.json`."""
    total, inside = bundle.model.count_params(), bundle.backbone.count_params()
    return {
        "backbone": {
            "name": bundle.name,
            "alpha": bundle.alpha,
            "origin": bundle.origin,
            "layer": bundle.backbone.name,
        },
        "preprocessing": bundle.preprocessing,
        "image_size": bundle.image_size,
        "min_image_size": bundle.min_image_size,
        "features": int(bundle.backbone.output_shape[-1]),
        "classes": int(bundle.model.output_shape[-1]),
        "params": {"backbone": inside, "head": total - inside, "total": total},
        "blocks": backbones.blocks_to_json(bundle.blocks),
    }


# -- what learns ------------------------------------------------------------------------------


def apply_stage(bundle: Bundle, stage: StageSpec) -> dict:
    """Sets which layers learn; compile the model afterwards.

    Batch normalization is frozen by `trainable = False` on each layer: calling the backbone with
    `training=False` has no effect in `fit` (keras issue 20285).

    Args:
        bundle: from `build`; changed in place.
        stage: `trainable` and `batch_norm` are read.

    Returns:
        A dict of trainable_params (head included), frozen_params (the rest, moving statistics
        included), and trainable_layers (names of the backbone's layers that learn, in order).

    Raises:
        RecipeError: as `engine.models.freezing.trainable_names`.
    """
    names = freezing.trainable_names(bundle.blocks, stage.trainable, stage.batch_norm)
    # On a nested model the flag cascades to every layer, so it is set before those of the layers.
    bundle.backbone.trainable = bool(names)
    learning = []
    for layer in leaf_layers(bundle.backbone):
        if layer.weights:
            layer.trainable = layer.name in names
            learning += [layer.name] * layer.trainable
    _still_frozen_part(bundle)
    trainable = sum(int(np.prod(v.shape)) for v in bundle.model.trainable_weights)
    return {
        "trainable_params": trainable,
        "frozen_params": bundle.model.count_params() - trainable,
        "trainable_layers": learning,
    }


def _still_frozen_part(bundle: Bundle) -> None:
    """Turns the backbone's own dropout (EfficientNet drops whole paths) off where it is frozen, so
    that a frozen part gives one answer for one image, and on again where it learns."""
    random = [x for x in leaf_layers(bundle.backbone) if isinstance(x, keras.layers.Dropout)]
    if not random or bundle.graph is None:
        return
    learning = set()
    for place in graph.live_operations(bundle.graph):
        operation = bundle.graph[place][0]
        leaves = leaf_layers(operation) if hasattr(operation, "layers") else [operation]
        learning |= {id(leaf) for leaf in leaves}
    for layer in random:
        own_rate = _OWN_RATES.setdefault(layer, layer.rate)
        layer.rate = own_rate if id(layer) in learning else 0.0


def restore_dropout(bundle: Bundle) -> None:
    """Restores the rates of the backbone's own dropout, before the model is saved."""
    for layer in leaf_layers(bundle.backbone):
        if layer in _OWN_RATES:
            layer.rate = _OWN_RATES[layer]


# Kept here, since a layer's attributes would be saved in its file.
_OWN_RATES: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def frozen_digests(bundle: Bundle) -> dict[str, str]:
    """Hashes of every weight that the current stage must not change.

    That is every weight except those that learn and the moving statistics of updating batch
    normalization. If the hashes before and after a fit are equal, the frozen part did not change.

    Returns:
        `{variable path: SHA-256 of dtype, shape and bytes}`.
    """
    free = {id(v) for v in bundle.model.trainable_weights}
    for layer in leaf_layers(bundle.model):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            free |= {id(v) for v in layer.weights}
    digests = {}
    for weight in bundle.model.weights:  # `weights` leaves out the state of seed generators
        if id(weight) not in free:
            value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
            kind = f"{value.dtype}{value.shape}".encode()
            digests[weight.path] = hashlib.sha256(kind + value.tobytes()).hexdigest()
    return digests
