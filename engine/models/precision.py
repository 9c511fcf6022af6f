"""Which number format a run computes in, where its recipe says `auto`.

Heavy: imports TensorFlow. The choice follows from the hardware alone and never from a measured
time, so that the same recipe on the same machine always computes the same.
"""

import tensorflow as tf


def choose(recipe, events) -> str:
    """The Keras dtype policy of a run.

    Args:
        recipe: precision is read.
        events: an EventLog; takes a note that says what was chosen and why.

    Returns:
        What the recipe names, or for `auto` "mixed_float16" on a GPU with tensor cores and
        "float32" on everything else.
    """
    if recipe.precision != "auto":
        return recipe.precision
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        # Some CPUs have instructions for bfloat16, but whether they help depends on backbone and load.
        chosen, why = "float32", "there is no GPU, and on a CPU it is the exact and safe choice"
    else:
        details = tf.config.experimental.get_device_details(gpus[0])
        # Tensor cores, which are fast at float16, came with compute capability 7.0.
        fast = details.get("compute_capability", (0,)) >= (7, 0)
        chosen = "mixed_float16" if fast else "float32"
        why = "this GPU has tensor cores" if fast else "this GPU has no tensor cores for float16"
    events.write("note", text=f"Precision auto chose {chosen}: {why}.")
    return chosen
