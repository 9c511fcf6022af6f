"""Writes backbones.json.gz from the installed Keras: `python -m engine.models.make_catalogue`.

Heavy. Run it when Keras, GraftSmall or the list of backbones changes. Each network is built without
weights, so nothing is downloaded.
"""

from __future__ import annotations

import gzip
import inspect
import json
import math
import re

import keras

from engine.models import backbones
from engine.models.backbones import Block, Layer
from engine.models.graph import leaf_layers

# family: (pattern, block) pairs, tried in order; \1 is the first group. A layer that matches none
# (Keras numbers it automatically) belongs to the block of the layer before it.
BY_NAME = {
    "GraftSmall": [(r"^([a-z]+\d*)_", r"\1")],
    "MobileNet": [(r"^conv1", "stem"), (r"^conv_(?:dw|pw)_(\d+)", r"block_\1")],
    "MobileNetV2": [
        (r"^(Conv1|bn_Conv1)", "stem"), (r"^Conv_1", "top"),
        (r"^(expanded_conv|block_\d+)_", r"\1")],
    "MobileNetV3": [
        (r"^(conv|conv_bn)$", "stem"), (r"^conv_1", "top"), (r"^(expanded_conv(?:_\d+)?)_", r"\1")],
    "EfficientNet": [
        (r"^(normalization|stem_)", "stem"), (r"^(block\d+[a-z]+)_", r"\1"), (r"^top_", "top")],
    "ResNet": [(r"^conv1_", "stem"), (r"^(conv\d+_block\d+)_", r"\1"), (r"^post_bn", "top")],
    "DenseNet": [(r"^conv1_", "stem"), (r"^(conv\d+)_block", r"\1"), (r"^(pool\d+)_", r"\1"),
                 (r"^bn$", "top")],
    "Xception": [(r"^(block\d+)_", r"\1")],
    "VGG": [(r"^(block\d+)_", r"\1")],
    "ConvNeXt": [
        (r"_(stage_\d+_block_\d+)_", r"\1"), (r"_downsampling_\w+_(\d+)$", r"downsampling_\1"),
        (r"_stem_", "stem"), (r"^layer_normalization", "top")],
    "NASNet": [(r"^stem_", "stem"), (r"_(stem_\d+|reduce_\d+)$", r"\1"), (r"_(\d+)$", r"cell_\1")],
}  # fmt: skip
BY_NAME["EfficientNetV2"] = BY_NAME["EfficientNet"]
BY_NAME["ResNetV2"] = BY_NAME["ResNet"]

# Inception's layers are numbered automatically, but each module ends in a named layer; the stem
# ends in its second pooling.
BY_END = {
    "InceptionV3": [(r"^max_pooling2d_1$", "stem"), (r"^(mixed\d+)$", r"\1")],
    "InceptionResNetV2": [
        (r"^max_pooling2d_1$", "stem"), (r"^(mixed_\w+)$", r"\1"),
        (r"^(block\d+_\d+)_ac$", r"\1"), (r"^(block8_10)_conv$", r"\1"),  # the last has no _ac
        (r"^conv_7b_ac$", "top")],
}  # fmt: skip


def read_blocks(model: keras.Model, family: str) -> tuple[Block, ...]:
    """Groups a Keras model's weight-bearing layers into the family's natural blocks."""
    leaves = leaf_layers(model)
    named = BY_NAME.get(family) or BY_END[family]
    names = [""] * len(leaves)
    order = range(len(leaves)) if family in BY_NAME else reversed(range(len(leaves)))
    current = "stem" if family in BY_NAME else "top"
    for i in order:
        current = names[i] = _match(leaves[i].name, named) or current
    grouped: dict[str, list[Layer]] = {}
    for leaf, block in zip(leaves, names, strict=True):
        if leaf.weights:
            grouped.setdefault(block, []).append(_layer(leaf))
    return tuple(Block(name, tuple(layers)) for name, layers in grouped.items())


def build_plain(name: str, alpha: float | None, size: int | None = None) -> keras.Model:
    """A catalogue network with random weights and no top, in a cleared Keras session."""
    keras.backend.clear_session()  # so that Keras starts numbering layers again
    shape = (size, size, 3) if size else None
    if name == "GraftSmall":
        from engine.models.builtin import network

        return network.build(shape or (96, 96, 3))
    options = {} if alpha is None else {"alpha": alpha}
    make = getattr(keras.applications, name)
    return make(weights=None, include_top=False, input_shape=shape, **options)


def weights_file(name: str, alpha: float | None, size: int) -> str | None:
    """The name of the file that Keras would download; nothing is downloaded."""
    from keras.src.utils import file_utils

    if name == "GraftSmall":
        return None

    class Asked(Exception):
        pass

    def note(*args, **kwargs):
        bound = inspect.signature(original).bind(*args, **kwargs)
        raise Asked(bound.arguments["fname"])

    original, file_utils.get_file = file_utils.get_file, note
    options = {} if alpha is None else {"alpha": alpha}
    try:
        getattr(keras.applications, name)(
            weights="imagenet", include_top=False, input_shape=(size, size, 3), **options
        )
    except Asked as asked:
        return str(asked)
    finally:
        file_utils.get_file = original
    raise AssertionError(f"{name} asked for no weights")


def entry(name: str, alpha: float | None, family: str, size: int) -> dict:
    """The data file's entry for one variant."""
    model = build_plain(name, alpha)
    return {
        "params": model.count_params(),
        "features": model.output_shape[-1],
        "file": weights_file(name, alpha, size),
        "blocks": backbones.blocks_to_json(read_blocks(model, family)),
    }


def _match(name: str, patterns: list[tuple[str, str]]) -> str | None:
    for pattern, block in patterns:
        match = re.search(pattern, name)
        if match:
            return match.expand(block)
    return None


def _layer(leaf: keras.Layer) -> Layer:
    learnable = sum(math.prod(v.shape) for v in leaf.trainable_weights)
    is_norm = isinstance(leaf, keras.layers.BatchNormalization)
    return Layer(leaf.name, leaf.count_params(), is_norm, learnable)


def main() -> None:
    """Builds every variant and writes the data file."""
    data = {}
    for family, _, _, members in backbones._FAMILIES:
        for name, (size, _) in members.items():
            for variant, alpha in backbones.variants():
                if variant == name:
                    key = backbones.data_key(name, alpha)
                    data[key] = entry(name, alpha, family, size)
                    print(f"{key}: {len(data[key]['blocks'])} blocks", flush=True)
    text = json.dumps(data, separators=(",", ":"))
    backbones.DATA.write_bytes(
        gzip.compress(text.encode(), 9, mtime=0)
    )  # the same bytes every time
    print(f"{backbones.DATA}: {backbones.DATA.stat().st_size / 1000:.0f} kB, {len(text)} unpacked")


if __name__ == "__main__":
    main()
