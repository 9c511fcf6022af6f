"""The configuration of a foreign Keras model, parsed and written again. Light.

A model's `config.json` names classes and functions that Keras would import and call, and sizes for
which it would allocate memory. Keras' safe mode refuses code, but it calls public functions by name
and has no limits (measured with 3.15.1: a Lambda that named `keras.config.set_floatx` ran, and only
a memory limit stopped a layer of a billion units). So the file's configuration never reaches Keras:
`cleaned` reads it as plain data, writes a new one from known values, and refuses everything else.

Initializers, regularizers, constraints and number formats are left out: the weights come with the
file, and the model computes in float32.
"""

from __future__ import annotations

import math
from typing import Any, TypedDict

from pydantic_core import from_json

from engine.errors import RunError
from engine.host.words import shown
from engine.imports import values

MAX_CONFIG = 5_000_000
"""Bytes of a config.json; the longest measured, NASNetMobile's, has 760,000."""
MAX_NESTED = 8
"""Models within models."""
MAX_PARAMS = 500_000_000
"""Weights in total; ConvNeXtXLarge, the largest in the catalogue, has 350 million."""
MIN_SIZE, MAX_SIZE = 32, 1024
"""Sides of the images in pixels, as in a recipe."""

LAYERS = {
    "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "Add", "Subtract", "Multiply",
    "Average", "Maximum", "Minimum", "Concatenate", "Conv2D", "DepthwiseConv2D", "SeparableConv2D",
    "Dense", "BatchNormalization", "LayerNormalization", "GroupNormalization", "Normalization",
    "Rescaling", "Resizing", "CenterCrop", "MaxPooling2D", "AveragePooling2D",
    "GlobalAveragePooling2D", "GlobalMaxPooling2D", "ZeroPadding2D", "Cropping2D", "UpSampling2D",
    "Flatten", "Reshape", "Permute", "Dropout", "SpatialDropout2D", "GaussianNoise",
    "GaussianDropout", "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation",
    "RandomContrast", "RandomBrightness",
}  # fmt: skip
"""Built-in layers of image classifiers. None of them runs code from a file or reads other files."""
_ELSEWHERE = {
    "LayerScale": "keras.src.applications.convnext",
    "CustomScaleLayer": "keras.src.applications.inception_resnet_v2",
}
_OPERATIONS = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Flip"}
_OPERATIONS_MODULE = "keras.src.ops.numpy"
_MODELS = {"Functional": "keras.src.models.functional", "Sequential": "keras"}

_LEFT_OUT = ("_regularizer", "_constraint")
_HANDLED = ("name", "dtype", "seed", "activation", "quantization_config")


class Cleaned(TypedDict):
    """What `cleaned` returns."""

    config: dict[str, Any]
    """For `keras.saving.deserialize_keras_object`."""
    image_size: int
    """Pixels."""
    params: int
    """The number of weights that the layers declare, to compare with the size of the file."""
    logits: bool
    """Whether the last layer has no softmax."""


def cleaned(content: bytes, image_size: int | None = None, strict: bool = True) -> Cleaned:
    """The configuration of a model, rebuilt from values that are known to be harmless.

    Args:
        content: of config.json.
        image_size: in pixels, for a model that accepts any; None to use the file's.
        strict: whether a model of another size is refused.

    Raises:
        RunError: what is wrong, to follow "FILE is not imported: ".
    """
    if len(content) > MAX_CONFIG:
        raise RunError(
            f"its config.json has {len(content):,} bytes; Graft accepts at most {MAX_CONFIG:,}"
        )
    try:
        # The parser refuses more than 200 nested levels, more than any model has.
        data = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise RunError(f"its config.json cannot be read ({shown(str(error))[:80]})") from None
    reader = _Reader(image_size, strict)
    config = reader.model(data, 0)
    if reader.image_size is None:
        raise RunError("it accepts images of any size; choose a size in pixels (--image-size)")
    return {
        "config": config,
        "image_size": reader.image_size,
        "params": reader.params,
        "logits": _last_layer(config) == ("Dense", "linear"),
    }


