"""The catalogue of backbones: names, sizes, accuracies and layers.

Light: reads committed data and imports neither Keras nor TensorFlow, so pages and the CLI can use
it. `engine/models/make_catalogue.py` writes the data; `engine/models/modeling.py` builds the
networks.

    backbone = get("MobileNetV2", alpha=0.35)
    backbone.params, backbone.image_size, backbone.preprocessing   # 410208, 224, "tf"
    [block.name for block in blocks("MobileNetV2", 0.35)][:3]      # stem, expanded_conv, block_1

A new backbone is one line in `_FAMILIES`, one in make_catalogue's table of block names, and a run
of `python -m engine.models.make_catalogue`.
"""

from __future__ import annotations

import difflib
import functools
import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import BackboneError

DATA = Path(__file__).with_name("backbones.json.gz")
KERAS_PAGE = "https://keras.io/api/applications/"
MOBILENET_V1 = "https://arxiv.org/abs/1704.04861"
MOBILENET_V2 = "https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet"
MOBILENET_V3 = "https://arxiv.org/abs/1905.02244"
OURS = "this repository"


@dataclass(frozen=True)
class Layer:
    """One weight-bearing layer of a backbone.

    Attributes:
        name: the Keras layer's name.
        params: all its parameters, including moving statistics.
        batch_norm: whether it is a BatchNormalization layer.
        learnable: number of `params` that gradients can change. It is below `params` for batch
            normalization (moving statistics) and input normalization.
    """

    name: str
    params: int
    batch_norm: bool
    learnable: int


