"""The number format of a run whose recipe says `auto`.

Heavy: imports TensorFlow. The choice depends on the hardware alone and never on a measured time, so
that the same recipe on the same machine always computes the same.
"""

from __future__ import annotations

import tensorflow as tf

from engine.host.log import EventWriter
from engine.recipe import Recipe


def choose(recipe: Recipe, events: EventWriter) -> str:
    """The Keras dtype policy of a run.

    Args:
        recipe: precision is read.
        events: takes a note that says what was chosen and why.

    Returns:
        The precision in the recipe, or for `auto` "mixed_float16" on a GPU with tensor cores and
        "float32" on everything else.
    """
    if recipe.precision != "auto":
        return recipe.precision
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        # Some CPUs support bfloat16, but whether it is faster depends on backbone and load.
        chosen, why = "float32", "there is no GPU, and on a CPU it is the exact and safe choice"
    else:
        details = tf.config.experimental.get_device_details(gpus[0])
        # Tensor cores, which are fast at float16, came with compute capability 7.0.
        fast = details.get("compute_capability", (0,)) >= (7, 0)
        chosen = "mixed_float16" if fast else "float32"
        why = "this GPU has tensor cores" if fast else "this GPU has no tensor cores for float16"
    events.write("note", text=f"Precision auto chose {chosen}: {why}.")
    return chosen
