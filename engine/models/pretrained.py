"""Where a backbone's weights come from: ImageNet, a local file, another run, or nowhere.

Heavy: imports Keras. `engine.models.modeling.build` is the way in.
"""

import re
import socket
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from engine.errors import BackboneError, GraftError, RecipeError
from engine.home import home as graft_home
from engine.home import read_json
from engine.models import backbones

STALLED_AFTER = 20  # seconds without a byte before a download counts as failed
_DEVIATION = np.array([0.229, 0.224, 0.225])  # of ImageNet's pixels in 0..1, red-green-blue


def backbone(spec, size: int, home=None) -> tuple[dict, keras.Model]:
    """The backbone of a recipe with its weights.

    Args:
        spec: the recipe's `backbone`.
        size: height and width of the images in pixels.
        home: Graft's home, for a backbone named run:ID; None for the usual one.

    Returns:
        What is known of it (name, alpha, preprocessing, blocks, min_image_size) and the Keras
        model, input (size, size, 3), output the last feature map, layers named as in `blocks`.

    Raises:
        BackboneError: an unknown backbone, or weights that cannot be had.
        RecipeError: for `image_size`, below what the backbone takes.
    """
    if spec.name.startswith("run:"):
        return _from_run(spec.name[4:], size, home)
    entry = backbones.get(spec.name, spec.alpha)
    _check_size(spec.name, size, entry.min_image_size)
    known = {
        "name": entry.name,
        "alpha": entry.alpha,
        "preprocessing": entry.preprocessing,
        "blocks": backbones.blocks(entry.name, entry.alpha),
        "min_image_size": entry.min_image_size,
    }
    return known, _renamed(_with_weights(entry, spec.weights, size), known["blocks"])


def leaf_layers(model) -> list:
    """The layers of a model from input to output, nested models opened."""
    leaves = []
    for layer in model.layers:
        leaves += leaf_layers(layer) if hasattr(layer, "layers") else [layer]
    return leaves


def _with_weights(entry, weights, size) -> keras.Model:
    if weights == "imagenet":
        return _imagenet(entry, size)
    model = _plain(entry, size)
    if weights == "builtin":
        from engine.models.builtin import network

        try:
            network.load_weights(model)
        except (OSError, ValueError) as error:
            raise BackboneError(
                f"GraftSmall's built-in weights do not load ({_first_line(error)}); install Graft "
                "again, or set backbone.weights to none or a file"
            ) from error
    elif weights != "none":
        _load_file(model, Path(weights).expanduser(), entry)
    return model


def _plain(entry, size, weights=None) -> keras.Model:
    shape = (size, size, 3)
    if entry.name == "GraftSmall":
        from engine.models.builtin import network

        return network.build(shape)
    options = {} if entry.alpha is None else {"alpha": entry.alpha}
    make = getattr(keras.applications, entry.name)
    with warnings.catch_warnings():
        # MobileNets warn that a size without weights of its own takes those for 224; it is meant.
        warnings.filterwarnings("ignore", message=".*input_shape.*")
        return make(include_top=False, weights=weights, input_shape=shape, **options)


def _imagenet(entry, size) -> keras.Model:
    path = backbones.weights_path(entry.name, entry.alpha, size)
    had = path.exists()
    try:
        with _stalling_fails():
            if (entry.alpha or 1) > 1:
                # Keras would ask for a file of this size, which was never published.
                return copy(_plain(entry, entry.image_size, "imagenet"), size)
            return _plain(entry, size, "imagenet")
    except Exception as error:  # Keras raises a bare Exception for a failed download
        offline = (
            f"put the file {path.name} into {path.parent}, set backbone.weights to a local weights "
            "file, or choose GraftSmall, which needs no network"
        )
        if had and path.exists():
            problem = f"the file {path} does not load ({_first_line(error)}); remove it, or"
            raise BackboneError(
                f"the ImageNet weights of {entry.title} could not be read: {problem} {offline}"
            ) from error
        raise BackboneError(
            f"the ImageNet weights of {entry.title} could not be downloaded "
            f"({_first_line(error)}); {offline}"
        ) from error