@dataclass(frozen=True)
class Block:
    """Layers that belong together, such as one inverted residual; the unit of `last N blocks`."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def params(self) -> int:
        """All parameters of the block, including moving statistics."""
        return sum(layer.params for layer in self.layers)


@dataclass(frozen=True)
class Backbone:
    """One entry of the catalogue, at one width.

    Attributes:
        name: as in a recipe, and in `keras.applications`.
        family: of networks described by one paper, for grouping.
        alphas: width multipliers with pretrained weights; empty if there is one width only.
        default_alpha: used when the recipe gives none; None if there is one width only.
        alpha: the width that this entry describes; None if there is one width only.
        params: parameters without the top, at `alpha`.
        image_size: height and width it was trained on, in pixels.
        min_image_size: the smallest it can be built for, in pixels.
        preprocessing: "tf" (pixels to -1..1), "torch" (ImageNet mean and deviation), "caffe"
            (blue-green-red, ImageNet mean) or "included" (done inside the network).
        top1: accuracy of the complete network on ImageNet's validation images, in percent, or None.
        weights_mb: size of the weights without the top in megabytes (4 bytes a parameter).
        features: channels of the last feature map, which is the length of the pooled vector.
        source: of `top1`.
        weights_file: the name of the downloaded file under KERAS_HOME/models, at `image_size`;
            None for a network without a download.
    """

    name: str
    family: str
    alphas: tuple[float, ...]
    default_alpha: float | None
    alpha: float | None
    params: int
    image_size: int
    min_image_size: int
    preprocessing: str
    top1: float | None
    weights_mb: float
    features: int
    source: str
    weights_file: str | None

    @property
    def title(self) -> str:
        """Name with width, for people: "MobileNetV2 0.35"."""
        return f"{self.name} {self.alpha:g}" if self.alpha else self.name


# family, preprocessing, smallest size, then name: (usual size, top-1 by the Keras page)
_FAMILIES = (
    ("GraftSmall", "tf", 32, {"GraftSmall": (96, None)}),
    ("MobileNetV2", "tf", 32, {"MobileNetV2": (224, 71.3)}),
    ("MobileNetV3", "included", 32, {"MobileNetV3Small": (224, 68.1),
                                     "MobileNetV3Large": (224, 75.6)}),
    ("MobileNet", "tf", 32, {"MobileNet": (224, 70.4)}),
    ("EfficientNetV2", "included", 32, {
        "EfficientNetV2B0": (224, 78.7), "EfficientNetV2B1": (240, 79.8),
        "EfficientNetV2B2": (260, 80.5), "EfficientNetV2B3": (300, 82.0),
        "EfficientNetV2S": (384, 83.9), "EfficientNetV2M": (480, 85.3),
        "EfficientNetV2L": (480, 85.7)}),
    ("EfficientNet", "included", 32, {
        "EfficientNetB0": (224, 77.1), "EfficientNetB1": (240, 79.1),
        "EfficientNetB2": (260, 80.1), "EfficientNetB3": (300, 81.6),
        "EfficientNetB4": (380, 82.9), "EfficientNetB5": (456, 83.6),
        "EfficientNetB6": (528, 84.0), "EfficientNetB7": (600, 84.3)}),
    ("Xception", "tf", 71, {"Xception": (299, 79.0)}),
    ("ResNet", "caffe", 32, {"ResNet50": (224, 74.9), "ResNet101": (224, 76.4),
                             "ResNet152": (224, 76.6)}),
    ("ResNetV2", "tf", 32, {"ResNet50V2": (224, 76.0), "ResNet101V2": (224, 77.2),
                            "ResNet152V2": (224, 78.0)}),
    ("DenseNet", "torch", 32, {"DenseNet121": (224, 75.0), "DenseNet169": (224, 76.2),
                               "DenseNet201": (224, 77.3)}),
    ("ConvNeXt", "included", 32, {
        "ConvNeXtTiny": (224, 81.3), "ConvNeXtSmall": (224, 82.3), "ConvNeXtBase": (224, 85.3),
        "ConvNeXtLarge": (224, 86.3), "ConvNeXtXLarge": (224, 86.7)}),
    ("InceptionV3", "tf", 75, {"InceptionV3": (299, 77.9)}),
    ("InceptionResNetV2", "tf", 75, {"InceptionResNetV2": (299, 80.3)}),
    ("NASNet", "tf", 32, {"NASNetMobile": (224, 74.4), "NASNetLarge": (331, 82.5)}),
    ("VGG", "caffe", 32, {"VGG16": (224, 71.3), "VGG19": (224, 71.3)}),
)  # fmt: skip

# name: {width: (top-1, where it comes from)}; only widths with ImageNet weights are listed. The
# Keras page lists width 1 of the first two only.
_ALPHAS = {
    "MobileNet": {0.25: (50.6, MOBILENET_V1), 0.5: (63.7, MOBILENET_V1),
                  0.75: (68.4, MOBILENET_V1), 1.0: (70.4, KERAS_PAGE)},
    "MobileNetV2": {0.35: (60.3, MOBILENET_V2), 0.5: (65.4, MOBILENET_V2),
                    0.75: (69.8, MOBILENET_V2), 1.0: (71.3, KERAS_PAGE),
                    1.3: (74.4, MOBILENET_V2), 1.4: (75.0, MOBILENET_V2)},
    "MobileNetV3Small": {0.75: (65.4, MOBILENET_V3), 1.0: (68.1, MOBILENET_V3)},
    "MobileNetV3Large": {0.75: (73.3, MOBILENET_V3), 1.0: (75.6, MOBILENET_V3)},
}  # fmt: skip

# Sizes with their own weights in these families; all other sizes use those for 224.
_WEIGHT_SIZES = {"MobileNet": (128, 160, 192, 224), "MobileNetV2": (96, 128, 160, 192, 224)}


def catalogue() -> list[Backbone]:
    """All backbones at their default width: the built-in one first, then by family."""
    return [get(name) for _, _, _, members in _FAMILIES for name in members]


def names() -> list[str]:
    """Names of all backbones, in the catalogue's order."""
    return [name for _, _, _, members in _FAMILIES for name in members]


def variants() -> list[tuple[str, float | None]]:
    """Every name with every width: the entries of the data file."""
    return [(name, alpha) for name in names() for alpha in _ALPHAS.get(name, {None: None})]


