"""One stage of a run: its fit on cached features or on the whole network, and its result.

Heavy: imports Keras.
"""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np

from engine.errors import TrainingError
from engine.features import compute, store
from engine.host import device
from engine.host.log import EventWriter
from engine.host.signals import Stopped
from engine.host.words import plural
from engine.models import modeling, optimizers
from engine.recipe import Recipe, StageSpec
from engine.train import input_pipeline
from engine.train.progress import Counter, Progress
from engine.train.reporter import Reporter
from engine.train.saving import Saving
from engine.train.stopping import Stopping
from engine.train.work import Work


def run_stage(number: int, work: Work, first_step: int) -> tuple[bool, int]:
    """Fits one stage and reports its result.

    Where the stage's frozen part can be cached, the rest is fitted on its outputs: the same layers,
    the same order of images, the same result, in a fraction of the time.

    Args:
        number: the stage's index in the recipe.
        work: the run's Work; if its keeper was in this stage, the stage continues from there.
        first_step: the global step to start with.

    Returns:
        (whether the user stopped it, the global step reached).
    """
    recipe, bundle, best = work.recipe, work.bundle, work.best
    stage, at = recipe.stages[number], work.keeper.position if work.keeper else None
    if at and at["stage"] != number:
        at = None
    sizes = modeling.apply_stage(bundle, stage)
    later = any(store.why_not(recipe, s.trainable) for s in recipe.stages[number + 1 :])
    try:
        images = compute.Images(work.dataset, work.pixels, work.split, keep=later)
        cached, why = compute.prepare(bundle, recipe, number, images, work.home, work.report)
    except Stopped:
        if not best.weights:
            raise
        return True, first_step  # the stages before are worth keeping
    model = cached.suffix if cached else bundle.model
    new = number not in work.started or not at
    if new:
        _note_path(stage, cached, why, work.events)
    text = f"Stage {number + 1} of {len(recipe.stages)}: {stage.name}"
    work.report("training", text, 0, None, True)
    optimizers.compile_(model, stage, work.steps, recipe.head.label_smoothing)
    before, start = modeling.frozen_digests(bundle), best.weights or work.initial
    if new:
        work.events.write(
            "stage_start",
            stage=number,
            name=stage.name,
            step=first_step,
            **{k: sizes[k] for k in ("trainable_params", "frozen_params")},
            **(cached.facts if cached else {"path": "whole network"}),
        )
    best_before = best.loss
    if at:
        best_before = float("inf") if at["best_before"] is None else at["best_before"]
    progress = Progress(number, first_step)
    stopped = _fit(model, work, progress, cached, best_before, at)
    _check_frozen(bundle, stage, before)
    if cached:
        cached.close()
    reason = _reason(stage, progress, stopped)
    if reason in ("diverged", "early_stopping"):
        # The next stage starts from the best weights, not from those that were worse.
        bundle.model.set_weights(best.weights or start)
    _report_end(stage, work, progress, reason, best_before, len(before))
    return stopped, progress.step


def callbacks(work: Work, progress: Progress, best_before: float) -> list[keras.callbacks.Callback]:
    """The callbacks of a stage's fit, one for each concern; their order matters.

    Args:
        work: the run's Work.
        progress: what they share.
        best_before: the lowest validation loss before the stage.
    """
    facts = {
        "best_before": best_before if np.isfinite(best_before) else None,
        "batch_size": work.recipe.batch_size,
        "steps_per_epoch": work.steps,
        "precision": keras.config.dtype_policy().name,
    }
    return [
        Counter(work, progress),
        Stopping(work, progress),
        Reporter(work, progress),
        Saving(work, progress, facts),
    ]


