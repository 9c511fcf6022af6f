"""Which number format a run computes in, where its recipe says `auto`.

Heavy: imports Keras. On a GPU float16 pays wherever there are tensor cores. On a CPU bfloat16 helps
some backbones and hurts others (MobileNetV2 1.5 times slower, Xception 1.4 times faster on one host:
facts), so it is tried for a few seconds, and the answer is remembered by host and backbone.
"""

import time
from hashlib import sha256
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from engine import device, pretrained
from engine import home as homes

PROBE_SECONDS = 3
PROBE_BATCH = 8
WORTH = 1.15
"""How many times faster bfloat16 must be before it is chosen: it costs a little accuracy of sums."""


def choose(recipe, home, events) -> str:
    """The Keras dtype policy of a run.

    Args:
        recipe: precision, backbone, image_size and stages are read.
        home: Graft's home, where probes are remembered.
        events: an EventLog; takes a note that says what was chosen and why.
    """
    if recipe.precision != "auto":
        return recipe.precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        # Tensor cores, which are quick at float16, came with compute capability 7.0.
        fast = details.get("compute_capability", (0,)) >= (7, 0)
        chosen = "mixed_float16" if fast else "float32"
        why = "this GPU is quick at it" if fast else "this GPU is not quick at float16"
    elif all(stage.trainable == "none" for stage in recipe.stages):
        chosen, why = "float32", "only the head learns, which takes no time in any format"
    elif not device.has_bfloat16():
        chosen, why = "float32", "this CPU has no instructions for bfloat16"
    else:
        ratio = _remembered(recipe, Path(home))
        chosen = "mixed_bfloat16" if ratio >= WORTH else "float32"
        why = f"a step in bfloat16 is {ratio:.2f} times as fast here with this backbone"
    events.write("note", text=f"Precision auto chose {chosen}: {why}.")
    return chosen


def _remembered(recipe, home) -> float:
    name = f"{device.describe()['host']} {recipe.backbone.title} {recipe.image_size}"
    path = home / "probes" / f"precision-{sha256(name.encode()).hexdigest()[:16]}.json"
    known = homes.read_json(path)
    if known is None:
        path.parent.mkdir(exist_ok=True)
        known = {"for": name, "ratio": measure(recipe, home)}
        homes.write_json(path, known)
    return known["ratio"]


def measure(recipe, home) -> float:
    """Times gradients of the backbone in both formats, without compiling: a few seconds.

    Args:
        recipe: backbone and image_size are read; the weights do not matter and are random.

    Returns:
        Seconds of a step in float32 divided by those in mixed_bfloat16: above 1 where bfloat16 is
        faster.
    """
    spec, size = recipe.backbone, recipe.image_size
    if not spec.name.startswith("run:"):
        spec = spec.model_copy(update={"weights": "none"})
    policy = keras.config.dtype_policy().name
    values = np.random.default_rng(0).uniform(-1, 1, (PROBE_BATCH, size, size, 3)).astype("float32")
    seconds = {}
    try:
        for name in ("float32", "mixed_bfloat16"):
            keras.config.set_dtype_policy(name)
            model = pretrained.backbone(spec, size, home)[1]

            def step(model=model):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean(tf.cast(model(values, training=False), tf.float32))
                tape.gradient(loss, model.trainable_weights)

            step()  # the first one sets things up
            taken, until = [], time.monotonic() + PROBE_SECONDS
            while len(taken) < 2 or time.monotonic() < until:
                begun = time.monotonic()
                step()
                taken.append(time.monotonic() - begun)
            seconds[name] = min(taken)
    finally:
        keras.config.set_dtype_policy(policy)
    return seconds["float32"] / seconds["mixed_bfloat16"]
