"""The catalogue's backbones, with weights from ImageNet, a local file, this repository, or random.

Heavy: imports Keras.
"""

from __future__ import annotations

import importlib
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from engine import roots
from engine.errors import BackboneError, GraftError
from engine.home import home as graft_home
from engine.models import backbones, graph
from engine.models.sources.source import Backbone, check_size, first_line
from engine.recipe import BackboneSpec

READ = "engine.imports.weights:read"
"""What reads a weights file, named like the kinds of background work: the checks of foreign files
are those of imports, which stand on a higher floor."""
STALLED_AFTER = 20
"""Seconds without a byte before a download counts as failed."""
_DEVIATION = np.array([0.229, 0.224, 0.225])  # of ImageNet's pixels in 0..1, red-green-blue


def build(spec: BackboneSpec, size: int, home: Path | None = None) -> Backbone:
    """A backbone of the catalogue with its weights.

    Args:
        spec: the recipe's `backbone`.
        size: height and width of the images in pixels.
        home: Graft's home, where a weights file is copied to while it is checked; None for the
            usual one.

    Raises:
        BackboneError: an unknown backbone, or weights that are not available.
        RecipeError: for an image size below the backbone's minimum.
    """
    entry = backbones.get(spec.name, spec.alpha)
    check_size(spec.name, size, entry.min_image_size)
    blocks = backbones.blocks(entry.name, entry.alpha)
    return Backbone(
        _renamed(_with_weights(entry, spec, size, home), blocks),
        entry.name,
        entry.alpha,
        entry.preprocessing,
        blocks,
        entry.min_image_size,
    )


def _with_weights(
    entry: backbones.Backbone, spec: BackboneSpec, size: int, home: Path | None
) -> keras.Model:
    if spec.weights == "imagenet":
        return _imagenet(entry, size)
    model = plain(entry, size)
    if spec.weights == "builtin":
        from engine.models.builtin import network

        try:
            network.load_weights(model)
        except (OSError, ValueError) as error:
            raise BackboneError(
                f"GraftSmall's built-in weights do not load ({first_line(error)}); install Graft "
                "again, or set backbone.weights to none or a file"
            ) from error
    elif file := spec.weights_file:
        _load_file(model, Path(os.path.expanduser(file)), entry, graft_home(home))
    return model


def plain(entry: backbones.Backbone, size: int, weights: str | None = None) -> keras.Model:
    """A backbone without its top, with random weights or those of ImageNet.

    Args:
        entry: of the catalogue.
        size: height and width of the images in pixels.
        weights: "imagenet", which Keras downloads, or None.
    """
    shape = (size, size, 3)
    if entry.name == "GraftSmall":
        from engine.models.builtin import network

        return network.build(shape)
    options = {} if entry.alpha is None else {"alpha": entry.alpha}
    make = getattr(keras.applications, entry.name)
    with warnings.catch_warnings():
        # MobileNets warn that sizes without their own weights use those for 224; this is intended.
        warnings.filterwarnings("ignore", message=".*input_shape.*")
        return make(include_top=False, weights=weights, input_shape=shape, **options)


def _imagenet(entry: backbones.Backbone, size: int) -> keras.Model:
    path = backbones.weights_path(entry.name, entry.alpha, size)
    assert path is not None  # a recipe asks for ImageNet weights only where there are some
    had = path.exists()
    try:
        with _stalling_fails():
            if (entry.alpha or 1) > 1:
                # Keras would ask for a file of this size, which was never published.
                return graph.copy(plain(entry, entry.image_size, "imagenet"), size)
            return plain(entry, size, "imagenet")
    except Exception as error:  # Keras raises a bare Exception for a failed download
        offline = (
            f"put the file {path.name} into {path.parent}, set backbone.weights to a local weights "
            "file, or choose GraftSmall, which needs no network"
        )
        if had and path.exists():
            problem = f"the file {path} does not load ({first_line(error)}); remove it, or"
            raise BackboneError(
                f"the ImageNet weights of {entry.title} could not be read: {problem} {offline}"
            ) from error
        raise BackboneError(
            f"the ImageNet weights of {entry.title} could not be downloaded "
            f"({first_line(error)}); {offline}"
        ) from error


@contextmanager
def _stalling_fails() -> Iterator[None]:
    """Gives sockets a timeout: Keras downloads without one and would wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED_AFTER)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _load_file(model: keras.Model, path: Path, entry: backbones.Backbone, home: Path) -> None:
    """Fills `model` from a local file, or raises BackboneError in one sentence."""
    roots.check(path, BackboneError)
    kinds = ".weights.h5, .h5 or .keras"
    if not path.is_file():
        raise BackboneError(
            f"backbone.weights must be imagenet, none or a file ({kinds}); there is no file {path}"
        )
    if path.suffix not in (".h5", ".keras"):
        raise BackboneError(f"a weights file must end in {kinds}; {path.name} does not")
    module, function = READ.split(":")
    try:
        read = getattr(importlib.import_module(module), function)
        model.set_weights(read(path, entry, model.input_shape[1], home))
    except (GraftError, ValueError) as error:  # ValueError: other shapes
        raise BackboneError(
            f"the weights file {path} is not used: {first_line(error)}; choose the backbone it was "
            "made for, or weights without top"
        ) from error
    except OSError as error:
        raise BackboneError(f"the weights file {path} cannot be read ({error.strerror})") from error
    if entry.family == "EfficientNet":
        _as_imagenet_input(model)


def _as_imagenet_input(model: keras.Model) -> None:
    """Gives EfficientNet B0 to B7 from a file the input scaling of its ImageNet weights.

    Keras divides the normalized input by sqrt(deviation) once more, but only for
    weights="imagenet"; multiplying the variance by the deviation gives the same input.
    """
    layer = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
    if layer.count_params() and not np.allclose(layer.get_weights()[0], 0):
        mean, variance, *count = layer.get_weights()
        layer.set_weights([mean, variance * _DEVIATION, *count])
        layer.finalize_state()  # the layer computes with a copy of its weights


def _renamed(backbone: keras.Model, blocks: tuple[backbones.Block, ...]) -> keras.Model:
    """A backbone whose layers have the names in its block table.

    Keras numbers some layers (conv2d_7) through the whole process, so a second Inception has
    different names; the order is the same.
    """
    have = [leaf.name for leaf in graph.leaf_layers(backbone) if leaf.weights]
    want = [layer.name for block in blocks for layer in block.layers]
    if sorted(have) == sorted(want):
        return backbone
    if len(have) != len(want):
        raise GraftError(
            f"the catalogue lists {len(want)} layers of {backbone.name}, Keras builds {len(have)}; "
            "run python -m engine.models.make_catalogue to match the installed Keras"
        )
    return graph.copy(backbone, backbone.input_shape[1], dict(zip(have, want, strict=True)))
