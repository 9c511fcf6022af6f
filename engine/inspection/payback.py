"""What decisions about single images were worth: a head trained without them and with them, compared.

Light. `engine.inspection.payback_worker` does the work in a process of its own; what it found is kept under
`GRAFT_HOME/probes` by the dataset's content with its overlay, the split and the backbone, so that
asking again is instant. `start` begins it, `state` tells how far it is, `cancel` ends it.
"""

import json
import math
from hashlib import sha256
from pathlib import Path

from engine.data import datasets
from engine.errors import DatasetError, GraftError
from engine.host import background
from engine.inspection import inspection
from engine.jobs import jobs

CONFIDENCE_95 = 1.959964
"""Standard normal deviate of a two-sided 95 % interval."""


def start(spec, home, recipe) -> None:
    """Begins the comparison in the background; does nothing while it is under way or done. It also runs
    beside a training run, and leaves the GPU to that.

    Args:
        spec: a DatasetSpec with an overlay.
        home: Graft's home.
        recipe: split, backbone, image size and head's pooling are read; its own dataset is not.

    Raises:
        DatasetError: if the dataset is not prepared, or no decisions were made about it.
    """
    datasets.open_dataset(spec, home)
    if not spec.overlay:
        raise DatasetError(
            "no image has been left out, relabelled or moved, so there is nothing to compare; decide "
            "about some images first"
        )
    if state(spec, home, recipe)["state"] in ("running", "done"):
        return
    environment = {"CUDA_VISIBLE_DEVICES": "-1"} if jobs.active(home) else {}
    asked = recipe.model_copy(update={"dataset": spec})
    background.begin(_path(spec, home, recipe), "payback", asked, home, **environment)


def state(spec, home, recipe) -> dict:
    """How far a comparison is.

    Returns:
        A dict: state "missing", "running", "done" or "failed"; text; done and total (None while
        unknown); eta_seconds (or None); error, one sentence or None; result, that of
        `engine.inspection.payback_worker.measure`, or None.
    """
    return background.state(_path(spec, home, recipe))


def cancel(spec, home, recipe) -> None:
    """Ends a comparison that is under way; forgets what it found."""
    background.cancel(_path(spec, home, recipe))


def wait(spec, home, recipe, progress=None) -> dict:
    """Waits for the end of a comparison and returns its result.

    Args:
        progress: called with `state`'s dict now and then.

    Raises:
        GraftError: with one sentence if it failed.
    """
    now = background.wait_for(lambda: state(spec, home, recipe), progress)
    if now["state"] != "done":
        raise GraftError(now["error"] or "the comparison was cancelled")
    return now["result"]


def difference(better: int, worse: int, total: int) -> tuple[float, float, float]:
    """The difference of two accuracies on the same images, with its 95 % interval.

    The adjusted Wald interval for paired proportions of Bonett and Price 2012, "Adjusted Wald Confidence
    Interval for a Difference of Binomial Proportions Based on Paired Data", Journal of Educational and
    Behavioral Statistics 37(4): one image is added to either side, so that it also holds where few or
    none differ.

    Args:
        better: images that only the second classifier has right.
        worse: images that only the first has right.
        total: all images that both were asked about, 1 or more.

    Returns:
        (difference, low, high), -1 to 1; above 0 the second is more accurate.
    """
    gained, lost = (better + 1) / (total + 2), (worse + 1) / (total + 2)
    middle = gained - lost
    reach = CONFIDENCE_95 * math.sqrt((gained + lost - middle**2) / (total + 2))
    return (better - worse) / total, max(-1.0, middle - reach), min(1.0, middle + reach)


def sentence(found: float, low: float, high: float, total: int) -> str:
    """A difference in words: "+1.9 points (0.3 to 3.5) on 350 validation images: …"."""
    figures = f"{100 * found:+.1f} points ({100 * low:.1f} to {100 * high:.1f})"
    text = f"{figures.replace('-', '−')} on {total:,} validation images: "
    if low > 0:
        return text + "the decisions made the head more accurate."
    if high < 0:
        return text + "the decisions made the head less accurate."
    return text + "the interval spans zero, so the change could be chance."


def _path(spec, home, recipe) -> Path:
    identity = [
        datasets.key(spec),
        datasets.fingerprint(spec, home),
        recipe.split.model_dump(),
        inspection.recipe_key(recipe),
        recipe.class_weights,
    ]
    digest = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return Path(home) / "probes" / f"payback-{digest}.json"
