"""The learning rate at every step of a stage, defined once for training and for charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engine.recipe.specs import StageSpec


def learning_rates(stage: StageSpec, steps_per_epoch: int) -> np.ndarray:
    """The rate that the optimizer uses at each step of a stage.

    With `lr` the stage's learning_rate, `d` its decay_rate, `s` the step counted from 0:

    - constant: lr
    - inverse_time: lr / (1 + d s), as older Keras' `decay=` did
    - exponential: lr d^(s / steps_per_epoch)
    - cosine: for the first w = warmup_epochs x steps_per_epoch steps `top` s / w, where `top` is
      warmup_rate, or lr if that is 0 (Goyal et al., arXiv 1706.02677, section 2.2); then
      lr (1 + cos(pi (s - w) / (steps - w))) / 2 (Loshchilov and Hutter, arXiv 1608.03983, without
      restarts)

    Args:
        stage: its epochs, learning rate, schedule and warm-up are used.
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
        warm = _warmup_steps(stage, steps_per_epoch)
        top = min(stage.warmup_rate or rate, rate)
        cosine = rate * (1 + np.cos(np.pi * (step - warm) / (steps - warm))) / 2
        return np.where(step < warm, top * step / max(warm, 1), cosine)
    return np.full(steps, rate)


def _warmup_steps(stage: StageSpec, steps_per_epoch: int) -> int:
    """Whole steps of a cosine stage's warm-up; at least one step is left for the descent."""
    if stage.warmup_below and steps_per_epoch >= stage.warmup_below:
        return 0
    steps = stage.epochs * steps_per_epoch
    return min(round(stage.warmup_epochs * steps_per_epoch), steps - 1)
