"""The path from a recipe to a result; read `train` from top to bottom.

It runs in a worker process (`engine.jobs.worker`), the only process that uses the GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from engine import home as homes
from engine.data import datasets, prepare_worker
from engine.data.unreadable import Unreadable
from engine.errors import TrainingError
from engine.features import store
from engine.features.pixels import Pixels
from engine.host.log import EventWriter, PhaseReport
from engine.host.signals import Paused, Stopped
from engine.models import modeling, session
from engine.recipe import Recipe
from engine.runs import files
from engine.runs.runs import Run
from engine.train import restart, result, stages
from engine.train.best import Best
from engine.train.resume import Keeper
from engine.train.stopping import between_steps
from engine.train.work import Work

EXAMPLES_PER_CLASS = 3
MAX_EXAMPLES = 30
NAMED = 20
"""Unreadable files that are named one by one."""


def train(run: Run, home: Path, events: EventWriter, ask: Callable[[], str]) -> dict:
    """Executes a run, from its last checkpoint if there is one.

    Args:
        run: its folder takes the results.
        home: Graft's home.
        events: takes the run's events.
        ask: returns "stop" or "pause" once the user has asked for it, else "".

    Returns:
        A dict: status "finished" or "stopped", kept_stage (name) and text (one sentence).

    Raises:
        GraftError: one sentence.
        Stopped: if the stop came before there was anything to keep.
        Paused: if the run is to be resumed later.
    """
    recipe, keeper = run.recipe, Keeper(run.path, home)
    at = keeper.position
    precision = session.prepare_device(recipe, events, at["precision"] if at else None)
    best = Best()
    report = _phases(events, between_steps(ask, bool(at), best))

    # Data: decoded and checked once; the split is fixed before training starts.
    dataset, split = _open_data(run, home, report, events, restart.has_begun(run, keeper))
    lost = Unreadable(dataset, split, lambda text: events.write("warning", text=text))
    _keep_examples(run, dataset, split["test"], lost)

    # Model.
    report("model", f"Building {recipe.backbone.title}", 0, None)
    bundle = modeling.build(recipe, list(dataset.classes), home)
    known = {"classes": list(dataset.classes), "precision": precision}
    homes.write_json(run.path / files.ARCHITECTURE, modeling.architecture(bundle) | known)
    pixels = _pixels(recipe, dataset, split, lost, events)

    # Stages: one fit each. The run keeps the best weights of all of them.
    work = Work(
        recipe, bundle, dataset, pixels, split, home, events, ask, report, keeper,
        best, bundle.model.get_weights(),
    )  # fmt: skip
    earlier = run.events()[0]
    restart.report_start(work, earlier, precision)
    try:
        was_stopped = _run_stages(work, earlier)
    except Exception as error:
        lost.reraise(error)  # TensorFlow wraps a pause that was raised inside tf.data
        raise
    if not work.best.weights:
        raise TrainingError(
            "the loss was not a number in every epoch, so there is nothing to keep; lower "
            "the learning rate or choose precision float32"
        )

    # Result: the kept model, tested on images it was not trained on.
    run.update(finishing=True)  # from here on, a stop would change nothing
    test = result.write(run, work, lost)
    status, best = "stopped" if was_stopped else "finished", work.best
    stage = recipe.stages[best.stage].name if best.stage >= 0 else None
    return {"status": status, "kept_stage": stage, "text": result.sentence(status, work, test)}


def _open_data(
    run: Run, home: Path, report: PhaseReport, events: EventWriter, again: bool
) -> tuple[datasets.Dataset, dict[str, np.ndarray]]:
    """The dataset, prepared if necessary, and its split, which `split.json` keeps.

    Args:
        again: whether the run has started before.

    Raises:
        TrainingError: if the dataset is not the one that the run was created for.
    """
    recipe, known = run.recipe, run.state.get("fingerprint")

    def progress(text: str, done: int = 0, total: int | None = None, /) -> None:
        report("data", text, done, total)

    dataset = prepare_worker.ingest(recipe.dataset, home, progress, known if again else None)
    for name, why in dataset.unreadable[:NAMED]:
        events.write("warning", text=f"{name} is left out: {why}")
    if len(dataset.unreadable) > NAMED:
        more = len(dataset.unreadable) - NAMED
        events.write(
            "warning", text=f"{more} more {'file is' if more == 1 else 'files are'} left out"
        )
    if changed := known and datasets.changed_since(recipe.dataset, home, known):
        raise TrainingError(changed)
    run.update(fingerprint=dataset.fingerprint)
    split = dataset.split(recipe.split)
    if not again:
        divided = len(set(dataset.source_splits.tolist())) > 1
        division = dataset.division(recipe.split) if divided else ""
        for text in filter(None, (division, dataset.left_out_text)):
            events.write("note", text=text)
    contents = {part: dataset.contents[indices].tolist() for part, indices in split.items()}
    homes.write_json(run.path / files.SPLIT, {"fingerprint": dataset.fingerprint} | contents)
    return dataset, split


def _pixels(
    recipe: Recipe,
    dataset: datasets.Dataset,
    split: dict[str, np.ndarray],
    lost: Unreadable,
    events: EventWriter,
) -> Pixels:
    """The images of the training and validation parts; notes if they do not fit into memory."""
    used = np.concatenate([split["train"], split["validation"]])
    pixels = Pixels(dataset, used, recipe.image_size, recipe.resize, recipe.memory_budget, lost)
    if not pixels.cached and any(store.why_not(recipe, s.trainable) for s in recipe.stages):
        events.write(
            "note",
            text="The decoded images exceed the memory budget of "
            f"{recipe.memory_budget} MiB, so they are decoded again in every epoch.",
        )
    return pixels


def _run_stages(work: Work, earlier: list[dict]) -> bool:
    """Runs the stages, from the last checkpoint if there is one; returns whether the user stopped.

    Args:
        work: the run's Work.
        earlier: the events so far.
    """
    first, step = restart.begin(work, earlier)
    for number in range(first, len(work.recipe.stages)):
        was_stopped, step = stages.run_stage(number, work, step)
        if was_stopped:
            return True
    return False


def _phases(events: EventWriter, ask: Callable[[], str]) -> PhaseReport:
    """A progress function that writes `phase` events, at most five a second for the same text. It
    raises what the user has asked for unless it is called with `always`."""
    shown, shown_at = "", 0.0

    def report(phase: str, text: str, done: int, total: int | None, always: bool = False) -> None:
        nonlocal shown, shown_at
        asked = "" if always else ask()
        if asked:
            raise Paused if asked == "pause" else Stopped
        now = time.time()
        if text != shown or done == total or now - shown_at > 0.2:
            shown, shown_at = text, now
            events.write("phase", phase=phase, text=text, done=done, total=total)

    return report


def _keep_examples(run: Run, dataset: datasets.Dataset, test: np.ndarray, lost: Unreadable) -> None:
    """Copies a few test images, so that the run can be tried on any host."""
    folder = run.path / files.EXAMPLES
    folder.mkdir(exist_ok=True)
    rows: list[dict] = []
    per_class = max(1, min(EXAMPLES_PER_CLASS, MAX_EXAMPLES // len(dataset.classes)))
    for label, name in enumerate(dataset.classes):
        own = lost.readable(test[dataset.labels[test] == label])
        for index, data in islice(own, per_class):
            file = f"{len(rows):03d}.{str(dataset.formats[index]).lower()}"
            (folder / file).write_bytes(data)
            rows.append({"file": file, "label": name, "name": dataset.names[index]})
            if len(rows) == MAX_EXAMPLES:
                break
    homes.write_json(folder / files.EXAMPLES_LIST, rows[:MAX_EXAMPLES])
