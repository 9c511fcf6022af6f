"""What computes features on this host: LiteRT on a CPU, TensorFlow on a GPU.

Heavy: imports Keras. On a CPU the frozen part is converted for LiteRT, which is several times
faster there than TensorFlow and differs from it by about 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from engine.features import cache
from engine.host.log import PhaseReport
from engine.host.parallel import cores, ordered_map
from engine.models import boundary, convert, litert, modeling
from engine.recipe import HeadSpec, Recipe

GPU_BATCH = 64

Images = Iterable[Callable[[], np.ndarray]]
"""Functions that give an image's pixels, uint8 array (size, size, 3)."""


@dataclass(frozen=True)
class Runtime:
    """A frozen part, ready to run.

    Attributes:
        name: "LiteRT, float32", or TensorFlow with its precision.
        network: hash of everything that decides what it gives for given pixels.
        run: computes flat float32 records, in the order of the images.
        close: releases the converted network.
    """

    name: str
    network: str
    run: Callable[[Images], Iterator[np.ndarray]]
    close: Callable[[], None]


def title_of(bundle: modeling.Bundle, trainable: str, size: int) -> str:
    """A frozen part for people: "MobileNetV2 0.35 frozen, 224 px"."""
    name = f"{bundle.name} {bundle.alpha:g}" if bundle.alpha else bundle.name
    words = "frozen" if trainable == "none" else f"frozen below {trainable}"
    return f"{name} {words}, {size} px"


def open_runtime(
    bundle: modeling.Bundle,
    recipe: Recipe,
    part: boundary.Cut,
    title: str,
    home: Path,
    report: PhaseReport,
) -> Runtime:
    """Prepares a frozen part for this host; close it after use.

    Args:
        bundle: the built model.
        recipe: its head is read.
        part: the Cut, whose prefix is run.
        title: of `title_of`.
        home: Graft's home, where a converted network is kept.
        report: shows progress.
    """
    network = network_key(bundle, part, recipe.head.pooling)
    if tf.config.list_physical_devices("GPU"):
        name = f"TensorFlow, {keras.config.dtype_policy().name}"
        return Runtime(name, network, lambda images: _in_batches(part.prefix, images), lambda: None)
    identity = {"title": title, "network": network, "runtime": "litert"}
    path, lock = cache.acquire(home, "networks", identity)
    model = path / "network.tflite"
    if not model.exists():
        report("features", "Converting the frozen part for this host, once", 0, None)
        convert.to_litert(_float32_prefix(bundle, recipe.head, part), model)
    interpreter = litert.Network(model)

    def run(images: Images) -> Iterator[np.ndarray]:
        def one(values):
            return np.concatenate([output.ravel() for output in interpreter(values())])

        return ordered_map(one, images, interpreter.threads)

    return Runtime("LiteRT, float32", network, run, lock.close)


def network_key(bundle: modeling.Bundle, part: boundary.Cut, pooling: str) -> str:
    """Hash of everything that decides what a frozen part gives for given pixels: the backbone, its
    weights, the boundary, the image size, preprocessing, pooling, and the versions of Keras and
    TensorFlow."""
    identity = sha256()
    for value in (
        bundle.name, bundle.alpha, bundle.preprocessing, bundle.image_size, part.place, part.shapes,
        pooling if part.place == () else None, keras.__version__, tf.__version__,
    ):  # fmt: skip
        identity.update(repr(value).encode())
    for weight in part.prefix.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        identity.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    return identity.hexdigest()


def _float32_prefix(bundle: modeling.Bundle, head: HeadSpec, part: boundary.Cut) -> keras.Model:
    """The frozen part in float32, which LiteRT runs whatever the stage trains in."""
    policy = keras.config.dtype_policy().name
    if policy == "float32":
        return part.prefix
    keras.config.set_dtype_policy("float32")
    try:
        return boundary.cut_at(modeling.rebuilt(bundle, head), part.place).prefix
    finally:
        keras.config.set_dtype_policy(policy)


def _in_batches(prefix: keras.Model, images: Images) -> Iterator[np.ndarray]:
    """Runs a Keras model over images; decoding runs ahead."""
    forward = tf.function(lambda x: keras.tree.flatten(prefix(x, training=False)))
    decoded = ordered_map(lambda values: values(), images, cores())
    while batch := list(islice(decoded, GPU_BATCH)):
        values = np.stack(batch).astype(np.float32)
        values = np.concatenate([values, np.zeros((GPU_BATCH - len(batch), *values.shape[1:]))])
        outputs = [np.asarray(o, np.float32) for o in forward(tf.constant(values, tf.float32))]
        for i in range(len(batch)):
            yield np.concatenate([output[i].ravel() for output in outputs])
