"""The learning-rate range test of one stage (`engine.estimate.rate_test` says what it is), measured.

Heavy: TensorFlow. It runs in a process of its own (`engine.host.background_worker`); ask through `engine.estimate.probes`.
"""

import time

import keras
import numpy as np

from engine.data import prepare_worker
from engine.estimate import rate_test
from engine.features import compute, store
from engine.images import augment
from engine.models import modeling, session
from engine.recipe import StageSpec
from engine.train import input_pipeline, stages

HEAD_STEPS = 200
"""Most steps that stand for the stages before, where these run the whole network."""


def measure(recipe, home, stage, report) -> dict:
    """Runs the range test at the beginning of a stage.

    A head with random weights would spoil the test of a later stage, so the stages before are
    trained as the recipe says where their frozen part can be cached; one that runs the whole
    network is left out, and if no head has been trained then, at most one pass of the head alone
    takes its place.

    Args:
        recipe: a Recipe; `learning_rate` and `schedule` of the stage are not used.
        home: Graft's home.
        stage: index of the stage.
        report: called with (text, done, total, eta_seconds).

    Returns:
        A dict: version 1; stage (name); number (its index); rates, losses, smoothed (equally long
        lists, up to where the test ended; None where the loss was no number); suggestion (or None);
        present (the recipe's rate); seconds; text, one sentence.

    Raises:
        GraftError: one sentence.
    """
    rate_test.check_stage(recipe, stage)
    begun, report = time.time(), _timed(report)
    session.prepare_device(recipe, session.Silent())
    dataset = prepare_worker.ingest(recipe.dataset, home, report)
    split, labels = dataset.split(recipe.split), dataset.labels
    report(f"Building {recipe.backbone.title}", 0, None)
    bundle = modeling.build(recipe, list(dataset.classes), home)
    pixels = input_pipeline.Pixels(
        dataset,
        np.concatenate([split["train"], split["validation"]]),
        recipe.image_size,
        recipe.resize,
        recipe.memory_budget,
    )
    task = _Task(recipe, home, dataset, split, labels, bundle, pixels, report)
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


class _Task:
    """What all steps of the measurement share."""

    def __init__(self, recipe, home, dataset, split, labels, bundle, pixels, report):
        self.recipe, self.home, self.dataset, self.split = recipe, home, dataset, split
        self.labels, self.bundle, self.pixels, self.report = labels, bundle, pixels, report
        self.classes = len(dataset.classes)
        self.weights = None
        if recipe.class_weights == "balanced":  # as engine.train.training weighs them
            counts = np.bincount(labels[split["train"]], minlength=self.classes)
            self.weights = counts.sum() / (self.classes * counts)

    def frozen_report(self, phase, text, done, total):
        """`report` as `engine.features.compute` calls it."""
        self.report(text, done, total)

    def compile(self, model, stage):
        """Readies a model for `train_on_batch` with a stage's optimizer and a rate that can be set."""
        smoothing = self.recipe.head.label_smoothing
        model.compile(
            # A plain number, not a schedule: the optimizer then keeps the rate as a variable.
            optimizer=modeling.optimizer(stage.model_copy(update={"schedule": "constant"}), 1),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=smoothing),
            jit_compile=False,
        )

    def batches(self, recipe, number, cached=None):
        """Whole batches of a stage's training images, in the recipe's order.

        The last batch of an epoch may hold a handful of images, whose loss says little, so it is
        passed over, unless there is no other.
        """
        train = self.split["train"]
        whole = min(recipe.batch_size, len(train))
        found = input_pipeline.training_batches(
            self.pixels, train, self.labels, self.classes, recipe, number, 0, self.weights, cached
        )
        return (batch for batch in found if batch[1].shape[0] == whole)


# -- the stages before ------------------------------------------------------------------------


