"""Alternatives for the training step and the conversion, and why Graft works as it does.

python -m benchmarks.choices float32|mixed_bfloat16 plain|xla     # seconds of one training step
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import common
from engine import home as homes
from engine.host import processes

STEPS = 5
BATCH = 32
GRAFT = {"TF_ENABLE_ONEDNN_OPTS": "1"}


def run(home, quick) -> dict:
    rounds = 1 if quick else 2
    found = {"default": [], "graft": [], "xla": [], "bfloat16": []}
    for _ in range(rounds):
        common.say("training steps")
        found["default"].append(in_process("float32", "plain", {"TF_ENABLE_ONEDNN_OPTS": "0"}))
        found["graft"].append(in_process("float32", "plain", GRAFT))
    if not quick:
        found["xla"].append(in_process("float32", "xla", GRAFT))
        found["bfloat16"].append(in_process("mixed_bfloat16", "plain", GRAFT))
    step = f"one training step of all layers, MobileNetV2 0.35, {BATCH} images"
    rows = [
        common.row(
            f"{step}: oneDNN on",
            found["default"],
            found["graft"],
            "s",
            note="baseline: oneDNN off, TensorFlow's default on CPUs without AVX-512 VNNI; chosen",
        ),
        common.row(
            f"{step}: XLA (`jit_compile`)",
            found["graft"],
            found["xla"],
            "s",
            note="baseline: what Graft does; not chosen on a CPU",
        ),
        common.row(
            f"{step}: mixed_bfloat16",
            found["graft"],
            found["bfloat16"],
            "s",
            note="baseline: float32, which `auto` uses on every CPU",
        ),
    ]
    return {"rows": [row for row in rows if row["graft"]] + conversion(rounds) + head(rounds)}


def in_process(policy, compiler, environment) -> float:
    """Seconds of a step in a new process: TensorFlow reads its variables only once."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.choices", policy, compiler],
        cwd=homes.PROJECT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout.strip().splitlines()[-1])


def step_seconds(policy, compiler) -> float:
    """Median seconds of a compiled step on random pixels; the weights do not matter."""
    import keras

    from engine import load_preset
    from engine.models import modeling

    keras.config.set_dtype_policy(policy)
    recipe = load_preset("flowers", ["backbone.weights=none"])
    bundle = modeling.build(recipe, list("abcde"))
    modeling.apply_stage(bundle, recipe.stages[1])
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    loss = keras.losses.CategoricalCrossentropy()
    bundle.model.compile(optimizer, loss, jit_compile=compiler == "xla")
    random = np.random.default_rng(0)
    pixels = random.uniform(0, 255, (BATCH, 224, 224, 3)).astype("float32")
    answers = np.eye(5, dtype="float32")[random.integers(0, 5, BATCH)]
    bundle.model.train_on_batch(pixels, answers)
    taken = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        bundle.model.train_on_batch(pixels, answers)
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def conversion(rounds) -> list[dict]:
    """Keras' LiteRT export and Graft's conversion: time to convert, time of one image."""
    from engine import load_preset
    from engine.models import convert, litert, modeling

    common.say("conversions")
    bundle = modeling.build(load_preset("flowers", ["backbone.weights=none"]), list("abcde"))
    model = modeling.inference_model(bundle)
    seconds, speed = {"keras": [], "graft": []}, {"keras": [], "graft": []}
    pixels = np.random.default_rng(0).integers(0, 255, (224, 224, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.tflite" for name in seconds}
        for _ in range(rounds):
            begun = time.perf_counter()
            model.export(str(files["keras"]), format="litert", verbose=False)
            seconds["keras"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            convert.to_litert(model, files["graft"])
            seconds["graft"].append(time.perf_counter() - begun)
        networks = {name: litert.Network(file, 1) for name, file in files.items()}
        for _ in range(rounds):
            for name, network in networks.items():
                network(pixels)
                begun = time.perf_counter()
                for _ in range(50):
                    network(pixels)
                speed[name].append((time.perf_counter() - begun) / 50 * 1000)
    what = "MobileNetV2 0.35 to LiteRT"
    note = "baseline: Keras' `export(format='litert')`; chosen: weights become constants first"
    return [
        common.row(f"{what}: conversion", seconds["keras"], seconds["graft"], "s", note=note),
        common.row(f"{what}: one image", speed["keras"], speed["graft"], "ms", note=note),
    ]


def head(rounds) -> list[dict]:
    """Several steps for each call from Python, in the stage with the cheapest steps."""
    import keras

    common.say("steps per execution")
    random = np.random.default_rng(0)
    x = random.normal(size=(2592, 1280)).astype("float32")
    y = np.eye(5, dtype="float32")[random.integers(0, 5, len(x))]
    taken = {1: [], 27: []}
    for _ in range(rounds):
        for steps in taken:
            model = keras.Sequential([keras.Input((1280,)), keras.layers.Dense(5, "softmax")])
            model.compile(
                "adam", "categorical_crossentropy", steps_per_execution=steps, jit_compile=False
            )
            begun = time.perf_counter()
            model.fit(x, y, batch_size=32, epochs=5, verbose=0)
            taken[steps].append(time.perf_counter() - begun)
    return [
        common.row(
            "five epochs of a head on 2,592 cached features: 27 steps per execution",
            taken[1],
            taken[27],
            "s",
            note="baseline: one step per execution, as in Graft: it can stop and report at any "
            "step",
        )
    ]


if __name__ == "__main__":
    os.environ |= {k: v for k, v in processes.environment().items() if k not in os.environ}
    print(step_seconds(*sys.argv[1:]))
