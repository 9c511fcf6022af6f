"""The learning rate at every step of a stage, for charts and checks, without Keras.

`engine.modeling.optimizer` makes the Keras schedule; a test holds the two equal.
"""

import numpy as np


def learning_rates(stage, steps_per_epoch: int) -> np.ndarray:
    """The rate that the optimizer uses at each step of a stage.

    With `lr` the stage's learning_rate, `d` its decay_rate, `s` the step counted from 0:

    - constant: lr
    - inverse_time: lr / (1 + d s), as older Keras' `decay=` did
    - exponential: lr d^(s / steps_per_epoch)
    - cosine: over the w = warmup_epochs x steps_per_epoch first steps lr s / w, then
      lr (1 + cos(pi (s - w) / (steps - w))) / 2 (Loshchilov and Hutter, arXiv 1608.03983, without
      restarts)

    Args:
        stage: with epochs, learning_rate, schedule, decay_rate and warmup_epochs.
        steps_per_epoch: batches in an epoch, 1 or more.

    Returns:
        Float array of shape (epochs * steps_per_epoch,).
    """
    steps = stage.epochs * steps_per_epoch
    step = np.arange(steps, dtype=np.float64)
    rate = stage.learning_rate
    if stage.schedule == "inverse_time":
        return rate / (1 + stage.decay_rate * step)
    if stage.schedule == "exponential":
        return rate * stage.decay_rate ** (step / steps_per_epoch)
    if stage.schedule == "cosine":
        warm, rest = warmup_steps(stage, steps_per_epoch)
        cosine = rate * (1 + np.cos(np.pi * np.minimum(step - warm, rest) / rest)) / 2
        return np.where(step < warm, rate * step / max(warm, 1), cosine)
    return np.full(steps, rate)


def warmup_steps(stage, steps_per_epoch: int) -> tuple[int, int]:
    """Whole steps of a cosine stage's warm-up and of the descent after it, which has at least 1."""
    steps = stage.epochs * steps_per_epoch
    warm = min(round(stage.warmup_epochs * steps_per_epoch), steps - 1)
    return warm, steps - warm
