"""Where a run starts: at the beginning, from another run, or at its own last checkpoint."""

from __future__ import annotations

from engine.runs import files
from engine.runs.runs import Run
from engine.train import continuing
from engine.train.resume import Keeper
from engine.train.work import Work


def has_begun(run: Run, keeper: Keeper) -> bool:
    """Whether a run has been started before."""
    return bool(keeper.position) or (run.path / files.SPLIT).exists()


def report_start(work: Work, earlier: list[dict], precision: str) -> None:
    """Writes the `start` event, once for each start from the beginning.

    Args:
        work: the run's Work.
        earlier: the events so far.
        precision: number format of the run.
    """
    resumes = work.keeper and work.keeper.position
    begun = any(event["event"] == "start" for event in earlier)
    if begun and resumes:
        return
    over = any(event["event"] == "end" for event in earlier)
    if (begun or over) and not resumes:
        text = "Started again from the beginning."  # it ended before its first checkpoint
        work.events.write("resume", stage=None, epoch=0, step=0, text=text)
    stages = work.recipe.stages
    work.events.write(
        "start",
        classes=list(work.dataset.classes),
        counts={part: len(indices) for part, indices in work.split.items()},
        steps_per_epoch=work.steps,
        total_steps=work.steps * sum(stage.epochs for stage in stages),
        stages=[stage.model_dump() for stage in stages],
        precision=precision,
    )


def begin(work: Work, earlier: list[dict]) -> tuple[int, int]:
    """Brings the network to where the run starts or resumes.

    Args:
        work: the run's Work.
        earlier: the events so far.

    Returns:
        (index of the stage, global step) to continue with.
    """
    if work.keeper and work.keeper.position:
        work.started = {e["stage"] for e in earlier if e["event"] == "stage_start"}
        return _resume(work, work.keeper, work.keeper.position)
    if work.recipe.continue_from:
        continuing.begin(work)
    return 0, 0


def _resume(work: Work, keeper: Keeper, at: dict) -> tuple[int, int]:
    """Restores the network and the best weights from the last checkpoint."""
    keeper.restore_network(work.network)
    best = work.best
    if at["best"]:
        best.loss, best.stage, best.epoch = (at["best"][k] for k in ("loss", "stage", "epoch"))
        best.weights, keeper.best = keeper.best or [], None
    if at["batch_size"] != work.recipe.batch_size:
        at = keeper.position = rescaled(at, work.recipe.batch_size, work.steps)
    stage = work.recipe.stages[at["stage"]]
    where = f"epoch {min(at['epoch'] + 1, stage.epochs)} of stage {stage.name}"
    damaged = " (the newest checkpoint was damaged)" if at["damaged"] else ""
    work.events.write(
        "resume",
        stage=at["stage"],
        epoch=at["epoch"],
        step=at["step"],
        text=f"Resumed at step {at['step']}, in {where}, from the last checkpoint{damaged}.",
    )
    return at["stage"], at["step"]


def rescaled(position: dict, batch_size: int, steps: int) -> dict:
    """A checkpoint's position in batches of another size: as many images done, and the same place
    in the schedule.

    Args:
        position: see `engine.train.resume.Keeper`.
        batch_size: images in a batch from now on.
        steps: batches in an epoch from now on.
    """
    ratio = steps / position["steps_per_epoch"]
    images = position["batch"] * position["batch_size"]
    batch = min(steps - 1, images // batch_size)
    return position | {
        "batch": batch,
        "step": round(position["step"] * ratio),
        "batch_size": batch_size,
        "steps_per_epoch": steps,
        "iterations_ratio": ratio,
        # Means over the images done so far stay means.
        "sums": [value * batch * batch_size / max(1, images) for value in position["sums"]],
    }
