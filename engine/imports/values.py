"""Names, numbers, shapes and calls in the configuration of a Keras model from elsewhere; light.

Each function gives back what it was given if that is harmless, in the form that `engine.imports.config`
writes, and raises RunError with the reason otherwise.
"""

from engine.data.sources.zip_names import shown
from engine.errors import RunError

MAX_LAYERS = 3_000
MAX_COUNT = 65_536
"""Units, filters, and every other whole number of a layer."""
MAX_VALUES = 10_000
"""Numbers in a list that a layer holds, such as the means of a Normalization."""
ACTIVATIONS = {
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "hard_silu",
    "hard_swish", "sigmoid", "hard_sigmoid", "tanh", "softmax", "softplus", "softsign", "mish",
}  # fmt: skip
_WORDS = {
    "same", "valid", "channels_last", "bilinear", "nearest", "bicubic", "area", "reflect", "wrap",
    "constant", "horizontal", "vertical", "horizontal_and_vertical", "tf",
}  # fmt: skip


def name(value) -> str:
    """A layer's name."""
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise RunError("a layer's name is missing or is no name")
    return value


def activation(value) -> str:
    """An activation's name. Keras also writes one as an object of class "function"."""
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value.get("config")
    if value is None:
        return "linear"
    if not isinstance(value, str) or value not in ACTIVATIONS:
        given = shown(str(value.get("class_name") if isinstance(value, dict) else value))
        raise RunError(f"a layer calls {given}, which is no activation that Graft knows")
    return value


def plain(value, key, kind):
    """A number, a flag, a known word, or lists of them."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_COUNT:
            raise RunError(
                f"a layer {kind} has {key} {value:,}, and at most {MAX_COUNT:,} makes sense"
            )
        return value
    if isinstance(value, float):
        if not abs(value) <= 1e12:
            raise RunError(f"a layer {kind} has {key} {value:g}")
        return value
    if isinstance(value, str):
        if value not in _WORDS:
            raise RunError(f"a layer {kind} has {key} {shown(value)!r}, which Graft does not know")
        return value
    if isinstance(value, list) and len(value) <= MAX_VALUES:
        return [plain(item, key, kind) for item in value]
    raise RunError(f"a layer {kind} has a {key} that is no plain value")


def shape(value) -> list:
    """A shape: batch, then sizes; None where it is left open."""
    if not isinstance(value, list) or not 2 <= len(value) <= 6:
        raise RunError("a layer does not say what shape it takes; load and save it with Keras 3")
    for size in value:
        if size is None:
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_COUNT:
            given = shown(str(size))
            raise RunError(
                f"a layer takes a shape with {given} in it; sizes are 1 to {MAX_COUNT:,}"
            )
    return value


def written(shape) -> str:
    """A shape for people."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def ends(value) -> list:
    """Where a graph begins or ends: rows of layer, node, place; a single one may stand alone."""
    rows = value if isinstance(value, list) else []
    rows = [rows] if rows and isinstance(rows[0], str) else rows
    if not 1 <= len(rows) <= 100:
        raise RunError("its config.json does not say where the network begins and ends")
    return [history(row) for row in rows]


def history(row) -> list:
    """Where a tensor comes from: layer, node, place."""
    if not isinstance(row, list) or len(row) != 3:
        raise RunError("its config.json does not say how its layers are joined")
    layer, node, place = row
    for number in (node, place):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < MAX_LAYERS:
            raise RunError("its config.json does not say how its layers are joined")
    return [name(layer), node, place]


def node(data) -> dict:
    """One call of a layer."""
    arguments, named = data.get("args"), data.get("kwargs")
    if not isinstance(arguments, list) or not isinstance(named, dict):
        raise RunError("its config.json does not say how its layers are joined")
    known = {"training", "mask", "x", "x1", "x2"}
    if others := set(named) - known:
        raise RunError(f"a layer is called with {shown(min(others))!r}, which Graft does not know")
    return {
        "args": [argument(value) for value in arguments],
        "kwargs": {key: argument(value) for key, value in named.items()},
    }


def argument(value):
    """A tensor of the graph, lists of them, or a number."""
    if isinstance(value, list):
        if len(value) > MAX_VALUES:
            raise RunError("a layer is called with a list that is too long")
        return [argument(item) for item in value]
    if isinstance(value, dict):
        config = value.get("config")
        if value.get("class_name") != "__keras_tensor__" or not isinstance(config, dict):
            raise RunError(
                f"a layer is called with {shown(str(value.get('class_name')))}, not with a tensor"
            )
        found = {
            "shape": shape(config.get("shape")),
            "dtype": "float32",
            "keras_history": history(config.get("keras_history")),
        }
        return {"class_name": "__keras_tensor__", "config": found}
    return plain(value, "argument", "of its graph")