def class_weights(recipe: Recipe, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """Weights that count all classes alike: float array (classes,); None unless the recipe asks.

    Args:
        recipe: class_weights is read.
        labels: int array, of the training images.
        classes: number of classes.
    """
    if recipe.class_weights != "balanced":
        return None
    counts = np.bincount(labels, minlength=classes)
    return counts.sum() / (classes * counts)


def _fit(
    model: keras.Model,
    work: Work,
    progress: Progress,
    cached: compute.Cached | None,
    best_before: float,
    at: dict | None,
) -> bool:
    """Fits a stage, or what is left of it; returns whether the user stopped it."""
    recipe, split, labels = work.recipe, work.split, work.dataset.labels
    number, steps, train = progress.number, work.steps, split["train"]
    epochs, classes = recipe.stages[number].epochs, work.network.output_shape[-1]
    measured = input_pipeline.Examples(
        work.pixels, split["validation"], labels, classes, cached=cached
    )
    validation = input_pipeline.evaluation_batches(measured, recipe)
    weights = class_weights(recipe, labels[train], classes)
    examples = replace(measured, indices=train, weights=weights)
    epoch, batch = 0, 0
    if at:
        progress.resume(at)
        epoch, batch = (epochs, 0) if at["ended"] else (at["epoch"], at["batch"])
    # An interrupted epoch is finished by a separate fit, since it has fewer steps.
    parts = [(epoch, epoch + 1, steps - batch)] if batch else []
    parts.append((epoch + bool(batch), epochs, steps))
    watching = callbacks(work, progress, best_before)
    for first, end, count in parts:
        if first >= end or (at and model.stop_training):
            continue
        try:
            model.fit(
                input_pipeline.training_batches(examples, recipe, number, first, steps - count),
                initial_epoch=first,
                epochs=end,
                steps_per_epoch=count,
                validation_data=validation,
                verbose=0,
                callbacks=watching,
            )
        except Stopped:
            if not work.best.weights:
                _keep_unfinished(model, work, progress, validation)
            return True
    return False


def _keep_unfinished(model, work: Work, progress: Progress, validation) -> None:
    """Keeps the weights of a run that was stopped before its first epoch ended."""
    work.report("training", "Measuring the weights so far on the validation images", 0, None, True)
    loss, accuracy = model.evaluate(validation, verbose=0)
    work.best.offer(work.network, loss, progress.number, 0)
    work.events.write(
        "epoch",
        stage=progress.number,
        epoch=progress.epoch,
        step=progress.step,
        val_loss=loss,
        val_accuracy=accuracy,
    )


def _check_frozen(bundle: modeling.Bundle, stage: StageSpec, before: dict[str, str]) -> None:
    """Raises TrainingError if a frozen weight has changed during the fit."""
    after = modeling.frozen_digests(bundle)
    changed = [name for name, digest in after.items() if before[name] != digest]
    if changed:
        raise TrainingError(
            f"frozen weights changed in stage {stage.name} ({changed[0]} and "
            f"{len(changed) - 1} more), which must never happen; please report it"
        )


def _reason(stage: StageSpec, progress: Progress, stopped: bool) -> str:
    """Why a stage ended: "completed", "stopped", "early_stopping" or "diverged"."""
    if stopped:
        return "stopped"
    if progress.reason == "completed" and progress.epochs_done < stage.epochs:
        return "early_stopping"
    return progress.reason


# -- words ------------------------------------------------------------------------------------


def _note_path(
    stage: StageSpec, cached: compute.Cached | None, why: str | None, events: EventWriter
) -> None:
    """Notes how a stage runs where that may be unexpected."""
    if why and stage.trainable != "all":
        events.write(
            "note", text=f"Stage {stage.name} runs the whole network in every epoch: {why}."
        )
    if cached and not cached.exact:
        events.write(
            "note",
            text=f"Stage {stage.name} trains on {cached.views} fixed random views of each image "
            "(cached_views). This approximates new augmentation in every epoch.",
        )


def _report_end(
    stage: StageSpec, work: Work, progress: Progress, reason: str, before: float, frozen: int
) -> None:
    """Writes the `stage_end` event."""
    helped = work.best.stage == progress.number
    work.events.write(
        "stage_end",
        stage=progress.number,
        name=stage.name,
        step=progress.step,
        helped=helped,
        reason=reason,
        best_val_loss=progress.best_loss,
        best_epoch=progress.best_epoch,
        best_val_loss_before=before,
        frozen_intact=True,
        frozen_weights=frozen,
        seconds=progress.seconds,
        peak_memory_mb=device.peak_memory_mb(),
        text=_stage_text(stage, reason, progress, helped, before, work.kept()),
    )


def _stage_text(
    stage: StageSpec, reason: str, progress: Progress, helped: bool, before: float, kept: str
) -> str:
    """A stage's result in a sentence."""
    ends = {
        "completed": f"ran {plural(stage.epochs, 'epoch')}",
        "stopped": "was stopped",
        "early_stopping": f"stopped early after {plural(progress.epochs_done, 'epoch')}, "
        f"{stage.early_stopping} without a better validation loss",
        "diverged": "diverged and was ended",
    }
    found = f"{progress.best_loss:.4g}" if np.isfinite(progress.best_loss) else "none"
    text = f"Stage {stage.name} {ends[reason]}; its best validation loss was {found}"
    if helped:
        return text + (f", better than {before:.4g} before." if np.isfinite(before) else ".")
    if np.isfinite(before):
        return text + f". It did not help: the weights of {kept} ({before:.4g}) are kept."
    return text + "."