class _Reader:
    """One pass over a configuration.

    Attributes:
        image_size: of the whole model's input; None until known.
        params: weights declared so far.
    """

    def __init__(self, image_size: int | None, strict: bool):
        self.image_size: int | None = None
        self._wanted, self._strict = image_size, strict
        self.params = self._layers = 0

    def model(self, data: Any, depth: int) -> dict:
        """A cleaned Functional or Sequential model, `depth` levels below the whole model."""
        if depth > MAX_NESTED:
            raise RunError(f"its models are nested more than {MAX_NESTED} levels deep")
        kind, config = _class_of(data)
        if kind not in _MODELS:
            raise RunError(
                f"it is a {shown(kind)}, not a Functional or Sequential model of Keras 3"
            )
        layers = config.get("layers")
        if not isinstance(layers, list) or not layers:
            raise RunError("its model has no list of layers")
        self._layers += len(layers)
        if self._layers > values.MAX_LAYERS:
            raise RunError(f"it has more than {values.MAX_LAYERS:,} layers")
        found: dict[str, Any] = {"name": values.name(config.get("name")), "trainable": True}
        if kind == "Sequential":
            found["layers"] = self._sequence(layers, config, depth)
        else:
            found["layers"] = [self._layer(layer, depth, graph=True) for layer in layers]
            ends = {key: values.ends(config.get(key)) for key in ("input_layers", "output_layers")}
            if depth == 0 and any(len(end) != 1 for end in ends.values()):
                raise RunError(
                    "it has several inputs or outputs; Graft needs one image in and one answer out"
                )
            found |= ends
        return _object(_MODELS[kind], kind, found, None if kind == "Sequential" else kind)

    def _sequence(self, layers, config, depth):
        """The layers of a Sequential model, with an input, so that it is built at once."""
        if _class_of(layers[0])[0] != "InputLayer":
            shape = config.get("build_input_shape")
            if not shape:
                raise RunError(
                    "it does not state its input shape; call it once, then save it again"
                )
            layers = [_object("keras.layers", "InputLayer", {"batch_shape": shape}), *layers]
        return [self._layer(layer, depth) for layer in layers]

    def _layer(self, data, depth, graph=False) -> dict:
        kind, config = _class_of(data)
        if kind in _MODELS:
            found = self.model(data, depth + 1)
        elif kind == "InputLayer":
            found = self._input(config, depth)
        else:
            found = self._plain_layer(kind, config, data)
        if graph:
            nodes = data.get("inbound_nodes")
            if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
                raise RunError(
                    "it was saved by an old version of Keras; load and save it with Keras 3"
                )
            found |= {
                "name": values.name(data.get("name")),
                "inbound_nodes": [values.node(n) for n in nodes],
            }
        return found

    def _input(self, config, depth):
        shape = values.shape(config.get("batch_shape") or config.get("batch_input_shape"))
        if depth == 0:
            shape = self._image(shape)
        found = {"batch_shape": [None, *shape[1:]], "dtype": "float32"}
        if config.get("name") is not None:
            found["name"] = values.name(config["name"])
        return _object("keras.layers", "InputLayer", found)

    def _image(self, shape):
        """The whole model's input shape, with the image size from the file or the caller."""
        if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
            raise RunError(
                f"its input shape is {values.written(shape)}; Graft needs square images with three "
                "colour channels, (any, side, side, 3)"
            )
        own, wanted = shape[1], self._wanted
        if self._strict and own and wanted and own != wanted:
            raise RunError(f"its image size is {own} pixels; leave out --image-size {wanted}")
        size = own or wanted
        if size and not MIN_SIZE <= size <= MAX_SIZE:
            raise RunError(
                f"its image size is {size} pixels; Graft accepts {MIN_SIZE} to {MAX_SIZE}"
            )
        self.image_size = size
        return [None, size, size, 3]

    def _plain_layer(self, kind, config, data):
        module = data.get("module")
        if module == _OPERATIONS_MODULE and kind in _OPERATIONS:
            return _object(module, kind, self._fields(config, kind), kind)
        if kind not in LAYERS and kind not in _ELSEWHERE:
            raise RunError(_unknown(kind))
        if not isinstance(module, str) or not module.startswith("keras"):
            raise RunError(
                f"its {kind} layer claims to come from {shown(str(module))}, not from Keras"
            )
        fields = self._fields(config, kind) | {"dtype": "float32"}
        found = _object(
            _ELSEWHERE.get(kind, "keras.layers"), kind, fields, kind if kind in _ELSEWHERE else None
        )
        if kind in _WEIGHTS:
            build = data.get("build_config")
            shape = values.shape(build.get("input_shape") if isinstance(build, dict) else None)
            # Keras builds the layer from this shape first, so it decides the number of weights.
            found["build_config"] = {"input_shape": [None, *shape[1:]]}
            self._count(kind, fields, shape)
        return found

    def _count(self, kind, fields, shape):
        try:
            count = int(_WEIGHTS[kind](fields, shape))
        except (TypeError, KeyError, IndexError, ZeroDivisionError):
            count = -1
        if count < 0:
            raise RunError(
                f"the numbers of its layer {shown(fields['name'])} ({kind}) do not fit together"
            )
        self.params += count
        if self.params > MAX_PARAMS:
            raise RunError(f"it declares more than {MAX_PARAMS:,} weights")

    def _fields(self, config, kind) -> dict:
        """The fields of a layer: numbers, known words, names of activations."""
        found = {"name": values.name(config.get("name"))}
        for key, value in config.items():
            if key.endswith("_initializer"):
                found[key] = "zeros"
            elif key == "activation":
                found[key] = values.activation(value)
            elif key == "quantization_config" and value is not None:
                raise RunError("its weights are quantized; save it with float32 weights")
            elif key not in _HANDLED and not key.endswith(_LEFT_OUT):
                if not key.isidentifier():
                    raise RunError(f"a {kind} layer has a field {shown(key)!r}")
                found[key] = values.plain(value, key, kind)
        return found


