"""Pretrains the built-in backbone: `python -m engine.models.builtin.pretrain`.

It takes about 8 minutes on 2 cores and is repeatable: it draws the source task, trains, and writes
the weights and a log of figures beside itself. It uses nothing of the sample dataset. Most epochs
use the pictures at 64 pixels, which takes less than half the time; the last ones use 96, so that
the features fit the size at which they are used (Touvron et al. 2019, arXiv:1906.06423, on why both
sizes should match).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from engine.home import replacing, write_json
from engine.models.builtin import source_task

if TYPE_CHECKING:
    import keras

HERE = Path(__file__).parent
SMALL = 64
BATCH = 64
ASIDE = "aside.weights.h5"
HELD_OUT = 16
"""Pictures of each class that are never trained on."""


def draw(numbered: tuple[int, int]) -> np.ndarray:
    """One picture of the source task as uint8 (96, 96, 3)."""
    label, seed = numbered
    return np.asarray(source_task.render(label, seed))


def pictures(images_per_class: int, first_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 (n, 96, 96, 3), int32 labels (n,)) with alternating classes."""
    classes = len(source_task.CLASSES)
    jobs = [(label, first_seed + i) for i in range(images_per_class) for label in range(classes)]
    # spawn, never fork: a fork would copy held locks of imported libraries.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        drawn = np.stack(list(pool.imap(draw, jobs, chunksize=64)))
    return drawn, np.array([label for label, _ in jobs], np.int32)


def smaller(pixels: np.ndarray) -> np.ndarray:
    """uint8 (n, 96, 96, 3) to (n, 64, 64, 3)."""
    size = (SMALL, SMALL)
    return np.stack(
        [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)) for p in pixels]
    )


def batches(
    pixels: np.ndarray, labels: np.ndarray, epoch: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch's (images from -1 to 1, labels), shuffled and half of them mirrored, from a fixed
    seed."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(pixels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        taken = pixels[chosen]
        flip = random.random(BATCH) < 0.5
        taken[flip] = taken[flip, :, ::-1]
        # Light of varying strength and tint.
        tint = random.uniform(0.85, 1.15, (BATCH, 1, 1, 3)).astype(np.float32)
        yield np.clip(taken * tint, 0, 255) / 127.5 - 1, labels[chosen]


def train(
    small: np.ndarray,
    full: np.ndarray,
    labels: np.ndarray,
    held_out: tuple[np.ndarray, np.ndarray],
    arguments: argparse.Namespace,
) -> tuple[keras.Model, list[dict]]:
    """Trains backbone and head.

    Args:
        small, full: uint8 (n, 64, 64, 3) and (n, 96, 96, 3), the same pictures.
        labels: (n,).
        held_out: (uint8 (m, 96, 96, 3), labels (m,)).
        arguments: of the command.

    Returns:
        (backbone with trained weights, list of one dict of figures per epoch).
    """
    import keras
    import tensorflow as tf

    from engine.models.builtin import network

    keras.utils.set_random_seed(arguments.seed)
    tf.config.experimental.enable_op_determinism()
    # Any size, because it changes during training; the weights do not depend on it.
    backbone = network.build((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dropout(0.2)(x)
    x = keras.layers.Dense(len(source_task.CLASSES), activation="softmax")(x)
    model = keras.Model(backbone.input, x)
    steps = arguments.epochs * (len(labels) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, steps, warmup_target=4e-3, warmup_steps=steps // 20
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.02),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    figures = []
    for epoch in range(arguments.epochs):
        begun = time.time()
        pixels = full if epoch >= arguments.epochs - arguments.full_epochs else small
        seen = [
            model.train_on_batch(images, targets)
            for images, targets in batches(pixels, labels, epoch, arguments.seed)
        ]
        loss, accuracy = np.mean(seen, axis=0)
        row = {"epoch": epoch + 1, "size": pixels.shape[1]}
        row |= {"loss": round(float(loss), 4), "accuracy": round(float(accuracy), 4)}
        if pixels is full or epoch == arguments.epochs - arguments.full_epochs - 1:
            scaled = held_out[0].astype(np.float32) / 127.5 - 1
            loss, accuracy = model.evaluate(scaled, held_out[1], batch_size=128, verbose=0)
            row |= {"held_out_loss": round(loss, 4), "held_out_accuracy": round(accuracy, 4)}
        row["seconds"] = round(time.time() - begun, 1)
        print(json.dumps(row), flush=True)
        figures.append(row)
        # Beside the final file, so that an interrupted run leaves weights to inspect.
        backbone.save_weights(arguments.out / ASIDE)
    return backbone, figures


def main() -> None:
    """Draws, trains and writes weights and log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=13)
    parser.add_argument("--full-epochs", type=int, default=2, help="how many of them at 96 pixels")
    parser.add_argument("--images", type=int, default=200, help="images of each of the 64 classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for weights and log")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    begun = time.time()
    full, labels = pictures(arguments.images, 0)
    held_out = pictures(HELD_OUT, 1_000_000)
    small = smaller(full)
    drawn = time.time() - begun
    print(f"{len(full)} pictures drawn in {drawn:.0f} s", flush=True)
    backbone, figures = train(small, full, labels, held_out, arguments)

    import keras
    import tensorflow as tf

    from engine.models.builtin import network

    aside = arguments.out / ASIDE
    content = aside.read_bytes()
    aside.unlink()
    with replacing(arguments.out / network.WEIGHTS.name, "wb") as file:
        file.write(content)
    log = {
        "command": f"python -m engine.models.builtin.pretrain --epochs {arguments.epochs} "
                   f"--full-epochs {arguments.full_epochs} --images {arguments.images} "
                   f"--seed {arguments.seed}",
        "versions": {"python": platform.python_version(), "keras": keras.__version__,
                     "tensorflow": tf.__version__, "numpy": np.__version__},
        "seed": arguments.seed, "classes": len(source_task.CLASSES), "train_images": len(full),
        "held_out_images": len(held_out[0]), "parameters": backbone.count_params(),
        "cores": os.cpu_count(), "seconds_drawing": round(drawn),
        "seconds": round(time.time() - begun),
        "cpu_seconds_training": round(time.process_time()), "epochs": figures,
        "held_out_accuracy": figures[-1]["held_out_accuracy"],
        "weights_bytes": len(content), "weights_sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    write_json(arguments.out / "pretrain_log.json", log)
    print(json.dumps({key: log[key] for key in ("held_out_accuracy", "weights_bytes", "seconds")}))


if __name__ == "__main__":
    main()
