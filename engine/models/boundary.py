"""Where a stage's frozen part ends: the network is cut there into two parts that share its weights.

Heavy: imports Keras. Everything after the first weight that learns is live; the tensors that live
operations take from the rest are the boundary. A network with branches may have several.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from engine.models import graph, modeling


@dataclass
class Cut:
    """A network cut at a stage's freeze boundary.

    Attributes:
        prefix: from pixels to the boundary's tensors, or to the pooled features where the whole
            backbone is frozen. Nothing in it learns.
        suffix: from those to probabilities, with the network's own layers, which it trains.
        shapes: of the boundary's tensors, without the batch axis.
        place: positions of the boundary's operations in the backbone; () for the pooled features.
    """

    prefix: keras.Model
    suffix: keras.Model
    shapes: list[tuple[int, ...]]
    place: tuple[int, ...]

    @property
    def width(self) -> int:
        """Numbers in a record: all boundary tensors, one after another."""
        return sum(int(np.prod(shape)) for shape in self.shapes)


def cut(bundle: modeling.Bundle) -> Cut | None:
    """Cuts the network at the boundary of the current stage.

    Args:
        bundle: after `engine.models.modeling.apply_stage`.

    Returns:
        The Cut; None if nothing with weights is frozen, so there is nothing to gain.
    """
    place = _boundary(bundle)
    return None if place is None else cut_at(bundle, place)


def cut_at(bundle: modeling.Bundle, place: tuple[int, ...]) -> Cut:
    """Cuts the network at a known boundary.

    Args:
        bundle: a built model.
        place: see `Cut`.
    """
    if place == ():
        prefix = keras.Model(bundle.model.inputs[0], bundle.features)
        suffix = keras.Model(bundle.features, bundle.model.outputs[0], name="head_only")
        return Cut(prefix, suffix, [tuple(bundle.features.shape[1:])], ())
    assert bundle.graph is not None  # a boundary was found in it
    tensors = [bundle.graph[p][2][0] for p in place]
    inner = keras.Model(bundle.backbone.inputs[0], tensors)
    pixels = bundle.model.inputs[0]
    prefix = keras.Model(pixels, inner(modeling.preprocess(pixels, bundle.preprocessing)))
    shapes = [tuple(tensor.shape[1:]) for tensor in tensors]
    inputs = [keras.Input(s, name=f"boundary_{i}") for i, s in enumerate(shapes)]
    outer = keras.Model(tensors, bundle.backbone.outputs[0], name="unfrozen_part")
    x = outer(inputs if len(inputs) > 1 else inputs[0])
    for name in modeling.HEAD_LAYERS:
        layer = bundle.layer(name)
        if layer is not None:
            x = layer(x)
    return Cut(prefix, keras.Model(inputs, x, name="unfrozen"), shapes, place)


def _boundary(bundle: modeling.Bundle) -> tuple[int, ...] | None:
    if bundle.graph is None:
        return None
    live = graph.live_operations(bundle.graph)
    if not live:
        return ()
    frozen = [entry for place, entry in enumerate(bundle.graph) if place not in live]
    if not any(getattr(operation, "weights", ()) for operation, _, _ in frozen):
        return None
    needed = {id(t) for place in live for t in bundle.graph[place][1]}
    needed |= {id(bundle.backbone.outputs[0])}
    found = []
    for place, (_, inputs, outputs) in enumerate(bundle.graph):
        if place in live or not any(id(tensor) in needed for tensor in outputs):
            continue
        if len(outputs) > 1 or not inputs:
            return None  # the input itself is part of the boundary: nothing would be gained
        found.append(place)
    return tuple(found)
