"""Pretrains the built-in backbone: `python -m engine.builtin.pretrain`.

Repeatable: it draws the source task, trains, and writes the weights and a log of figures beside
itself. Nothing of the sample dataset is used.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np

from engine.builtin import source_task
from engine.home import replacing, write_json

HERE = Path(__file__).parent


def draw(numbered) -> np.ndarray:
    """One picture of the source task as uint8 (96, 96, 3)."""
    label, seed = numbered
    return np.asarray(source_task.render(label, seed))


def pictures(images_per_class, first_seed):
    """(uint8 (n, 96, 96, 3), int labels (n,)) with classes taking turns."""
    classes = len(source_task.CLASSES)
    jobs = [(label, first_seed + i) for i in range(images_per_class) for label in range(classes)]
    # spawn, never fork: no half-copied locks of whatever is imported already.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        drawn = np.stack(list(pool.imap(draw, jobs, chunksize=64)))
    return drawn, np.array([label for label, _ in jobs])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--images", type=int, default=250, help="images of each of the 64 classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for weights and log")
    arguments = parser.parse_args()
    begun = time.time()
    train_x, train_y = pictures(arguments.images, 0)
    test_x, test_y = pictures(20, 1_000_000)
    drawn = time.time() - begun

    import keras
    import tensorflow as tf

    from engine.builtin import network

    keras.utils.set_random_seed(arguments.seed)
    tf.config.experimental.enable_op_determinism()
    backbone = network.build()
    x = inputs = keras.layers.Input((96, 96, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(x)
    x = keras.layers.GlobalAveragePooling2D()(backbone(x))
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(
        inputs, keras.layers.Dense(len(source_task.CLASSES), activation="softmax")(x)
    )
    batch = 64
    steps = arguments.epochs * (len(train_x) // batch)
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                1e-4, steps, warmup_target=4e-3, warmup_steps=steps // 20
            ),
            weight_decay=0.02,
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )

    def mirrored(pixels, label):
        return tf.image.random_flip_left_right(tf.cast(pixels, tf.float32), seed=1), label

    order = tf.data.Dataset.from_tensor_slices(np.arange(len(train_x))).shuffle(
        len(train_x), seed=2
    )

    def fetch(chosen):
        pixels = tf.numpy_function(lambda i: train_x[i], [chosen], tf.uint8, stateful=False)
        return tf.ensure_shape(pixels, (None, 96, 96, 3)), tf.gather(tf.constant(train_y), chosen)

    data = order.batch(batch, drop_remainder=True).map(fetch).map(mirrored).prefetch(2)
    held_out = tf.data.Dataset.from_tensor_slices((test_x, test_y)).batch(128)
    history = model.fit(data, epochs=arguments.epochs, validation_data=held_out, verbose=2).history

    arguments.out.mkdir(parents=True, exist_ok=True)
    aside = arguments.out / "aside.weights.h5"
    backbone.save_weights(aside)
    content = aside.read_bytes()
    aside.unlink()
    with replacing(arguments.out / network.WEIGHTS.name, "wb") as file:
        file.write(content)
    write_json(arguments.out / "pretrain_log.json", {
        "command": f"python -m engine.builtin.pretrain --epochs {arguments.epochs} --images {arguments.images} "
                   f"--seed {arguments.seed}",
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__},
        "classes": len(source_task.CLASSES), "train_images": len(train_x), "held_out_images": len(test_x),
        "parameters": backbone.count_params(), "seconds_drawing": round(drawn),
        "seconds": round(time.time() - begun), "cores": os.cpu_count(),
        "held_out_accuracy": history["val_accuracy"][-1],
        "epochs": {key: [round(float(v), 4) for v in values] for key, values in history.items()},
        "weights_bytes": len(content), "weights_sha256": hashlib.sha256(content).hexdigest(),
    })  # fmt: skip
    print(json.dumps({"held_out_accuracy": history["val_accuracy"][-1], "bytes": len(content)}))


if __name__ == "__main__":
    main()
