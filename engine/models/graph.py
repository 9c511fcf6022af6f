"""A network as a list of operations, and which of them a stage leaves as they are.

Heavy: works on Keras models.
"""

import keras


def operations(backbone) -> list[tuple] | None:
    """(operation, input tensors, output tensors) of a Keras model, in order; None where an operation is
    used twice, so that it has no one place."""
    try:
        return [
            (operation, _flat(getattr(operation, "input", None)), _flat(operation.output))
            for operation in backbone.operations
        ]
    except (AttributeError, ValueError):  # Keras refuses to name the tensors of a shared layer
        return None


def _flat(tensors) -> list:
    return [] if tensors is None else list(keras.tree.flatten(tensors))


def live_operations(bundle) -> set[int]:
    """Positions in `bundle.graph` of the operations whose output changes while the stage runs.

    Args:
        bundle: after `engine.models.modeling.apply_stage`.
    """
    live, changing = set(), set()
    for place, (operation, inputs, outputs) in enumerate(bundle.graph):
        learns = bool(getattr(operation, "trainable_weights", ()))
        if learns or any(id(tensor) in changing for tensor in inputs):
            live.add(place)
            changing |= {id(tensor) for tensor in outputs}
    return live
