"""The learning-rate range test of one stage, measured; see `engine.estimate.rate_test`.

Heavy: imports TensorFlow. It runs in a separate process (`engine.host.background_worker`) that
`engine.estimate.probes` starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from engine.data import prepare_worker
from engine.data.prepared import Dataset
from engine.estimate import rate_test
from engine.features import compute, store
from engine.features.pixels import Pixels
from engine.host.background import Report
from engine.host.log import Silent
from engine.host.words import plural
from engine.images import augment
from engine.models import modeling, optimizers, session
from engine.recipe import Recipe, StageSpec
from engine.train import input_pipeline, stages
from engine.train.work import Work

HEAD_STEPS = 200
"""Most steps of the head that replace earlier stages which run the whole network."""


def measure(recipe: Recipe, home: Path, stage: int, report: Report) -> dict:
    """Runs the range test at the start of a stage.

    A head with random weights would distort the test of a later stage, so earlier stages are
    trained as in the recipe if their frozen part can be cached. A stage that runs the whole network
    is skipped; if no head has been trained by then, at most one pass of the head alone replaces it.

    Args:
        recipe: `learning_rate` and `schedule` of the stage are not used.
        home: Graft's home.
        stage: index of the stage.
        report: shows progress.

    Returns:
        A dict: version 1; stage (name); number (its index); rates, losses, smoothed (lists of the
        same length, up to where the test ended; None where the loss was NaN); suggestion (or None);
        present (the recipe's rate); seconds; text, one sentence.

    Raises:
        GraftError: one sentence.
    """
    rate_test.check_stage(recipe, stage)
    begun = time.time()
    session.prepare_device(recipe, Silent())
    dataset = prepare_worker.ingest(recipe.dataset, home, report)
    split = dataset.split(recipe.split)
    report(f"Building {recipe.backbone.title}", 0, None)
    bundle = modeling.build(recipe, list(dataset.classes), home)
    pixels = Pixels(
        dataset,
        np.concatenate([split["train"], split["validation"]]),
        recipe.image_size,
        recipe.resize,
        recipe.memory_budget,
    )
    task = _Task(recipe, home, dataset, split, bundle, pixels, report)
    replaced = _go_to(task, stage)
    tried, losses = _sweep(task, stage)
    smoothed, suggestion = rate_test.suggest(tried, losses)
    name = recipe.stages[stage].name
    return {
        "version": 1,
        "stage": name,
        "number": stage,
        "rates": [float(rate) for rate in tried],
        "losses": _plain(losses),
        "smoothed": _plain(smoothed),
        "suggestion": suggestion,
        "present": recipe.stages[stage].learning_rate,
        "seconds": time.time() - begun,
        "text": _sentence(name, tried, smoothed, suggestion, replaced),
    }


@dataclass
class _Task:
    """What all steps of the measurement share; see `engine.train.work.Work` for the names."""

    recipe: Recipe
    home: Path
    dataset: Dataset
    split: dict[str, np.ndarray]
    bundle: modeling.Bundle
    pixels: Pixels
    report: Report

    def features_report(
        self, phase: str, text: str, done: int, total: int | None, always: bool = False
    ) -> None:
        """`report` as `engine.features.compute` calls it."""
        self.report(text, done, total)

    def features(
        self, recipe: Recipe, number: int, split: dict[str, np.ndarray]
    ) -> compute.Cached | None:
        """The features of a stage; None where it runs the whole network.

        Args:
            recipe, number: the recipe and the stage's index in it.
            split: the images.
        """
        stage = recipe.stages[number]
        modeling.apply_stage(self.bundle, stage)
        if store.why_not(recipe, stage.trainable):
            return None
        images = compute.Images(self.dataset, self.pixels, split)
        return compute.prepare(
            self.bundle, recipe, number, images, self.home, self.features_report
        )[0]

    def compile(self, model: keras.Model, stage: StageSpec) -> None:
        """Compiles a model for `train_on_batch` with a stage's optimizer at a settable rate."""
        smoothing = self.recipe.head.label_smoothing
        model.compile(
            # A number, not a schedule: the optimizer then keeps the rate as a variable.
            optimizer=optimizers.optimizer(stage.model_copy(update={"schedule": "constant"}), 1),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=smoothing),
            jit_compile=False,
        )

    def batches(
        self, recipe: Recipe, number: int, cached: compute.Cached | None = None
    ) -> Iterator[tuple[tf.Tensor, ...]]:
        """Whole batches of a stage's training images, in the recipe's order.

        The last batch of an epoch may hold a handful of images, whose loss says little, so it is
        skipped unless it is the only one.
        """
        train, labels, classes = self.split["train"], self.dataset.labels, len(self.dataset.classes)
        whole = min(recipe.batch_size, len(train))
        weights = stages.class_weights(recipe, labels[train], classes)
        examples = input_pipeline.Examples(self.pixels, train, labels, classes, weights, cached)
        found = input_pipeline.training_batches(examples, recipe, number)
        return (batch for batch in found if batch[1].shape[0] == whole)


# -- the stages before ------------------------------------------------------------------------


