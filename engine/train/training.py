"""The visible path from a recipe to a result; read `train` from top to bottom.

It runs in a worker process (`engine.jobs.worker`), the only place that owns the GPU.
"""

import time
from itertools import islice

import numpy as np

from engine import home as homes
from engine.data import datasets, prepare_worker
from engine.data.unreadable import Unreadable
from engine.errors import TrainingError
from engine.features import store
from engine.host.signals import Paused, Stopped
from engine.models import modeling, session
from engine.predict import calibrate, calibration, classifier, evaluation, reference
from engine.train import continuing, input_pipeline, keep, stages
from engine.train.resume import Keeper

EXAMPLES_PER_CLASS = 3
MAX_EXAMPLES = 30


def train(run, home, events, ask) -> dict:
    """Executes a run, from its last checkpoint if it has one: data, model, stages, evaluation, export.

    Args:
        run: the Run; its folder takes the results.
        home: Graft's home.
        events: an EventLog.
        ask: a function without arguments: "stop" or "pause" once the user has asked for it, else "".

    Returns:
        A dict: status "finished" or "stopped", kept_stage (name) and text (one sentence).

    Raises:
        GraftError: one sentence.
        Stopped: if the stop came before there was anything to keep.
        Paused: if the run is to be taken up later.
    """
    recipe, keeper = run.recipe, Keeper(run.path, home)
    at = keeper.position
    chosen = session.prepare_device(recipe, events, at and at["precision"])
    # A run that has learnt something is stopped in its first step, where it can keep it.
    report = _phases(events, (lambda: "pause" * (ask() == "pause")) if at else ask)

    # Data: decoded and checked once; the split is fixed before anything is trained.
    known = run.state.get("fingerprint")
    again = at or (run.path / "split.json").exists()  # it has begun before
    dataset = prepare_worker.ingest(
        recipe.dataset, home, lambda *a: report("data", *a), known if again else None
    )
    for name, why in dataset.unreadable[:20]:
        events.write("warning", text=f"{name} is left out: {why}")
    if len(dataset.unreadable) > 20:
        events.write("warning", text=f"{len(dataset.unreadable) - 20} more files are left out")
    if changed := known and datasets.changed_since(recipe.dataset, home, known):
        raise TrainingError(changed)
    run.update(fingerprint=dataset.fingerprint)
    split = dataset.split(recipe.split)
    if not again and len(set(dataset.source_splits.tolist())) > 1:
        events.write("note", text=dataset.division(recipe.split))
    classes, labels = list(dataset.classes), dataset.labels
    homes.write_json(
        run.path / "split.json",
        {"fingerprint": dataset.fingerprint}
        | {part: dataset.contents[indices].tolist() for part, indices in split.items()},
    )
    lost = Unreadable(dataset, split, lambda text: events.write("warning", text=text))
    _keep_examples(run, dataset, split["test"], lost)

    report("model", f"Building {recipe.backbone.title}", 0, None)
    bundle = modeling.build(recipe, classes, home)
    architecture = modeling.architecture(bundle) | {"classes": classes, "precision": chosen}
    homes.write_json(run.path / "architecture.json", architecture)

    pixels = input_pipeline.Pixels(
        dataset,
        np.concatenate([split["train"], split["validation"]]),
        recipe.image_size,
        recipe.resize,
        recipe.memory_budget,
        lost,
    )
    if not pixels.cached and any(store.why_not(recipe, s.trainable) for s in recipe.stages):
        events.write(
            "note",
            text=f"The decoded images exceed the memory budget of {recipe.memory_budget} "
            "MiB, so they are decoded anew in every epoch.",
        )

    # Stages, one fit each; the best weights over all of them are what the run keeps.
    steps = -(-len(split["train"]) // recipe.batch_size)
    work = stages.Work(
        recipe, bundle, dataset, pixels, split, home, steps, events, ask, report, keeper,
        initial=bundle.model.get_weights(),
    )  # fmt: skip
    best, earlier = work.best, run.events()[0]
    begun = any(event["event"] == "start" for event in earlier)
    if begun and not at:
        # It broke off before its first checkpoint.
        events.write("resume", stage=None, epoch=0, step=0, text="Begun again from the start.")
    if not begun or not at:
        events.write(
            "start",
            classes=classes,
            counts={part: len(indices) for part, indices in split.items()},
            steps_per_epoch=steps,
            total_steps=steps * sum(s.epochs for s in recipe.stages),
            stages=[s.model_dump() for s in recipe.stages],
            precision=chosen,
        )
    try:
        was_stopped = _stages(work, at, earlier)
    except Exception as error:
        lost.reraise(error)  # what paused the run inside tf.data, which wraps it
        raise
    if not best.weights:
        raise TrainingError(
            "the loss was not a number in every epoch, so there is nothing to keep; lower "
            "the learning rate or choose precision float32"
        )
    kept = stages.kept(work)

    # The model that is kept: float32 whatever it was trained in, so that it answers alike anywhere.
    run.update(finishing=True)  # a stop has nothing more to ask for
    report("export", "Writing the model", 0, None, True)
    bundle.model.set_weights(best.weights)
    modeling.restore_dropout(bundle)
    kept_bundle = keep.in_float32(bundle, recipe.head)
    keep.write(kept_bundle, run)

    report("evaluation", "Testing on images it has never seen", 0, None, True)
    figures = evaluate(run, dataset, split, labels, classes, lost, report)
    probe = [data for _, data in islice(lost.readable(split["validation"]), 64)]
    figures["parity"] = keep.parity(run, kept_bundle, bundle, probe)
    # Half precision may turn a close call or two; more than that is a fault, and is said.
    if figures["parity"]["largest_difference"] > 1e-3 or figures["parity"]["same_answers"] < 0.95:
        events.write(
            "warning",
            text="The exported model does not answer quite as the trained one: probabilities differ by "
            f"up to {figures['parity']['largest_difference']:.2g} between formats, and "
            f"{figures['parity']['same_answers']:.0%} of {len(probe)} answers are alike.",
        )
    homes.write_json(run.path / "evaluation.json", figures)
    test = figures["test"]
    stage = recipe.stages[best.stage].name if best.stage >= 0 else None
    text = (
        f"{'Stopped' if was_stopped else 'Finished'}: the weights of {kept} were kept; accuracy on "
        f"{test['n']} test images {test['accuracy']:.1%} (95% interval {test['interval'][0]:.1%} to "
        f"{test['interval'][1]:.1%})."
    )
    return {"status": "stopped" if was_stopped else "finished", "kept_stage": stage, "text": text}


def _stages(work, at, earlier) -> bool:
    """Runs the stages, from the last checkpoint if there is one; returns whether the user stopped.

    Args:
        work: the Work.
        at: the checkpoint's position, or None.
        earlier: the events so far.
    """
    first, step, was_stopped = 0, 0, False
    if at:
        work.told = {e["stage"] for e in earlier if e["event"] == "stage_start"}
        first, step = _take_up(work)
    elif work.recipe.continue_from:
        continuing.begin(work)
    for number in range(first, len(work.recipe.stages)):
        was_stopped, step = stages.run_stage(number, work, step)
        if was_stopped:
            break
    return was_stopped


def _take_up(work) -> tuple[int, int]:
    """Goes to where the last checkpoint was; returns the stage and the global step to go on with."""
    keeper, best, at = work.keeper, work.best, work.keeper.position
    keeper.restore_network(work.network)
    if at["best"]:
        best.loss, best.stage, best.epoch = (at["best"][k] for k in ("loss", "stage", "epoch"))
        best.weights, keeper.best = keeper.best, None
    if at["batch_size"] != work.recipe.batch_size:
        at = keeper.position = continuing.rescaled(at, work.recipe.batch_size, work.steps)
    where = f"epoch {at['epoch'] + 1} of stage {work.recipe.stages[at['stage']].name}"
    damaged = " (the newest checkpoint was damaged)" if at["damaged"] else ""
    work.events.write(
        "resume",
        stage=at["stage"],
        epoch=at["epoch"],
        step=at["step"],
        text=f"Taken up at step {at['step']}, in {where}, from the last checkpoint{damaged}.",
    )
    return at["stage"], at["step"]


def evaluate(run, dataset, split, labels, classes, lost, report) -> dict:
    """Figures on test and validation, through the very path that predictions take; and what the run
    remembers of its images (`engine.predict.reference`), from which follows how sure it may be.

    Args:
        lost: the run's Unreadable.
        report: called with (phase, text, done, total, always).
    """
    model = classifier.Classifier(run)
    kept = reference.Collector(dataset, split, labels, run.recipe.seed)
    given = {
        part: evaluation.gather(model, dataset, split[part], lost, kept.look)
        for part in ("test", "validation")
    }
    learnt = kept.drawn["train"]
    seen = evaluation.answers(model, dataset, learnt, lost, kept.look)
    for done, _ in enumerate(seen, 1):
        text = "Remembering what the training images look like"
        report("reference", text, done, len(learnt), True)
    kept.write(run, classes)
    temperature = calibrate.calibrate(run)["temperature"]
    figures = {}
    for part, (read, rows) in given.items():
        scaled = calibration.scaled(rows, temperature)
        figures[part] = evaluation.measure(scaled, labels[read], classes)
        # What the curves show, and the best weights were chosen by.
        plain = evaluation.measure(rows, labels[read], classes)
        figures[part]["loss_before_scaling"] = plain["loss"]
        figures[part]["unreadable"] = lost.rows(split[part])
    return figures


def _phases(events, ask):
    """A progress function that writes `phase` events at most five times a second, and raises what the
    user has asked for unless it is called with `always`."""
    last = [0.0, None, 0.0]

    def report(phase, text, done, total, always=False):
        asked = "" if always else ask()
        if asked:
            raise Paused if asked == "pause" else Stopped
        now = time.time()
        if text != last[1] or done == total or now - last[0] > 0.2:
            begun = now if text != last[1] else last[2]
            last[:] = now, text, begun
            left = (now - begun) / done * (total - done) if done and total else None
            events.write("phase", phase=phase, text=text, done=done, total=total, eta_seconds=left)

    return report


def _keep_examples(run, dataset, test, lost) -> None:
    """Copies a few test images, so that a run can be tried anywhere."""
    folder = run.path / "examples"
    folder.mkdir(exist_ok=True)
    rows = []
    per_class = max(1, min(EXAMPLES_PER_CLASS, MAX_EXAMPLES // len(dataset.classes)))
    for label, name in enumerate(dataset.classes):
        own = lost.readable(test[dataset.labels[test] == label])
        for index, data in islice(own, per_class):
            file = f"{len(rows):03d}.{str(dataset.formats[index]).lower()}"
            (folder / file).write_bytes(data)
            rows.append({"file": file, "label": name, "name": dataset.names[index]})
            if len(rows) == MAX_EXAMPLES:
                break
    homes.write_json(folder / "examples.json", rows[:MAX_EXAMPLES])