def get(name: str, alpha: float | None = None) -> Backbone:
    """The catalogue's entry for a name and a width.

    Args:
        name: such as "MobileNetV2".
        alpha: one of the family's widths, or None for its default.

    Raises:
        BackboneError: for an unknown name, or a width the family does not have.
    """
    alpha = _check(name, alpha)
    family, preprocessing, smallest, members = next(f for f in _FAMILIES if name in f[3])
    size, top1 = members[name]
    source = OURS if name == "GraftSmall" else KERAS_PAGE
    if alpha is not None:
        top1, source = _ALPHAS[name][alpha]
    facts = _entry(name, alpha)
    return Backbone(
        name=name,
        family=family,
        alphas=tuple(_ALPHAS.get(name, ())),
        default_alpha=1.0 if name in _ALPHAS else None,
        alpha=alpha,
        params=facts["params"],
        image_size=size,
        min_image_size=smallest,
        preprocessing=preprocessing,
        top1=top1,
        weights_mb=round(facts["params"] * 4 / 1e6, 1),
        features=facts["features"],
        source=source,
        weights_file=facts["file"],
    )


def blocks(name: str, alpha: float | None = None) -> tuple[Block, ...]:
    """The backbone's blocks from input to output.

    Raises:
        BackboneError: as `get`.
    """
    return blocks_from_json(_entry(name, _check(name, alpha))["blocks"])


def weights_path(name: str, alpha: float | None = None, image_size: int = 224) -> Path | None:
    """The path where Keras looks for the ImageNet weights before it downloads them.

    Args:
        name, alpha: as in `get`.
        image_size: in pixels; MobileNet and MobileNetV2 have files for several sizes, but only
            for 224 if alpha is above 1 (keras issue 16452).

    Returns:
        The path, whether or not the file is there; None for GraftSmall, which needs no download.
    """
    entry = get(name, alpha)
    file = entry.weights_file
    if file and (entry.alpha or 1) <= 1 and image_size in _WEIGHT_SIZES.get(name, ()):
        file = file.replace("_224_", f"_{image_size}_")
    root = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    return root / "models" / file if file else None


def blocks_to_json(blocks: Sequence[Block]) -> list:
    """Blocks as plain lists, `[[block, [[layer, params, learnable, batch_norm], …]], …]`."""
    return [
        [b.name, [[x.name, x.params, x.learnable, int(x.batch_norm)] for x in b.layers]]
        for b in blocks
    ]


def blocks_from_json(data: list) -> tuple[Block, ...]:
    """The inverse of `blocks_to_json`."""
    return tuple(
        Block(name, tuple(Layer(n, p, bool(bn), learnable) for n, p, learnable, bn in layers))
        for name, layers in data
    )


def _check(name: str, alpha: float | None) -> float | None:
    """The width to use. Raises BackboneError, one sentence."""
    if name not in names():
        near = difflib.get_close_matches(str(name), names(), 3, 0.5)
        folded = {n.lower(): n for n in names()}
        near = [folded[str(name).lower()]] if str(name).lower() in folded else near
        hint = f"did you mean {' or '.join(near)}" if near else f"known are {', '.join(names())}"
        raise BackboneError(f"there is no backbone named {name!r}; {hint}")
    widths = tuple(_ALPHAS.get(name, ()))
    if alpha is None:
        return 1.0 if widths else None
    if not widths:
        having = ", ".join(_ALPHAS)
        raise BackboneError(
            f"{name} comes in one width, so backbone.alpha must be left out; {alpha:g} was given "
            f"(backbones with several widths: {having})"
        )
    if alpha not in widths:
        allowed = ", ".join(f"{w:g}" for w in widths)
        raise BackboneError(
            f"backbone.alpha of {name} must be one of {allowed}; {alpha:g} was given"
        )
    return float(alpha)


def data_key(name: str, alpha: float | None) -> str:
    """The data file's key for a variant: "MobileNetV2@0.35", "Xception"."""
    return name if alpha is None else f"{name}@{alpha:g}"


@functools.cache
def _data() -> dict:
    return json.loads(gzip.decompress(DATA.read_bytes()))


def _entry(name: str, alpha: float | None) -> dict:
    return _data()[data_key(name, alpha)]
