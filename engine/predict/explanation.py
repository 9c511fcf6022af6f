"""Explains an answer: heat maps over the image, and the training images nearest to it.

Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", ICCV) weighs the channels of the last feature map by the gradient of a
class's logit, averaged over places. Only the head lies between pooling and logits, and its gradient
takes a few lines, so no TensorFlow is needed. With a head of one linear layer, Grad-CAM is the
class activation map (Zhou et al. 2016, CVPR).

Occlusion (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", ECCV)
covers one patch after another and measures how much the class's probability falls. It is slower,
and works for any network.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from engine import home as homes
from engine.errors import DamagedFile, RunError
from engine.host.parallel import ordered_map
from engine.images import decode
from engine.predict import embedding
from engine.runs import files

if TYPE_CHECKING:
    from engine.predict.classifier import Answer, Classifier
    from engine.predict.reference import Reference
    from engine.runs.runs import Run

HEAD = files.HEAD
PATCHES = 8
"""Patches along each side. Occlusion covers two by two at a time, so covers overlap by half."""
NEAREST = 5
"""Nearest training images that are shown."""


def write_head(model: Any, folder: Path) -> None:
    """Writes the weights behind pooling to head.npz in a run's folder, for `grad_cam`.

    Args:
        model: the run's `keras.Model`, with a layer "logits" and possibly a layer "hidden". (Pages
            import this module, so its type cannot be named: they never load Keras.)
        folder: the run's.
    """
    weights: dict[str, Any] = {}
    for name in ("hidden", "logits"):
        layer = next((layer for layer in model.layers if layer.name == name), None)
        if layer is not None:
            kernel, bias = (np.asarray(value, np.float32) for value in layer.get_weights())
            weights |= {f"{name}_kernel": kernel, f"{name}_bias": bias}
    with homes.replacing(folder / HEAD, "wb") as file:
        np.savez(file, **weights)


def grad_cam(run: Run, answer: Answer, label: str) -> np.ndarray:
    """Regions of the image that support a class, by the last feature map.

    Args:
        run: the answer's Run.
        answer: with its feature map (`Classifier.stream(keep_maps=True)`).
        label: one of the run's classes.

    Returns:
        float32 array (height, width) of the feature map, 0 to 1; all 0 where nothing supports it.

    Raises:
        RunError: if the run has no head.npz, or it is damaged.
    """
    weights = _gradient(_head(run), answer.features, answer.classes.index(label))
    # Pooling spreads the gradient over the places, evenly or onto the largest. Its mean is the same
    # up to a factor, which scaling to 1 removes.
    heat = np.maximum(0, answer.feature_map @ weights)
    return (heat / max(float(heat.max()), 1e-12)).astype(np.float32)


def _head(run) -> dict:
    path = run.path / HEAD
    try:
        with np.load(run.checked(HEAD), allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise RunError(
            f"run {run.id} has no {HEAD}, which earlier versions of Graft did not write; choose "
            "occlusion, or train it again"
        ) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        why = error.why if isinstance(error, DamagedFile) else error
        raise RunError(
            f"{path} is damaged ({why}); choose occlusion instead, or restore it: "
            "python -m engine doctor --fix"
        ) from None


def _gradient(head, features, place) -> np.ndarray:
    """Gradient of a class's logit by the pooled features, float32 array (features,)."""
    towards = head["logits_kernel"][:, place]
    if "hidden_kernel" in head:
        active = features @ head["hidden_kernel"] + head["hidden_bias"] > 0  # ReLU
        towards = head["hidden_kernel"] @ (towards * active)
    return towards


def occlusion(
    classifier: Classifier,
    image: Image.Image,
    label: str,
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """Regions of the image that support a class, found by covering them.

    Args:
        classifier: of the run.
        image: mode RGB, as read.
        label: one of its classes.
        progress: called with (done, total).

    Returns:
        float32 array (PATCHES, PATCHES), 0 to 1: how much the class's probability falls when the
        region is covered with the image's mean colour, relative to the largest fall; all 0 where it
        never falls.
    """
    pixels = decode.to_pixels(image, classifier.size, classifier.resize)
    place = classifier.classes.index(label)
    edges = np.linspace(0, classifier.size, PATCHES + 1).round().astype(int)
    mean = pixels.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    spots = [(row, column) for row in range(PATCHES - 1) for column in range(PATCHES - 1)]

    def probability(spot):
        covered = pixels.copy()
        if spot is not None:
            row, column = spot
            covered[edges[row] : edges[row + 2], edges[column] : edges[column + 2]] = mean
        return float(classifier.outputs(covered)[0][place])

    heat, times = np.zeros((PATCHES, PATCHES)), np.zeros((PATCHES, PATCHES))
    found = ordered_map(probability, [None, *spots], classifier.threads)
    whole = next(found)
    for done, (spot, covered) in enumerate(zip(spots, found, strict=True), 1):
        own = (slice(spot[0], spot[0] + 2), slice(spot[1], spot[1] + 2))
        heat[own] += whole - covered
        times[own] += 1
        if progress:
            progress(done, len(spots))
    heat = np.maximum(0, heat / times)
    return (heat / max(float(heat.max()), 1e-12)).astype(np.float32)


def overlay(
    image: Image.Image, heat: np.ndarray, opacity: float, longest: int = 400
) -> Image.Image:
    """Lays a heat map over its image.

    Args:
        image: mode RGB.
        heat: float array (height, width), 0 to 1.
        opacity: of the hottest regions, 0 to 1; cold ones stay clear.
        longest: longest side of the result, pixels.

    Returns:
        A PIL image of mode RGB.
    """
    scale = longest / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    # In floating point: with 256 levels, so few values would leave edges where the heat fades.
    large = Image.fromarray(np.asarray(heat, np.float32)).resize(size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(large), 0, 1)
    cover = (opacity * np.minimum(1, 1.5 * heat))[..., None]
    mixed = (1 - cover) * np.asarray(image, np.float32) + cover * _colours(heat)
    return Image.fromarray(mixed.round().astype(np.uint8))


_ANCHORS = np.array(
    [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32
)
"""Five colours of Inferno (S. van der Walt and N. Smith, 2015, for Matplotlib): hotter is brighter,
which shows without seeing colours."""


def _colours(heat) -> np.ndarray:
    """float32 array (height, width, 3), 0 to 255, of values 0 to 1."""
    places = np.linspace(0, 1, len(_ANCHORS))
    return np.stack([np.interp(heat, places, _ANCHORS[:, c]) for c in range(3)], axis=-1)


def nearest(known: Reference, features: np.ndarray, count: int = NEAREST) -> list[dict]:
    """The training images whose features are nearest to an image's.

    Args:
        known: the run's reference.
        features: float array (width,), raw pooled features of an `Answer`.
        count: how many.

    Returns:
        List of dicts, nearest first: row (of the reference), label, name, distance (Euclidean
        between normalised features, 0 to 2).
    """
    rows = known.rows("train")
    own = embedding.normalised(np.asarray(features, np.float32)[None])[0]
    alike = known.features[rows] @ own
    best = rows[np.argsort(-alike, kind="stable")[:count]]
    return [
        {
            "row": int(row),
            "label": known.classes[known.labels[row]],
            "name": str(known.names[row]),
            "distance": float(np.sqrt(max(0.0, 2 - 2 * float(known.features[row] @ own)))),
        }
        for row in best
    ]
