"""What decisions about single images are worth: compares heads trained without and with them.

Light. `engine.inspection.payback_worker` does the work in the background. The result is kept under
`GRAFT_HOME/probes` by the dataset's content with its overlay, the split and the backbone, so that
asking again is instant.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine import home as homes
from engine.data import datasets
from engine.errors import DatasetError
from engine.host import words
from engine.host.background import Job, JobState
from engine.inspection import inspection
from engine.jobs import jobs
from engine.recipe import DatasetSpec, Recipe

CONFIDENCE_95 = 1.959964
"""Standard normal deviate of a two-sided 95% interval."""


def start(spec: DatasetSpec, home: Path, recipe: Recipe) -> None:
    """Starts the comparison in the background; does nothing while it is running, or if it is done.

    It may run beside a training run, and leaves the GPU to that.

    Args:
        spec: a DatasetSpec with an overlay.
        home: Graft's home.
        recipe: its split, backbone, image size, class weights and the head's pooling are read; its
            own dataset is not.

    Raises:
        DatasetError: if the dataset is not prepared, or no decisions were made about it.
    """
    datasets.open_dataset(spec, home)
    if not spec.overlay:
        raise DatasetError(
            "no image was excluded, relabelled or moved, so there is nothing to compare; decide "
            "about some images first"
        )
    job = _job(spec, home, recipe)
    if job.state()["state"] != "done":
        environment = {"CUDA_VISIBLE_DEVICES": "-1"} if jobs.active(home) else {}
        asked = recipe.model_copy(update={"dataset": spec})
        job.start(home, environment, recipe=asked.to_dict())


def state(spec: DatasetSpec, home: Path, recipe: Recipe) -> JobState:
    """How far a comparison is; its result is that of `engine.inspection.payback_worker.measure`."""
    return _job(spec, home, recipe).state()


def cancel(spec: DatasetSpec, home: Path, recipe: Recipe) -> None:
    """Ends a comparison, and forgets its result."""
    _job(spec, home, recipe).cancel()


def wait(
    spec: DatasetSpec,
    home: Path,
    recipe: Recipe,
    progress: Callable[[JobState], object] | None = None,
) -> dict[str, Any]:
    """Waits for the end of a comparison and returns its result.

    Args:
        spec, home, recipe: as for `start`.
        progress: called with the state several times a second.

    Raises:
        GraftError: if it failed or was cancelled.
    """
    return _job(spec, home, recipe).wait(progress)


def difference(better: int, worse: int, total: int) -> tuple[float, float, float]:
    """The difference of two accuracies on the same images, with its 95% interval.

    The adjusted Wald interval for paired proportions of Bonett and Price 2012, "Adjusted Wald
    Confidence Interval for a Difference of Binomial Proportions Based on Paired Data", Journal of
    Educational and Behavioral Statistics 37(4): one image is added on each side, so that the
    interval also holds where few or no answers differ.

    Args:
        better: images that only the second classifier classified correctly.
        worse: images that only the first classified correctly.
        total: all images that both classified, 1 or more.

    Returns:
        (difference, low, high), -1 to 1; above 0 the second is more accurate.
    """
    gained, lost = (better + 1) / (total + 2), (worse + 1) / (total + 2)
    middle = gained - lost
    reach = CONFIDENCE_95 * math.sqrt((gained + lost - middle**2) / (total + 2))
    return (better - worse) / total, max(-1.0, middle - reach), min(1.0, middle + reach)


def sentence(found: float, low: float, high: float, total: int) -> str:
    """A difference in words: "+1.9 points (0.3 to 3.5) on 350 validation images: …".

    Args:
        found, low, high: of `difference`.
        total: validation images compared.
    """
    figures = f"{100 * found:+.1f} points ({100 * low:.1f} to {100 * high:.1f})"
    text = f"{figures.replace('-', '−')} on {words.plural(total, 'validation image')}: "
    if low > 0:
        return text + "the decisions made the head more accurate."
    if high < 0:
        return text + "the decisions made the head less accurate."
    return text + "the interval spans zero, so the change could be chance."


def _job(spec: DatasetSpec, home: Path, recipe: Recipe) -> Job:
    identity = [
        datasets.key(spec),
        datasets.fingerprint(spec, home),
        recipe.split.model_dump(),
        inspection.recipe_key(recipe),
        recipe.class_weights,
    ]
    digest = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return Job(Path(home) / homes.PROBES / f"payback-{digest}.json", "payback")
