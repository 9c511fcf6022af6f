"""The learning-rate range test: which rates are tried, and how the losses are read.

Light: NumPy only. `engine.estimate.rate_test_worker` measures; pages and the CLI start it through
`engine.estimate.probes` with `key_recipe`, so that both share results. The test is that of Smith
2017 (arXiv:1506.01186, section 3.3): the rate rises geometrically from step to step, and the loss
is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.errors import RecipeError
from engine.host.words import plural
from engine.recipe import Recipe

Numbers = Sequence[float] | np.ndarray

STEPS = 100
BETA = 0.9
"""Of the moving average: about the mean of the last ten losses, half a decade of rates."""
DIVERGED = 4
"""The test ends where the smoothed loss exceeds its minimum by this factor, as in fastai."""
FALL = 0.02
"""Smallest fall, as a share of the first loss, that counts as learning."""
_BOUNDS = {"sgd": (1e-5, 10.0)}
"""Adaptive optimizers divide by the gradient's size, so their rates are smaller and alike."""


def sweep(optimizer: str) -> np.ndarray:
    """The rates that are tried: float array (STEPS,), rising geometrically.

    Args:
        optimizer: name of the stage's optimizer.
    """
    return np.geomspace(*_BOUNDS.get(optimizer, (1e-6, 1.0)), STEPS)


def suggest(rates: Numbers, losses: Numbers) -> tuple[np.ndarray, float | None]:
    """Reads a learning rate off a range test.

    The loss is smoothed by an exponential moving average, corrected for its start (Kingma and Ba
    2015, arXiv:1412.6980, section 3). The suggestion is where it falls steepest over the logarithm
    of the rate (Gugger 2018, "How do you find a good learning rate"; fastai's `steep`), but at most
    a tenth of the rate at its minimum, above which training soon becomes unstable.

    Args:
        rates: positive floats (n,), rising.
        losses: floats (n,), the loss at each; those from the first NaN or infinity are left out.

    Returns:
        (float array (n,), the smoothed losses, NaN where left out; the suggested rate, or None if
        the loss never falls by more than its noise).
    """
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    bad = np.flatnonzero(~np.isfinite(losses))
    count = int(bad[0]) if len(bad) else len(losses)
    smoothed, mean = np.full(len(losses), np.nan), 0.0
    for i in range(count):
        mean = BETA * mean + (1 - BETA) * losses[i]
        smoothed[i] = mean / (1 - BETA ** (i + 1))
    first = max(5, count // 10)
    if count <= first + 2:
        return smoothed, None
    known, start = smoothed[:count], losses[:first].mean()
    lowest = first + int(known[first:].argmin())
    # Noise of a single loss, from neighbours (two of them hardly show a trend; the median ignores
    # the explosion at the end). The average scatters by sqrt((1 - beta) / (1 + beta)) of it, the
    # start by 1 / sqrt(first): a fall within three standard deviations may be chance.
    noise = 1.4826 * np.median(np.abs(np.diff(losses[:count]))) / np.sqrt(2)
    chance = 3 * noise * np.sqrt((1 - BETA) / (1 + BETA) + 1 / first)
    if not start - known[lowest] > max(FALL * start, chance) or rates[lowest] < 10 * rates[0]:
        return smoothed, None
    # A slope over several steps, because that between two neighbours is mostly noise.
    half, logs = max(1, count // 25), np.log(rates)
    places = np.arange(half, min(lowest, count - 1 - half) + 1)
    places = places[places >= first] if (places >= first).any() else places
    if not len(places):
        return smoothed, None
    slopes = (known[places + half] - known[places - half]) / (
        logs[places + half] - logs[places - half]
    )
    steepest = rates[places[slopes.argmin()]]
    return smoothed, float(min(steepest, rates[lowest] / 10))


def rise(rates: Numbers, smoothed: Numbers) -> float | None:
    """The rate above which the smoothed loss stays higher than at the start.

    It is shown where no rate can be suggested. It is not a limit: training at a constant rate often
    recovers from a loss that rises at first.

    Args:
        rates, smoothed: as `suggest` takes and returns them.

    Returns:
        A rate, or None if the loss ends below 1.5 times its first value.
    """
    smoothed = np.asarray(smoothed, float)
    known = smoothed[np.isfinite(smoothed)]
    if not len(known):
        return None
    start = known[: max(5, len(known) // 10)].mean()
    if len(known) == len(smoothed) and known[-1] < 1.5 * start:
        return None
    # 1.25: above the scatter of an average over about ten batches.
    below = np.flatnonzero(known <= 1.25 * start)
    return float(rates[min(int(below[-1]) + 1, len(smoothed) - 1)])


def key_recipe(recipe: Recipe, stage: int) -> Recipe:
    """The recipe under which a stage's result is kept, without the fields that the test ignores.

    Rate and schedule of the stage and of later ones get fixed values, so that applying a suggestion
    does not discard its chart.

    Args:
        recipe: any recipe.
        stage: index of the stage.

    Raises:
        RecipeError: if there is no such stage.
    """
    check_stage(recipe, stage)
    alike = {
        "learning_rate": 1e-3,
        "schedule": "constant",
        "decay_rate": 0.0,
        "warmup_epochs": 0.0,
        "warmup_rate": 0.0,
        "warmup_below": 0,
        "epochs": 1,
        "early_stopping": 0,
    }
    stages = [s.model_copy(update=alike) if i >= stage else s for i, s in enumerate(recipe.stages)]
    return recipe.model_copy(update={"stages": tuple(stages)})


def check_stage(recipe: Recipe, stage: int) -> None:
    """Raises RecipeError unless the recipe has a stage with this index."""
    count = len(recipe.stages)
    if not 0 <= stage < count:
        numbers = "1" if count == 1 else f"1 to {count}"
        raise RecipeError(
            f"the recipe has {plural(count, 'stage')}, so the stage must be {numbers}; "
            f"{stage + 1} was given"
        )


def rounded(rate: float) -> float:
    """A rate with two significant digits, the precision of the test."""
    return float(f"{rate:.1e}")


def setting(stage: int, rate: float) -> str:
    """The argument of `--set` that uses a rate, such as "stages.1.learning_rate=3.2e-04"."""
    return f"stages.{stage}.learning_rate={rate:.1e}"
