"""A network as a list of layers and operations, and which of them a stage leaves unchanged.

Heavy: works on Keras models.
"""

from __future__ import annotations

from typing import Any

import keras

Operations = list[tuple[Any, list, list]]
"""(operation, input tensors, output tensors), from input to output."""


def leaf_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model from input to output, with nested models opened."""
    leaves = []
    for layer in model.layers:
        leaves += leaf_layers(layer) if hasattr(layer, "layers") else [layer]
    return leaves


def copy(network: keras.Model, size: int, names: dict[str, str] | None = None) -> keras.Model:
    """A new network with the same weights, under the current precision policy.

    Args:
        network: a backbone.
        size: height and width of the images it will take, in pixels.
        names: new names of layers by their old ones; the others keep theirs.
    """
    policy, names = keras.config.dtype_policy().name, names or {}

    def renew(layer):
        config = layer.get_config()
        config |= {"name": names.get(layer.name, layer.name), "dtype": policy}
        if "trainable" in config:
            config["trainable"] = True
        return layer.__class__.from_config(config)

    made = keras.models.clone_model(
        network,
        input_tensors=keras.Input((size, size, 3), name="backbone_input"),
        clone_function=renew,
        recursive=True,
    )
    made.set_weights(network.get_weights())
    for leaf in leaf_layers(made):
        if isinstance(leaf, keras.layers.Normalization) and leaf.weights:
            leaf.finalize_state()
    return made


def operations(backbone: keras.Model) -> Operations | None:
    """The operations of a Keras model in order; None where one is used twice, so that its place is
    not unique."""
    try:
        return [
            (operation, _flat(getattr(operation, "input", None)), _flat(operation.output))
            for operation in backbone.operations
        ]
    except (AttributeError, ValueError):  # Keras refuses to name the tensors of a shared layer
        return None


def live_operations(operations: Operations) -> set[int]:
    """Positions of the operations whose output changes while a stage runs.

    Args:
        operations: of a backbone, after `engine.models.modeling.apply_stage`.
    """
    live, changing = set(), set()
    for place, (operation, inputs, outputs) in enumerate(operations):
        learns = bool(getattr(operation, "trainable_weights", ()))
        if learns or any(id(tensor) in changing for tensor in inputs):
            live.add(place)
            changing |= {id(tensor) for tensor in outputs}
    return live


def _flat(tensors) -> list:
    return [] if tensors is None else list(keras.tree.flatten(tensors))
