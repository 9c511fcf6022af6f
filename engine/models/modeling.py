"""From a recipe to a Keras model: pixels in, probabilities out, everything between inside it.

Heavy: imports Keras. The model of every recipe has the same outline, so that training, export,
explanations and prediction need no special cases:

    pixels (size, size, 3), 0..255 → preprocessing → backbone, one nested Functional layer
      → features (pooled vector) → [hidden] → dropout → logits → probabilities (float32)

All of it is built-in Keras layers, so a saved file loads in safe mode. The precision policy is the
caller's: set it before `build`.
"""

import hashlib
import weakref
from dataclasses import dataclass, replace

import keras
import numpy as np

from engine.models import backbones, batch_norm, freezing, graph, pretrained
from engine.models.backbones import Block
from engine.models.pretrained import leaf_layers
from engine.recipe import schedules

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
    """A built model with what is known of its parts.

    Attributes:
        model: the whole, input `pixels` (batch, size, size, 3) float32 in 0..255, output
            (batch, classes) float32.
        backbone: the nested model inside it; its layers carry the names in `blocks`.
        blocks: the backbone's blocks, input to output.
        preprocessing: "tf", "torch", "caffe" or "included" (see `engine.models.backbones.Backbone`).
        name: the backbone's name in the catalogue, also where it came from another run.
        alpha: its width, or None.
        image_size, min_image_size: in pixels.
        origin: the recipe's own words for the backbone, such as "run:ID".
        feature_map, features: the model's symbolic tensors before and after pooling.
        graph: (operation, inputs, outputs) of the backbone, in order; None where an operation is
            used twice, so that it has no one place. Taken when the model is built: a layer that
            becomes part of a second model no longer tells its tensors.
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
    feature_map: object = None
    features: object = None
    graph: list | None = None

    def __post_init__(self):
        self.feature_map = self.layer("features").input
        self.features = self.layer("features").output
        self.graph = graph.operations(self.backbone)

    def layer(self, name):
        """A layer of the head, or None."""
        return next((layer for layer in self.model.layers if layer.name == name), None)


def build(recipe, class_names, home=None) -> Bundle:
    """Builds the model of a recipe, with its weights.

    Args:
        recipe: an `engine.recipe.recipe.Recipe`; backbone, image_size and head are read.
        class_names: two or more; only their number matters here.
        home: Graft's home, for a backbone named run:ID; None for the usual one.

    Raises:
        BackboneError: an unknown backbone, or weights that cannot be had.
        RecipeError: for `image_size`, below what the backbone takes.
    """
    size = recipe.image_size
    known, backbone = pretrained.backbone(recipe.backbone, size, home)
    model = _assemble(backbone, known["preprocessing"], recipe.head, len(class_names), size)
    return Bundle(
        model=model, backbone=backbone, image_size=size, origin=recipe.backbone.name, **known
    )


def rebuilt(bundle, head) -> Bundle:
    """The same model with the same weights under the precision policy that is set now.

    The backbone is copied layer by layer: building it anew from its name would lose what Keras
    adds for ImageNet weights alone (EfficientNet's input scaling).

    Args:
        bundle: a built model.
        head: the recipe's `head`.
    """
    backbone = pretrained.copy(bundle.backbone, bundle.image_size)
    classes = bundle.model.output_shape[-1]
    model = _assemble(backbone, bundle.preprocessing, head, classes, bundle.image_size)
    model.set_weights(bundle.model.get_weights())
    return replace(bundle, model=model, backbone=backbone)  # its tensors are found anew


def preprocess(pixels, mode: str):
    """Applies a backbone's own input scaling to a Keras tensor, as layers that can be saved.

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


def _assemble(backbone, preprocessing, head, classes, size) -> keras.Model:
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


def inference_model(bundle) -> keras.Model:
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


def architecture(bundle) -> dict:
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


def apply_stage(bundle, stage) -> dict:
    """Sets which layers learn; compile the model afterwards.

    Batch normalization is frozen by `trainable = False` on each layer: calling the backbone with
    `training=False` does not hold in `fit` (keras issue 20285; facts, Traps 1).

    Args:
        bundle: from `build`; changed in place.
        stage: with `trainable` and `batch_norm`.

    Returns:
        A dict of trainable_params (head included), frozen_params (the rest, moving statistics
        included), and trainable_layers (names of the backbone's layers that learn, in order).

    Raises:
        RecipeError: as `engine.models.freezing.trainable_names`.
    """
    names = freezing.trainable_names(bundle.blocks, stage.trainable, stage.batch_norm)
    # On a nested model the flag cascades to every layer, so it goes first, the layers after it.
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


def _still_frozen_part(bundle) -> None:
    """Switches the backbone's own dropout (EfficientNet drops whole paths) off where it is frozen,
    so that a frozen part gives one answer for one image, and on again where it learns."""
    random = [x for x in leaf_layers(bundle.backbone) if isinstance(x, keras.layers.Dropout)]
    if not random or bundle.graph is None:
        return
    learning = set()
    for place in graph.live_operations(bundle):
        operation = bundle.graph[place][0]
        leaves = leaf_layers(operation) if hasattr(operation, "layers") else [operation]
        learning |= {id(leaf) for leaf in leaves}
    for layer in random:
        own_rate = _OWN_RATES.setdefault(layer, layer.rate)
        layer.rate = own_rate if id(layer) in learning else 0.0


def restore_dropout(bundle) -> None:
    """Gives the backbone's own dropout its rates back, before the model is saved."""
    for layer in leaf_layers(bundle.backbone):
        if layer in _OWN_RATES:
            layer.rate = _OWN_RATES[layer]


_OWN_RATES = weakref.WeakKeyDictionary()  # a layer's attributes would end up in its saved file


def frozen_digests(bundle) -> dict[str, str]:
    """Hashes of every weight that the stage applied last must not change.

    That is every weight but those that learn and the moving statistics of updating batch
    normalization. Taken before and after a fit, two equal dicts prove that frozen was frozen.

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


def optimizer(stage, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The stage's optimizer with its learning-rate schedule.

    Args:
        stage: of a recipe.
        steps_per_epoch: batches in an epoch, 1 or more.
    """
    constant = stage.schedule == "constant"
    rates = schedules.learning_rates(stage, steps_per_epoch)
    shared = {"learning_rate": stage.learning_rate if constant else _Rates(rates)}
    # None leaves the decay out of the graph; AdamW alone insists on a number.
    shared["weight_decay"] = stage.weight_decay or (0.0 if stage.optimizer == "adamw" else None)
    if stage.optimizer in ("sgd", "rmsprop"):
        shared["momentum"] = stage.momentum
    kinds = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}
    return getattr(keras.optimizers, kinds[stage.optimizer])(**shared)


class _Rates(keras.optimizers.schedules.LearningRateSchedule):
    """The rates of `engine.recipe.schedules.learning_rates`, one for each step."""

    def __init__(self, rates):
        super().__init__()
        self.rates = np.asarray(rates, "float32")

    def __call__(self, step):
        # A step beyond the last, which only a probe takes, keeps the last rate.
        place = keras.ops.minimum(keras.ops.cast(step, "int32"), len(self.rates) - 1)
        return keras.ops.take(self.rates, place)

    def get_config(self):
        return {"rates": self.rates.tolist()}
