"""One stage of a run: its fit on cached features or on the whole network, and what it was worth.

Heavy: imports Keras.
"""

from dataclasses import dataclass, field

import keras
import numpy as np

from engine.errors import TrainingError
from engine.features import compute, store
from engine.host import device
from engine.host.signals import Stopped
from engine.models import modeling
from engine.train import input_pipeline
from engine.train.reporter import Best, Reporter


@dataclass
class Work:
    """What all stages of a run share.

    Attributes:
        recipe, bundle, dataset, pixels, split: what is trained, on what.
        home: Graft's home.
        steps: batches in an epoch.
        events: an EventLog.
        ask: a function without arguments: "stop" or "pause" once the user has asked for it, else "".
        report: a function of (phase, text, done, total), see `_phases`.
        keeper: checkpoints; None where nothing is to be kept, as in a probe.
        best: the best weights so far.
        initial: weights before the first stage, for a stage that goes wrong before there is a best.
        told: indices of stages whose beginning the events tell of already.
    """

    recipe: object
    bundle: object
    dataset: object
    pixels: object
    split: dict
    home: object
    steps: int
    events: object
    ask: object
    report: object
    keeper: object = None
    best: Best = field(default_factory=Best)
    initial: list = field(default_factory=list)
    told: set = field(default_factory=set)

    @property
    def network(self):
        """The whole keras.Model."""
        return self.bundle.model