def _go_to(task: _Task, number: int) -> list[tuple[str, int]]:
    """Brings the model to where a stage starts; returns the stages that were not trained as in the
    recipe, a list of (name, steps of the head alone that replaced it)."""
    recipe, replaced, trained = task.recipe, [], False
    work = Work(
        recipe, task.bundle, task.dataset, task.pixels, task.split, task.home,
        events=Silent(), ask=lambda: "", report=_nothing,
        initial=task.bundle.model.get_weights(),
    )  # fmt: skip
    step = 0
    for before, stage in enumerate(recipe.stages[:number]):
        if cached := task.features(recipe, before, task.split):
            cached.close()  # `run_stage` opens them again
            work.events = Silent(_steps_of(task, stage, step, work.steps * stage.epochs))
            _, step = stages.run_stage(before, work, step)
        else:
            replaced.append((stage.name, 0 if trained else _head(task, before)))
        trained = True
    return replaced


def _steps_of(task: _Task, stage: StageSpec, since: int, total: int) -> Callable[[int], None]:
    """Shows the steps of a stage before the one that is tested."""
    text = f"Training stage {stage.name} before it"
    return lambda step: task.report(text, step - since, total)


def _nothing(phase: str, text: str, done: int, total: int | None, always: bool = False) -> None:
    """Shows no progress: the features are computed, and the steps are shown by the events."""


def _head(task: _Task, number: int) -> int:
    """Trains the head alone for at most one pass in place of a stage; returns the number of
    steps."""
    stage = task.recipe.stages[number]
    # The rate of a stage that trains the network would hardly move a new head.
    own = {"trainable": "none"} if stage.trainable == "none" else StageSpec().model_dump()
    stage = stage.model_copy(update=own | {"epochs": 1})
    modeling.apply_stage(task.bundle, stage)
    task.compile(task.bundle.model, stage)
    total = min(HEAD_STEPS, max(1, len(task.split["train"]) // task.recipe.batch_size))
    for done, batch in enumerate(task.batches(task.recipe, number), 1):
        task.bundle.model.train_on_batch(*batch)
        task.report("Training the head first", done, total)
        if done == total:
            break
    return total


# -- the test ---------------------------------------------------------------------------------


def _sweep(task: _Task, number: int) -> tuple[list[float], list[float]]:
    """The test itself: (rates, losses), of the same length."""
    recipe, train = task.recipe, task.split["train"]
    in_an_epoch = max(1, len(train) // recipe.batch_size)
    epochs = max(recipe.stages[number].epochs, -(-rate_test.STEPS // in_an_epoch))
    stage = recipe.stages[number].model_copy(update={"epochs": epochs})
    before, after = recipe.stages[:number], recipe.stages[number + 1 :]
    recipe = recipe.model_copy(update={"stages": (*before, stage, *after)})
    # Of a large dataset only the images of the test: the first of the first epoch.
    order = augment.epoch_order(len(train), recipe.shuffle_buffer, [recipe.seed, number, 0, 0])
    seen = train[order][: rate_test.STEPS * recipe.batch_size]
    cached = task.features(recipe, number, {"train": seen, "validation": seen[:0]})
    model = cached.suffix if cached else task.bundle.model
    task.compile(model, stage)
    tried: list[float] = []
    losses: list[float] = []
    mean, lowest = 0.0, np.inf
    planned = rate_test.sweep(stage.optimizer)
    task.report("Raising the learning rate", 0, len(planned))
    for rate, batch in zip(planned, task.batches(recipe, number, cached), strict=False):
        model.optimizer.learning_rate = rate
        loss = float(model.train_on_batch(*batch))
        tried.append(float(rate))
        losses.append(loss)
        task.report("Raising the learning rate", len(losses), len(planned))
        mean = rate_test.BETA * mean + (1 - rate_test.BETA) * loss
        smoothed = mean / (1 - rate_test.BETA ** len(losses))
        lowest = min(lowest, smoothed)
        if not smoothed <= rate_test.DIVERGED * lowest:
            break
    # A batch may still be read ahead, so the store stays open until the process ends.
    return tried, losses


# -- words ------------------------------------------------------------------------------------


def _sentence(
    name: str,
    tried: list[float],
    smoothed: np.ndarray,
    suggestion: float | None,
    replaced: list[tuple[str, int]],
) -> str:
    spent = f"over {plural(len(tried), 'step')} from {tried[0]:.1g} to {tried[-1]:.1g}"
    if suggestion is None:
        text = (
            f"The loss of stage {name} never fell clearly {spent}, so no rate is suggested "
            "(the network may be trained well already where the stage starts)"
        )
        limit = rate_test.rise(tried, smoothed)
        if limit is not None:
            text += f"; it rose from about {limit:.1e}"
    else:
        text = f"The loss of stage {name} fell best around {suggestion:.1e} {spent}"
    for other, steps in replaced:
        by = f"replaced by {plural(steps, 'step')} of the head alone" if steps else "skipped"
        text += f"; stage {other} runs the whole network and was {by}"
    return text + "."


def _plain(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """Numbers for JSON, which has no NaN."""
    return [float(v) if np.isfinite(v) else None for v in values]