@contextmanager
def _stalling_fails():
    """Gives sockets a timeout: Keras downloads without one and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED_AFTER)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _load_file(model, path, entry):
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
            f"({_first_line(error)}); choose the backbone it was made for, or weights without top"
        ) from error
    if entry.family == "EfficientNet":
        _as_imagenet_input(model)


def _as_imagenet_input(model):
    """Gives EfficientNet B0 to B7 from a file the input scaling of its ImageNet weights.

    Keras divides the normalized input by sqrt(deviation) once more, but only when it is told
    weights="imagenet"; multiplying the variance by the deviation gives the same input.
    """
    layer = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
    if layer.count_params() and not np.allclose(layer.get_weights()[0], 0):
        mean, variance, *count = layer.get_weights()
        layer.set_weights([mean, variance * _DEVIATION, *count])
        layer.finalize_state()  # the layer computes with a copy of its weights


def _part_like(loaded, model):
    """`loaded` itself or the model nested in it whose weights have the shapes of `model`'s."""
    wanted = [tuple(w.shape) for w in model.weights]
    parts = [loaded, *(x for x in loaded.layers if isinstance(x, keras.Model))]
    for part in parts:
        if [tuple(w.shape) for w in part.weights] == wanted:
            return part
    raise ValueError("no part of it has the same weights")


def _from_run(run, size, home) -> tuple[dict, keras.Model]:
    """The backbone of a finished run, fine-tuned as it is."""
    folder = graft_home(home) / "runs" / run
    known = read_json(folder / "architecture.json") if re.fullmatch(r"[\w.-]+", run) else None
    file = folder / "final.keras"
    if known is None or not file.is_file():
        raise BackboneError(
            f"backbone run:{run} needs a finished run with that ID in {folder.parent}; it has no "
            "final model there (the Runs page lists the finished ones)"
        )
    origin = f"run:{run}"
    _check_size(origin, size, known["min_image_size"])
    try:
        loaded = keras.models.load_model(file, compile=False, safe_mode=True)
        nested = loaded.get_layer(known["backbone"]["layer"])
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BackboneError(
            f"the final model of {origin} does not load ({_first_line(error)}); choose another run"
        ) from error
    parts = {
        "name": known["backbone"]["name"],
        "alpha": known["backbone"]["alpha"],
        "preprocessing": known["preprocessing"],
        "blocks": backbones.blocks_from_json(known["blocks"]),
        "min_image_size": known["min_image_size"],
    }
    return parts, copy(nested, size)


def _renamed(backbone, blocks) -> keras.Model:
    """Holds a backbone's layers to the names in its block table.

    Keras numbers some layers (conv2d_7) through the whole process, so a second Inception has other
    names than the table; the order is the same.
    """
    have = [leaf.name for leaf in leaf_layers(backbone) if leaf.weights]
    want = [layer.name for block in blocks for layer in block.layers]
    if sorted(have) == sorted(want):
        return backbone
    if len(have) != len(want):
        raise GraftError(
            f"the catalogue lists {len(want)} layers of {backbone.name}, Keras builds {len(have)}; "
            "run python -m engine.models.make_catalogue to match the installed Keras"
        )
    return copy(backbone, backbone.input_shape[1], dict(zip(have, want, strict=True)))


def copy(backbone, size, names=None) -> keras.Model:
    """A new backbone with the same weights, for an image size, under the precision policy set."""
    policy, names = keras.config.dtype_policy().name, names or {}

    def renew(layer):
        config = layer.get_config()
        config |= {"name": names.get(layer.name, layer.name), "dtype": policy}
        if "trainable" in config:
            config["trainable"] = True
        return layer.__class__.from_config(config)

    made = keras.models.clone_model(
        backbone,
        input_tensors=keras.Input((size, size, 3), name="backbone_input"),
        clone_function=renew,
        recursive=True,
    )
    made.set_weights(backbone.get_weights())
    for leaf in leaf_layers(made):
        if isinstance(leaf, keras.layers.Normalization) and leaf.weights:
            leaf.finalize_state()
    return made


def _check_size(name, size, smallest):
    if size < smallest:
        raise RecipeError({
            "image_size": f"must be at least {smallest} for {name}; {size} was given"
        })  # fmt: skip


def _first_line(error) -> str:
    """The first line of an error, short enough for one sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 160 else text[:157] + "…"
