"""What a Keras model from elsewhere says of itself, taken apart and put together anew; light.

A model's `config.json` names classes and functions that Keras would import and call, and sizes that it
would reserve memory for. Keras' own safe mode refuses code but calls public functions by name, and knows no
bounds (facts, Loading models). So nothing of the file reaches Keras as it is: `cleaned` reads it as plain
data and writes a new one from what it knows, and whatever it does not know is refused.

What decides how weights are drawn or held (initializers, regularizers, constraints, number formats) is left
out: the weights come with the file, and the model computes in float32.
"""

import math

from pydantic_core import from_json

from engine.data.sources.zip_names import shown
from engine.errors import RunError
from engine.imports import values as values

MAX_CONFIG = 5_000_000
"""Bytes of a config.json; NASNetMobile's, the longest that was measured, has 760,000."""
MAX_NESTED = 8
"""Models within models."""
MAX_PARAMS = 500_000_000
"""Weights in all; ConvNeXtXLarge, the largest in the catalogue, has 350 million."""
MIN_SIZE, MAX_SIZE = 32, 1024
"""Sides of the images in pixels, as in a recipe."""

LAYERS = {
    "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "Add", "Subtract", "Multiply", "Average",
    "Maximum", "Minimum", "Concatenate", "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense",
    "BatchNormalization", "LayerNormalization", "GroupNormalization", "Normalization", "Rescaling",
    "Resizing", "CenterCrop", "MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D",
    "GlobalMaxPooling2D", "ZeroPadding2D", "Cropping2D", "UpSampling2D", "Flatten", "Reshape", "Permute",
    "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "RandomFlip", "RandomRotation",
    "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness",
}  # fmt: skip
"""Built-in layers that image classifiers are made of. None of them runs code from a file, and none reads
another file."""
_ELSEWHERE = {
    "LayerScale": "keras.src.applications.convnext",
    "CustomScaleLayer": "keras.src.applications.inception_resnet_v2",
}
_OPERATIONS = {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Flip"}
_OPERATIONS_MODULE = "keras.src.ops.numpy"
_MODELS = {"Functional": "keras.src.models.functional", "Sequential": "keras"}

_LEFT_OUT = ("_regularizer", "_constraint")
_WRITTEN_ANEW = ("name", "dtype", "seed", "activation", "quantization_config")


def cleaned(content: bytes, image_size: int | None = None) -> dict:
    """The configuration of a model, made of nothing but what is known to be harmless.

    Args:
        content: of config.json.
        image_size: pixels, for a model that takes images of any size; None to leave it to the file.

    Returns:
        A dict: config, for `keras.saving.deserialize_keras_object`; image_size; params, the number of
        weights that it declares, so that the file can be held to it; logits: whether the last layer
        leaves out the softmax.

    Raises:
        RunError: what is wrong, without the file's name: to be put behind "FILE is not imported: ".
    """
    if len(content) > MAX_CONFIG:
        raise RunError(
            f"its config.json is {len(content):,} bytes long, and no network needs more than "
            f"{MAX_CONFIG:,}"
        )
    try:
        # It refuses what is nested more than 200 deep, which no model is.
        data = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise RunError(f"its config.json cannot be read ({shown(str(error))[:80]})") from None
    reader = _Reader(image_size)
    config = reader.model(data, 0)
    if reader.image_size is None:
        raise RunError(
            "it takes images of any size; say with --image-size how many pixels its sides should have"
        )
    return {
        "config": config,
        "image_size": reader.image_size,
        "params": reader.params,
        "logits": _last_layer(config) == ("Dense", "linear"),
    }


class _Reader:
    """One pass over a configuration.

    Attributes:
        image_size: of the whole model's input, as soon as it is known.
        params: weights declared so far.
    """

    def __init__(self, image_size):
        self.image_size, self._wanted = None, image_size
        self.params = self._layers = 0

    def model(self, data, depth) -> dict:
        """A Functional or Sequential model, cleaned."""
        if depth > MAX_NESTED:
            raise RunError(f"models in it are nested more than {MAX_NESTED} deep")
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
        found = {"name": values.name(config.get("name")), "trainable": True}
        if kind == "Sequential":
            found["layers"] = self._sequence(layers, config, depth)
        else:
            found["layers"] = [self._layer(layer, depth, graph=True) for layer in layers]
            ends = {key: values.ends(config.get(key)) for key in ("input_layers", "output_layers")}
            if depth == 0 and any(len(end) != 1 for end in ends.values()):
                raise RunError(
                    "it must take one image and give one answer, and has more inputs or outputs"
                )
            found |= ends
        return _object(_MODELS[kind], kind, found, None if kind == "Sequential" else kind)

    def _sequence(self, layers, config, depth):
        """The layers of a Sequential model, an input first: without one it would be built only when it
        is called."""
        if _class_of(layers[0])[0] != "InputLayer":
            shape = config.get("build_input_shape")
            if not shape:
                raise RunError(
                    "it does not say what images it takes; call it once, and save it again"
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
                raise RunError("it was saved by an old version; load and save it with Keras 3")
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
        """The shape of the whole model's input: of images, whose size is known or given."""
        if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
            raise RunError(
                f"it takes {values.written(shape)}; Graft shows a network square images with three colours, "
                "(any number, side, side, 3)"
            )
        own, wanted = shape[1], self._wanted
        if own and wanted and own != wanted:
            raise RunError(f"it takes images of {own} pixels; leave out --image-size {wanted}")
        size = own or wanted
        if size and not MIN_SIZE <= size <= MAX_SIZE:
            raise RunError(
                f"it takes images of {size} pixels; Graft makes them {MIN_SIZE} to {MAX_SIZE}"
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
                f"its layer {kind} is said to come from {shown(str(module))}, not from Keras"
            )
        fields = self._fields(config, kind) | {"dtype": "float32"}
        found = _object(
            _ELSEWHERE.get(kind, "keras.layers"), kind, fields, kind if kind in _ELSEWHERE else None
        )
        if kind in _WEIGHTS:
            build = data.get("build_config")
            shape = values.shape(build.get("input_shape") if isinstance(build, dict) else None)
            # It is built from this shape before anything else happens, so its weights are counted by it.
            found["build_config"] = {"input_shape": [None, *shape[1:]]}
            self._count(kind, fields, shape)
        return found

    def _count(self, kind, fields, shape):
        try:
            count = int(_WEIGHTS[kind](fields, shape))
        except (TypeError, KeyError, IndexError, ZeroDivisionError):
            count = -1
        if count < 0:
            raise RunError(f"the numbers of its layer {_named(kind, fields)} do not fit together")
        self.params += count
        if self.params > MAX_PARAMS:
            raise RunError(f"it declares more than {MAX_PARAMS:,} weights")

    def _fields(self, config, kind) -> dict:
        """The fields of a layer: numbers, words that are known, names of activations."""
        found = {"name": values.name(config.get("name"))}
        for key, value in config.items():
            if key.endswith("_initializer"):
                found[key] = "zeros"
            elif key == "activation":
                found[key] = values.activation(value)
            elif key == "quantization_config" and value is not None:
                raise RunError("its weights are quantized; save it with float32 weights")
            elif key not in _WRITTEN_ANEW and not key.endswith(_LEFT_OUT):
                if not key.isidentifier():
                    raise RunError(f"a layer {kind} has a field {shown(key)!r}")
                found[key] = values.plain(value, key, kind)
        return found


def _class_of(data) -> tuple[str, dict]:
    """Class and fields of an object, if it is one of Keras' own."""
    if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
        raise RunError("its config.json does not describe a Keras model")
    kind, registered = data.get("class_name"), data.get("registered_name")
    if not isinstance(kind, str):
        raise RunError("its config.json holds an object of no class")
    if registered not in (None, kind):
        raise RunError(
            f"it needs {shown(str(registered))}, a class of whoever made it; Graft takes built-in layers only"
        )
    return kind, data["config"]


def _unknown(kind) -> str:
    if kind in ("Lambda", "TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer"):
        return f"its layer {kind} runs code that comes with the file, or calls functions it names"
    return f"Graft does not take the layer {shown(kind)} from elsewhere; it takes those of image classifiers"


def _object(module, kind, config, registered=None) -> dict:
    return {"module": module, "class_name": kind, "config": config, "registered_name": registered}


def _named(kind, fields) -> str:
    return f"{shown(fields['name'])} ({kind})"


def _pair(value) -> int:
    """The product of a kernel's sides."""
    return value * value if isinstance(value, int) else math.prod(value)


def _depthwise(fields, shape):
    return shape[-1] * fields.get("depth_multiplier", 1)


def _along(fields, shape) -> int:
    """The numbers along the axes that a normalization keeps apart."""
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
"""The most weights that a layer has, of its fields and the shape it takes."""


def _last_layer(config) -> tuple[str, str]:
    """Class and activation of the layer that gives a model's answer."""
    layers, last = config["config"]["layers"], None
    if config["class_name"] == "Functional":
        name = config["config"]["output_layers"][0][0]
        last = next((layer for layer in layers if layer["name"] == name), None)
    last = last or layers[-1]
    if last["class_name"] in _MODELS:
        return _last_layer(last)
    return last["class_name"], last["config"].get("activation", "linear")