def _class_of(data) -> tuple[str, dict]:
    """Class and fields of an object of Keras' own classes."""
    if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
        raise RunError("its config.json does not describe a Keras model")
    kind, registered = data.get("class_name"), data.get("registered_name")
    if not isinstance(kind, str):
        raise RunError("its config.json contains an object without a class")
    if registered not in (None, kind):
        raise RunError(
            f"it needs the custom class {shown(str(registered))}; Graft accepts only built-in "
            "layers"
        )
    return kind, data["config"]


def _unknown(kind) -> str:
    if kind in ("Lambda", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer"):
        return f"its {kind} layer runs code that comes with the file, or calls functions it names"
    return (
        f"it has a {shown(kind)} layer; Graft accepts only common layers of image classifiers from "
        "elsewhere"
    )


def _object(module, kind, config, registered=None) -> dict:
    return {"module": module, "class_name": kind, "config": config, "registered_name": registered}


def _pair(value) -> int:
    """The product of a kernel's sides."""
    return value * value if isinstance(value, int) else math.prod(value)


def _depthwise(fields, shape):
    return shape[-1] * fields.get("depth_multiplier", 1)


def _along(fields, shape) -> int:
    """The product of the sizes along the axes that a normalization keeps separate."""
    axes = fields.get("axis", -1)
    return math.prod(shape[axis] for axis in ([axes] if isinstance(axes, int) else axes or []))


_WEIGHTS = {
    "Dense": lambda f, s: (s[-1] + 1) * f["units"],
    "Conv2D": lambda f, s: (
        (_pair(f["kernel_size"]) * -(-s[-1] // f.get("groups", 1)) + 1) * f["filters"]
    ),
    "DepthwiseConv2D": lambda f, s: (_pair(f["kernel_size"]) + 1) * _depthwise(f, s),
    "SeparableConv2D": lambda f, s: (
        _pair(f["kernel_size"]) * _depthwise(f, s) + (_depthwise(f, s) + 1) * f["filters"]
    ),
    "BatchNormalization": lambda f, s: 4 * _along(f, s),
    "LayerNormalization": lambda f, s: 2 * _along(f, s),
    "GroupNormalization": lambda f, s: 2 * _along(f, s),
    "Normalization": lambda f, s: 2 * _along(f, s) + 1,
    "PReLU": lambda f, s: math.prod(s[1:]),
    "LayerScale": lambda f, s: f["projection_dim"],
}
"""The maximum number of weights of a layer, from its fields and its input shape."""


def _last_layer(config) -> tuple[str, str]:
    """Class and activation of the layer that computes a model's answer."""
    layers, last = config["config"]["layers"], None
    if config["class_name"] == "Functional":
        name = config["config"]["output_layers"][0][0]
        last = next((layer for layer in layers if layer["name"] == name), None)
    last = last or layers[-1]
    if last["class_name"] in _MODELS:
        return _last_layer(last)
    return last["class_name"], last["config"].get("activation", "linear")