def run_stage(number, work, first_step) -> tuple[bool, int]:
    """Fits one stage and reports what it was worth.

    Where its frozen part can be cached, the rest is fitted on the part's outputs: the same layers,
    the same order of images, the same result, for a fraction of the time.

    Args:
        number: the stage's index in the recipe.
        work: the Work; if its keeper was in this stage, the stage goes on from there.
        first_step: the global step to begin with.

    Returns:
        (whether the user stopped it, the global step reached).
    """
    recipe, bundle, best, events = work.recipe, work.bundle, work.best, work.events
    stage, steps, train = recipe.stages[number], work.steps, work.split["train"]
    at = work.keeper and work.keeper.position
    if at and at["stage"] != number:
        at = None
    sizes = modeling.apply_stage(bundle, stage)
    later = any(store.why_not(recipe, s.trainable) for s in recipe.stages[number + 1 :])
    try:
        cached, why = compute.prepare(
            bundle,
            recipe,
            number,
            work.dataset,
            work.pixels,
            work.split,
            work.home,
            work.report,
            keep_pixels=later,
        )
    except Stopped:
        if not best.weights:
            raise
        return True, first_step  # the stages before are worth keeping
    model = cached.suffix if cached else bundle.model
    new = number not in work.told or not at
    if new:
        _tell_path(stage, cached, why, events)
    text = f"Stage {number + 1} of {len(recipe.stages)}: {stage.name}"
    work.report("training", text, 0, None, True)
    compile_(model, stage, work)
    before = modeling.frozen_digests(bundle)
    start = best.weights or work.initial
    if new:
        events.write(
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
    facts = {
        "best_before": best_before if np.isfinite(best_before) else None,
        "batch_size": recipe.batch_size,
        "steps_per_epoch": steps,
        "precision": keras.config.dtype_policy().name,
    }
    costs = [_step_cost(s, recipe) for s in recipe.stages]
    reporter = Reporter(number, work, first_step, len(train), costs, facts)
    stopped = _fit(model, number, work, cached, reporter, at)
    changed = [
        name for name, digest in modeling.frozen_digests(bundle).items() if before[name] != digest
    ]
    if changed:
        raise TrainingError(
            f"frozen weights changed in stage {stage.name} ({changed[0]} and "
            f"{len(changed) - 1} more), which must never happen; please report it"
        )
    if cached:
        cached.close()
    helped = best.stage == number
    reason = "stopped" if stopped else reporter.reason
    if reason == "completed" and reporter.epochs_done < stage.epochs:
        reason = "early_stopping"
    if reason in ("diverged", "early_stopping"):
        # What comes next starts from something good, not from where it went wrong.
        bundle.model.set_weights(best.weights or start)
    events.write(
        "stage_end",
        stage=number,
        name=stage.name,
        step=reporter.step,
        helped=helped,
        reason=reason,
        best_val_loss=reporter.best_loss,
        best_epoch=reporter.best_epoch,
        best_val_loss_before=best_before,
        frozen_intact=True,
        frozen_weights=len(before),
        seconds=reporter.seconds,
        peak_memory_mb=device.peak_memory_mb(),
        text=_stage_text(stage, reason, reporter, helped, best_before, kept(work)),
    )
    return stopped, reporter.step


def _tell_path(stage, cached, why, events) -> None:
    """Notes how a stage runs where that is not what one would expect."""
    if why and stage.trainable != "all":
        events.write(
            "note", text=f"Stage {stage.name} runs the whole network in every epoch: {why}."
        )
    if cached and not cached.exact:
        events.write(
            "note",
            text=f"Stage {stage.name} trains on {cached.views} fixed random views of every image, an "
            "approximation of new ones in every epoch (cached_views).",
        )


def compile_(model, stage, work) -> None:
    """Compiles a model for a stage: optimizer with schedule, loss, accuracy."""
    model.compile(
        optimizer=modeling.optimizer(stage, work.steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=work.recipe.head.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        # XLA made the step ten times slower on a CPU (facts), and changes between GPU drivers.
        jit_compile=False,
    )
    # Keras builds it in the first step, too late for a checkpoint's values.
    model.optimizer.build(model.trainable_variables)


def _fit(model, number, work, cached, reporter, at) -> bool:
    """Fits a stage, or what is left of it; returns whether the user stopped it."""
    recipe, split, labels = work.recipe, work.split, work.dataset.labels
    stage, steps, train = recipe.stages[number], work.steps, split["train"]
    class_count = work.network.output_shape[-1]
    shared = (labels, class_count, recipe)
    weights = None
    if recipe.class_weights == "balanced":
        counts = np.bincount(labels[train], minlength=class_count)
        weights = counts.sum() / (class_count * counts)
    validation = input_pipeline.evaluation_batches(
        work.pixels, split["validation"], *shared, cached
    )
    epoch, batch = 0, 0
    if at:
        reporter.take_up(at)
        epoch, batch = at["epoch"], at["batch"]
        if at["ended"]:
            epoch, batch = stage.epochs, 0
    # An epoch that was broken off is finished by a fit of its own: it has fewer steps.
    parts = [(epoch, epoch + 1, steps - batch)] if batch else []
    parts.append((epoch + bool(batch), stage.epochs, steps))
    for first, end, count in parts:
        if first >= end or (at and reporter.ended):
            continue
        try:
            model.fit(
                input_pipeline.training_batches(
                    work.pixels, train, *shared, number, first, weights, cached, steps - count
                ),
                initial_epoch=first,
                epochs=end,
                steps_per_epoch=count,
                validation_data=validation,
                verbose=0,
                callbacks=[reporter],
            )
        except Stopped:
            if not work.best.weights:
                # Stopped before the first epoch ended: what was learnt so far is the best so far.
                loss, accuracy = model.evaluate(validation, verbose=0)
                work.best.offer(work.network, loss, number, 0)
                work.events.write(
                    "epoch",
                    stage=number,
                    epoch=reporter.epoch,
                    step=reporter.step,
                    val_loss=loss,
                    val_accuracy=accuracy,
                )
            return True
    return False


def _step_cost(stage, recipe) -> float:
    """A step's cost against a forward pass of the whole network: the backward pass of all layers
    costs about twice the forward one (Kaplan et al. 2020, arXiv:2001.08361, section 2.1)."""
    if not store.why_not(recipe, stage.trainable):
        return 0.02 if stage.trainable == "none" else 0.7
    return {"none": 1.0, "all": 3.0}.get(stage.trainable, 2.0)


def _stage_text(stage, reason, reporter, helped, before, kept) -> str:
    """What a stage was worth, in a sentence."""
    ends = {
        "completed": f"ran its {stage.epochs} epochs",
        "stopped": "was stopped",
        "early_stopping": f"stopped early after {reporter.epochs_done} epochs, the last "
        f"{stage.early_stopping} of them without a better validation loss",
        "diverged": "diverged (it no longer learnt anything) and was ended",
    }
    found = f"{reporter.best_loss:.4g}" if np.isfinite(reporter.best_loss) else "none"
    text = f"Stage {stage.name} {ends[reason]}; its best validation loss was {found}"
    if helped:
        return text + (f", better than the {before:.4g} before." if np.isfinite(before) else ".")
    if np.isfinite(before):
        return text + f". It did not help: the weights of {kept} ({before:.4g}) are kept."
    return text + "."


def kept(work) -> str:
    """Whose weights are best so far, in words."""
    if work.best.stage < 0:
        return f"run {work.recipe.continue_from}, which this one continues,"
    return f"stage {work.recipe.stages[work.best.stage].name}"
