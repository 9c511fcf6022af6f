"""The catalogue's backbones, with weights from ImageNet, a local file, this repository, or random.

Heavy: imports Keras.
"""

from __future__ import annotations

import socket
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from engine.errors import BackboneError, GraftError
from engine.models import backbones, graph
from engine.models.sources.source import Backbone, check_size, first_line
from engine.recipe import BackboneSpec

STALLED_AFTER = 20
"""Seconds without a byte before a download counts as failed."""
_DEVIATION = np.array([0.229, 0.224, 0.225])  # of ImageNet's pixels in 0..1, red-green-blue


def build(spec: BackboneSpec, size: int, home: Path | None = None) -> Backbone:
    """A backbone of the catalogue with its weights.

    Args:
        spec: the recipe's `backbone`.
        size: height and width of the images in pixels.
        home: not used by this source.

    Raises:
        BackboneError: an unknown backbone, or weights that are not available.
        RecipeError: for an image size below the backbone's minimum.
    """
    entry = backbones.get(spec.name, spec.alpha)
    check_size(spec.name, size, entry.min_image_size)
    blocks = backbones.blocks(entry.name, entry.alpha)
    return Backbone(
        _renamed(_with_weights(entry, spec.weights, size), blocks),
        entry.name,
        entry.alpha,
        entry.preprocessing,
        blocks,
        entry.min_image_size,
    )


def _with_weights(entry: backbones.Backbone, weights: str | None, size: int) -> keras.Model:
    if weights == "imagenet":
        return _imagenet(entry, size)
    model = _plain(entry, size)
    if weights == "builtin":
        from engine.models.builtin import network

        try:
            network.load_weights(model)
        except (OSError, ValueError) as error:
            raise BackboneError(
                f"GraftSmall's built-in weights do not load ({first_line(error)}); install Graft "
                "again, or set backbone.weights to none or a file"
            ) from error
    elif weights and weights != "none":
        _load_file(model, Path(weights).expanduser(), entry)
    return model


def _plain(entry: backbones.Backbone, size: int, weights: str | None = None) -> keras.Model:
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
                return graph.copy(_plain(entry, entry.image_size, "imagenet"), size)
            return _plain(entry, size, "imagenet")
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


def _load_file(model: keras.Model, path: Path, entry: backbones.Backbone) -> None:
    """Fills `model` from a local file, or raises BackboneError in one sentence."""
    kinds = ".weights.h5, .h5 or .keras"
    if not path.is_file():
        raise BackboneError(
            f"backbone.weights must be imagenet, none or a file ({kinds}); there is no file {path}"
        )
    if path.suffix not in (".h5", ".keras"):
        raise BackboneError(f"a weights file must end in {kinds}; {path.name} does not")
    try:
        if path.suffix == ".keras":
            loaded = keras.models.load_model(path, compile=False, safe_mode=True)
            model.set_weights(_part_like(loaded, model).get_weights())
        else:
            model.load_weights(path)
    except (ValueError, OSError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise BackboneError(
            f"the file {path} does not fit {entry.title} without its top "
            f"({first_line(error)}); choose the backbone it was made for, or weights without top"
        ) from error
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


def _part_like(loaded: keras.Model, model: keras.Model) -> keras.Model:
    """`loaded` itself or the model nested in it whose weights have the shapes of `model`'s."""
    wanted = [tuple(w.shape) for w in model.weights]
    parts = [loaded, *(x for x in loaded.layers if isinstance(x, keras.Model))]
    for part in parts:
        if [tuple(w.shape) for w in part.weights] == wanted:
            return part
    raise ValueError("no part of it has the same weights")


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
