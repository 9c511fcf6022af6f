"""Measures what the pretrained weights are worth: `python -m engine.builtin.transfer_check`.

The built-in backbone learns the sample dataset three times with the recipe of the preset `sample`:
from the pretrained weights, and from random weights with batch norm kept (the recipe to the letter)
and with batch norm updated (fairer to random weights, whose statistics mean nothing yet). It stands
on Keras alone, so that it also checks the training code of the engine from outside.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
from PIL import Image

from engine import sample
from engine.home import write_json

HERE = Path(__file__).parent
IMAGES, SIZE, BATCH = 600, 96, 32
FROZEN = {"epochs": 3, "learning_rate": 1e-2}
UNFROZEN = {"epochs": 10, "learning_rate": 3e-3, "weight_decay": 1e-4}
DROPOUT = 0.2
VARIANTS = {
    "pretrained, batch norm kept": ("builtin", "keep"),
    "random, batch norm kept": ("none", "keep"),
    "random, batch norm updated": ("none", "update"),
}


def pictures(count, seed):
    """The sample as (float32 (count, 96, 96, 3) from -1 to 1, int labels (count,))."""
    pixels = np.empty((count, SIZE, SIZE, 3), np.float32)
    labels = np.empty(count, np.int32)
    for number in range(count):
        labels[number] = number % len(sample.CLASSES)
        image = sample.render(int(labels[number]), sample.picture_seed(seed, number))
        pixels[number] = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return pixels / 127.5 - 1, labels


def split(labels, seed):
    """Indices of (65% train, 15% validation, 20% test), each with all classes alike.

    A fifth for the test: of 60 images, chance alone would make four points.
    """
    random = np.random.default_rng(seed)
    parts = ([], [], [])
    for label in np.unique(labels):
        of_class = random.permutation(np.flatnonzero(labels == label))
        cuts = [round(0.65 * len(of_class)), round(0.8 * len(of_class))]
        for part, indices in zip(parts, np.split(of_class, cuts), strict=True):
            part.extend(indices)
    return [np.array(part) for part in parts]


def once(weights, batch_norm, seed, pixels, labels, fresh):
    """Trains once and returns the figures as a dict; accuracies from 0 to 1."""
    import keras

    from engine.builtin import network

    begun = time.time()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    train, validation, test = split(labels, seed)
    inputs = keras.layers.Input((SIZE, SIZE, 3))
    backbone = network.build((SIZE, SIZE, 3))
    if weights == "builtin":
        network.load_weights(backbone)
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(backbone(x))
    x = keras.layers.Dropout(DROPOUT)(x)
    x = keras.layers.Dense(len(sample.CLASSES), activation="softmax")(x)
    model = keras.Model(inputs, x)

    def accuracy(part):
        return model.evaluate(*part, batch_size=128, verbose=0)[1]

    def fit(optimizer, epochs):
        model.compile(
            optimizer,
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,
        )
        model.fit(pixels[train], labels[train], batch_size=BATCH, epochs=epochs, verbose=0)
        return {
            "validation": accuracy((pixels[validation], labels[validation])),
            "test": accuracy((pixels[test], labels[test])),
            "fresh": accuracy(fresh),
        }

    backbone.trainable = False
    frozen = fit(keras.optimizers.Adam(FROZEN["learning_rate"]), FROZEN["epochs"])
    # Only trainable=False on the layer itself keeps its statistics in Keras 3, not training=False.
    for layer in backbone.layers:
        layer.trainable = batch_norm == "update" or not isinstance(
            layer, keras.layers.BatchNormalization
        )
    steps = UNFROZEN["epochs"] * -(-len(train) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(UNFROZEN["learning_rate"], steps)
    done = fit(
        keras.optimizers.AdamW(rate, weight_decay=UNFROZEN["weight_decay"]), UNFROZEN["epochs"]
    )
    return {"seed": seed, "after_frozen": frozen, "after_unfrozen": done,
            "seconds": round(time.time() - begun, 1)}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fresh", type=int, default=300, help="newly drawn pictures to test on")
    parser.add_argument("--out", type=Path, default=HERE / "transfer_log.json")
    arguments = parser.parse_args()
    begun = time.time()
    pixels, labels = pictures(IMAGES, 0)
    drawing = time.time() - begun
    fresh = pictures(arguments.fresh, 1)

    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    rows = {name: [] for name in VARIANTS}
    print(f"{'':30}seed  frozen   test  fresh  seconds")
    for name, (weights, batch_norm) in VARIANTS.items():
        for seed in range(arguments.seeds):
            row = once(weights, batch_norm, seed, pixels, labels, fresh)
            rows[name].append(row)
            done = row["after_unfrozen"]
            print(f"{name:30}{seed:4}{row['after_frozen']['test']:8.1%}{done['test']:7.1%}"
                  f"{done['fresh']:7.1%}{row['seconds']:9.1f}", flush=True)  # fmt: skip
    log = json.loads((HERE / "pretrain_log.json").read_text())
    write_json(arguments.out, {
        "command": "python -m engine.builtin.transfer_check",
        "versions": {"python": platform.python_version(), "keras": keras.__version__,
                     "tensorflow": tf.__version__},
        "cores": os.cpu_count(), "weights_sha256": log["weights_sha256"],
        "recipe": {"images": IMAGES, "image_size": SIZE, "batch_size": BATCH, "dropout": DROPOUT,
                   "frozen": FROZEN, "unfrozen": UNFROZEN},
        "test_images": round(0.2 * IMAGES), "fresh_images": arguments.fresh,
        "seconds_drawing_the_sample": round(drawing, 1), "results": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