def _go_to(task, number):
    """Brings the model to where a stage begins; returns the stages that were not trained as the
    recipe says, a list of (name, steps of the head alone that stood for it)."""
    recipe, replaced, trained = task.recipe, [], False
    steps = -(-len(task.split["train"]) // recipe.batch_size)
    work = stages.Work(
        recipe, task.bundle, task.dataset, task.pixels, task.split, task.home, steps,
        events=None, ask=lambda: "", report=None, initial=task.bundle.model.get_weights(),
    )  # fmt: skip
    step = 0
    for before in range(number):
        if _can_be_cached(task, before):
            text = f"Training stage {recipe.stages[before].name} before it"
            total = steps * recipe.stages[before].epochs
            work.events = session.Silent(
                lambda at, since=step, text=text, total=total: task.report(text, at - since, total)
            )
            work.report = lambda phase, text, done, total, always=False: (
                phase == "features" and task.report(text, done, total)
            )
            _, step = stages.run_stage(before, work, step)
            trained = True
        else:
            replaced.append((recipe.stages[before].name, 0 if trained else _head(task, before)))
            trained = True
    return replaced


def _can_be_cached(task, number) -> bool:
    """Whether a stage trains on cached features; computes them, and `run_stage` finds them."""
    recipe = task.recipe
    if store.why_not(recipe, recipe.stages[number].trainable):
        return False
    modeling.apply_stage(task.bundle, recipe.stages[number])
    cached, _ = compute.prepare(
        task.bundle,
        recipe,
        number,
        task.dataset,
        task.pixels,
        task.split,
        task.home,
        task.frozen_report,
    )
    if cached:
        cached.close()
    return cached is not None


def _head(task, number) -> int:
    """Trains the head alone for at most one pass in a stage's stead; returns the number of steps."""
    stage = task.recipe.stages[number]
    # The rate of a stage that trains the network would hardly move a new head; a frozen one's does.
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


def _sweep(task, number):
    """The test itself: (rates, losses), two equally long lists."""
    recipe, bundle = task.recipe, task.bundle
    stage, train = recipe.stages[number], task.split["train"]
    in_an_epoch = max(1, len(train) // recipe.batch_size)
    epochs = max(stage.epochs, -(-rate_test.STEPS // in_an_epoch))
    stage = stage.model_copy(update={"epochs": epochs})
    stages = list(recipe.stages)
    stages[number] = stage
    recipe = recipe.model_copy(update={"stages": tuple(stages)})
    modeling.apply_stage(bundle, stage)
    cached = None
    if not store.why_not(recipe, stage.trainable):
        # Of a large dataset only the images that the test will see: the first of the first epoch.
        order = augment.epoch_order(len(train), recipe.shuffle_buffer, [recipe.seed, number, 0, 0])
        seen = train[order][: rate_test.STEPS * recipe.batch_size]
        part = {"train": seen, "validation": seen[:0]}
        cached, _ = compute.prepare(
            bundle, recipe, number, task.dataset, task.pixels, part, task.home, task.frozen_report
        )
    model = cached.suffix if cached else bundle.model
    task.compile(model, stage)
    tried, losses, mean, lowest = [], [], 0.0, np.inf
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
    # A batch read ahead may still be under way, so the store is left to the end of the process.
    return tried, losses


# -- words ------------------------------------------------------------------------------------


def _sentence(name, tried, smoothed, suggestion, replaced) -> str:
    spent = f"over {len(tried)} steps from {tried[0]:.1g} to {tried[-1]:.1g}"
    if suggestion is None:
        text = (
            f"The loss of stage {name} never fell clearly {spent}, so there is nothing to suggest "
            "(there may be little left to learn where the stage begins)"
        )
        limit = rate_test.rise(tried, smoothed)
        if limit is not None:
            text += f"; it rose from about {limit:.1e} on"
    else:
        text = f"The loss of stage {name} fell best around {suggestion:.1e} {spent}"
    for other, steps in replaced:
        stood = f"{steps} steps of the head alone stood for" if steps else "nothing stood for"
        text += f"; {stood} stage {other}, which runs the whole network"
    return text + "."


def _plain(values) -> list:
    """Numbers for JSON, which has no NaN."""
    return [float(v) if np.isfinite(v) else None for v in values]


def _timed(report):
    """`report` that works out the time left from what one text has done so far.

    The first item is left out of the pace: it waits for graphs to be traced.
    """
    last = {"text": None}

    def timed(text, done=0, total=None):
        now = time.time()
        if text != last["text"]:
            last.update(text=text, time=now, done=done)
        elif last["done"] == 0 and done:
            last.update(time=now, done=done)
        gone = done - last["done"]
        eta = (now - last["time"]) / gone * (total - done) if gone > 0 and total else None
        report(text, done, total, eta)

    return timed
