"""Names, numbers, shapes and calls in the configuration of a foreign Keras model. Light.

Each function returns a harmless value in the form that `engine.imports.config` writes, and raises
RunError with the reason for any other.
"""

from typing import Any

from engine.errors import RunError
from engine.host.words import shown

MAX_LAYERS = 3_000
MAX_COUNT = 65_536
"""Units, filters, and every other whole number of a layer."""
MAX_VALUES = 10_000
"""Numbers in a list of a layer, such as the means of a Normalization."""
ACTIVATIONS = {
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "hard_silu",
    "hard_swish", "sigmoid", "hard_sigmoid", "tanh", "softmax", "softplus", "softsign", "mish",
}  # fmt: skip
_WORDS = {
    "same", "valid", "channels_last", "bilinear", "nearest", "bicubic", "area", "reflect", "wrap",
    "constant", "horizontal", "vertical", "horizontal_and_vertical", "tf",
}  # fmt: skip
_UNJOINED = "its config.json does not say how its layers are connected"


def name(value: Any) -> str:
    """A layer's name."""
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise RunError("the name of a layer is missing or invalid")
    return value


def activation(value: Any) -> str:
    """An activation's name. Keras also writes one as an object of class "function"."""
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value.get("config")
    if value is None:
        return "linear"
    if not isinstance(value, str) or value not in ACTIVATIONS:
        given = shown(str(value.get("class_name") if isinstance(value, dict) else value))
        raise RunError(f"a layer calls {given}, which is not an activation that Graft knows")
    return value


def plain(value: Any, key: str, kind: str) -> Any:
    """A number, a flag, a known word, or nested lists of them.

    Args:
        value: from the file.
        key: its name, for messages.
        kind: class of its layer, for messages.
    """
    if value is None or isinstance(value, bool):
        return value
    where = f"a {kind} layer has {key}"
    if isinstance(value, int):
        if abs(value) > MAX_COUNT:
            raise RunError(f"{where} {value:,}; Graft accepts at most {MAX_COUNT:,}")
        return value
    if isinstance(value, float):
        if not abs(value) <= 1e12:
            raise RunError(f"{where} {value:g}, which is out of range")
        return value
    if isinstance(value, str):
        if value not in _WORDS:
            raise RunError(f"{where} {shown(value)!r}, which Graft does not know")
        return value
    if isinstance(value, list) and len(value) <= MAX_VALUES:
        return [plain(item, key, kind) for item in value]
    raise RunError(f"{where} that is not a plain value")


def shape(value: Any) -> list[int | None]:
    """A shape: batch, then sizes; None for any size."""
    if not isinstance(value, list) or not 2 <= len(value) <= 6:
        raise RunError("a layer does not state its input shape; load and save it with Keras 3")
    for size in value:
        if size is None:
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_COUNT:
            raise RunError(
                f"a layer has a shape that contains {shown(str(size))}; sizes are 1 to "
                f"{MAX_COUNT:,}"
            )
    return value


def written(shape: list[int | None]) -> str:
    """A shape for people."""
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def ends(value: Any) -> list[list]:
    """Inputs or outputs of a graph: a list of `history`. A single one may stand without a list."""
    rows = value if isinstance(value, list) else []
    rows = [rows] if rows and isinstance(rows[0], str) else rows
    if not 1 <= len(rows) <= 100:
        raise RunError("its config.json does not state the inputs and outputs of the network")
    return [history(row) for row in rows]


def history(row: Any) -> list:
    """Where a tensor comes from: layer name, node index, tensor index."""
    if not isinstance(row, list) or len(row) != 3:
        raise RunError(_UNJOINED)
    layer, *indices = row
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < MAX_LAYERS:
            raise RunError(_UNJOINED)
    return [name(layer), *indices]


def node(data: dict) -> dict:
    """One call of a layer."""
    arguments, named = data.get("args"), data.get("kwargs")
    if not isinstance(arguments, list) or not isinstance(named, dict):
        raise RunError(_UNJOINED)
    if others := set(named) - {"training", "mask", "x", "x1", "x2"}:
        raise RunError(f"a layer is called with {shown(min(others))!r}, which Graft does not know")
    return {
        "args": [argument(value) for value in arguments],
        "kwargs": {key: argument(value) for key, value in named.items()},
    }


def argument(value: Any) -> Any:
    """A tensor of the graph, a number, or nested lists of them."""
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
    return plain(value, "an argument", "graph")
