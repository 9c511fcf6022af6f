"""The visible path from a recipe to a result; read `train` from top to bottom.

It runs in a worker process (`engine.worker`), the only place that owns the GPU.
"""

import time

import keras
import numpy as np
import tensorflow as tf

from engine import (
    classifier,
    device,
    evaluation,
    export,
    features,
    frozen,
    ingest,
    input_pipeline,
    modeling,
    precision,
)
from engine import home as homes
from engine.callbacks import Best, Reporter, Stopped
from engine.errors import TrainingError

EXAMPLES_PER_CLASS = 3
MAX_EXAMPLES = 30


def train(run, home, events, stop) -> dict:
    """Executes a run: data, model, stages, evaluation, export.

    Args:
        run: the Run; its folder takes the results.
        home: Graft's home.
        events: an EventLog.
        stop: a function without arguments, true once the user has asked to stop.

    Returns:
        A dict: status "finished" or "stopped", kept_stage (name) and text (one sentence).

    Raises:
        GraftError: one sentence.
        Stopped: if the stop came before there was anything to keep.
    """
    recipe = run.recipe
    chosen = prepare_device(recipe, events, home)
    report = _phases(events, stop)

    # Data: decoded and checked once; the split is fixed before anything is trained.
    dataset = ingest.ingest(recipe.dataset, home, lambda *a: report("data", *a))
    for name, why in dataset.unreadable[:20]:
        events.write("warning", text=f"{name} is left out: {why}")
    if len(dataset.unreadable) > 20:
        events.write("warning", text=f"{len(dataset.unreadable) - 20} more files are left out")
    split = dataset.split(recipe.split)
    classes, labels = list(dataset.classes), dataset.labels
    homes.write_json(
        run.path / "split.json",
        {"fingerprint": dataset.fingerprint}
        | {part: dataset.contents[indices].tolist() for part, indices in split.items()},
    )
    _keep_examples(run, dataset, split["test"])

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
    )
    if not pixels.cached and any(features.why_not(recipe, s.trainable) for s in recipe.stages):
        events.write(
            "note",
            text=f"The decoded images exceed the memory budget of {recipe.memory_budget} "
            "MiB, so they are decoded anew in every epoch.",
        )

    # Stages, one fit each; the best weights over all of them are what the run keeps.
    steps = -(-len(split["train"]) // recipe.batch_size)
    events.write(
        "start",
        classes=classes,
        counts={part: len(indices) for part, indices in split.items()},
        steps_per_epoch=steps,
        total_steps=steps * sum(s.epochs for s in recipe.stages),
        stages=[s.model_dump() for s in recipe.stages],
        precision=chosen,
    )
    best, was_stopped, step = Best(run.path / "best.weights.h5"), False, 0
    for number in range(len(recipe.stages)):
        if was_stopped:
            break
        was_stopped, step = run_stage(
            number,
            bundle,
            recipe,
            dataset,
            pixels,
            split,
            best,
            events,
            stop,
            step,
            steps,
            home,
            report,
        )
    if not best.weights:
        raise TrainingError(
            "the loss was not a number in every epoch, so there is nothing to keep; lower "
            "the learning rate or choose precision float32"
        )
    kept = recipe.stages[best.stage].name

    # The model that is kept: float32 whatever it was trained in, so that it answers alike anywhere.
    report("export", "Writing the model", 0, None, True)
    bundle.model.set_weights(best.weights)
    modeling.restore_dropout(bundle)
    kept_bundle = export.in_float32(bundle, recipe.head)
    export.write(kept_bundle, run)
    best.path.unlink(missing_ok=True)  # final.keras holds the same

    report("evaluation", "Testing on images it has never seen", 0, None, True)
    figures = evaluate(run, dataset, split, labels, classes)
    probe = split["validation"][:64]
    figures["parity"] = export.parity(run, kept_bundle, bundle, dataset, probe)
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
    text = (
        f"{'Stopped' if was_stopped else 'Finished'}: the weights of stage {kept} were kept; accuracy on "
        f"{test['n']} test images {test['accuracy']:.1%} (95% interval {test['interval'][0]:.1%} to "
        f"{test['interval'][1]:.1%})."
    )
    return {"status": "stopped" if was_stopped else "finished", "kept_stage": kept, "text": text}


def prepare_device(recipe, events, home=None) -> str:
    """Seeds, memory growth and precision; returns the precision's name."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    chosen = precision.choose(recipe, homes.home() if home is None else home, events)
    # A probe draws random numbers; what follows must not depend on whether there was one.
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(chosen)
    return chosen


def run_stage(
    number,
    bundle,
    recipe,
    dataset,
    pixels,
    split,
    best,
    events,
    stop,
    first_step,
    steps,
    home,
    report,
):
    """Fits one stage and reports what it was worth.

    Where its frozen part can be cached, the rest is fitted on the part's outputs: the same layers,
    the same order of images, the same result, for a fraction of the time.

    Returns:
        (whether the user stopped it, the global step reached).
    """
    stage, labels = recipe.stages[number], dataset.labels
    sizes = modeling.apply_stage(bundle, stage)
    class_count = bundle.model.output_shape[-1]
    later = any(features.why_not(recipe, s.trainable) for s in recipe.stages[number + 1 :])
    try:
        cached, why = frozen.prepare(
            bundle, recipe, number, dataset, pixels, split, home, report, keep_pixels=later
        )
    except Stopped:
        if not best.weights:
            raise
        return True, first_step  # the stages before are worth keeping
    model = cached.suffix if cached else bundle.model
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
    report("training", f"Stage {number + 1} of {len(recipe.stages)}: {stage.name}", 0, None, True)
    weights = None
    if recipe.class_weights == "balanced":
        counts = np.bincount(labels[split["train"]], minlength=class_count)
        weights = counts.sum() / (class_count * counts)
    model.compile(
        optimizer=modeling.optimizer(stage, steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.head.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        # XLA made the step ten times slower on a CPU (facts), and changes between GPU drivers.
        jit_compile=False,
    )
    before = modeling.frozen_digests(bundle)
    start = best.weights or bundle.model.get_weights()
    events.write(
        "stage_start",
        stage=number,
        name=stage.name,
        step=first_step,
        **{k: sizes[k] for k in ("trainable_params", "frozen_params")},
        **(cached.facts if cached else {"path": "whole network"}),
    )
    best_before = best.loss
    validation = input_pipeline.evaluation_batches(
        pixels, split["validation"], labels, class_count, recipe, cached
    )
    costs = [_step_cost(s, recipe) for s in recipe.stages]
    reporter = Reporter(
        number,
        recipe,
        bundle.model,
        best,
        events,
        stop,
        first_step,
        steps,
        len(split["train"]),
        costs,
    )
    callbacks = [reporter]
    if stage.early_stopping:
        callbacks.append(
            keras.callbacks.EarlyStopping("val_loss", patience=stage.early_stopping, mode="min")
        )
    begun, stopped = time.time(), False
    try:
        model.fit(
            input_pipeline.training_batches(
                pixels, split["train"], labels, class_count, recipe, number, 0, weights, cached
            ),
            epochs=stage.epochs,
            steps_per_epoch=steps,
            validation_data=validation,
            verbose=0,
            callbacks=callbacks,
        )
    except Stopped:
        stopped = True
        if not best.weights:
            # Stopped before the first epoch ended: what was learnt so far is the best so far.
            loss, accuracy = model.evaluate(validation, verbose=0)
            best.offer(bundle.model, loss, number, 0)
            events.write(
                "epoch",
                stage=number,
                epoch=reporter.epoch,
                step=reporter.step,
                val_loss=loss,
                val_accuracy=accuracy,
            )
    changed = [
        name for name, digest in modeling.frozen_digests(bundle).items() if before[name] != digest
    ]
    if changed:
        raise TrainingError(
            f"frozen weights changed in stage {stage.name} ({changed[0]} and "
            f"{len(changed) - 1} more), which must never happen; please report it"
        )
    seconds = time.time() - begun
    if best.weights:
        best.flush(bundle.model)
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
        seconds=seconds,
        peak_memory_mb=device.peak_memory_mb(),
        text=_stage_text(
            stage, reason, reporter, helped, best_before, recipe.stages[best.stage].name
        ),
    )
    return stopped, reporter.step


def _step_cost(stage, recipe) -> float:
    """A step's cost against a forward pass of the whole network: the backward pass of all layers
    costs about twice the forward one (Kaplan et al. 2020, arXiv:2001.08361, section 2.1)."""
    if not features.why_not(recipe, stage.trainable):
        return 0.02 if stage.trainable == "none" else 0.7
    return {"none": 1.0, "all": 3.0}.get(stage.trainable, 2.0)


def _stage_text(stage, reason, reporter, helped, before, kept) -> str:
    """What a stage was worth, in a sentence."""
    ends = {
        "completed": f"ran its {stage.epochs} epochs",
        "stopped": "was stopped",
        "early_stopping": f"stopped early after {reporter.epochs_done} epochs without a better loss",
        "diverged": "diverged (it no longer learnt anything) and was ended",
    }
    found = f"{reporter.best_loss:.4g}" if np.isfinite(reporter.best_loss) else "none"
    text = f"Stage {stage.name} {ends[reason]}; its best validation loss was {found}"
    if helped:
        return text + (f", better than the {before:.4g} before." if np.isfinite(before) else ".")
    if np.isfinite(before):
        return text + f". It did not help: the weights of stage {kept} ({before:.4g}) are kept."
    return text + "."


def evaluate(run, dataset, split, labels, classes) -> dict:
    """Figures on test and validation, through the very path that predictions take."""
    model = classifier.Classifier(run)
    figures = {}
    for part in ("test", "validation"):
        answers = model.probabilities(dataset.image_bytes(int(i)) for i in split[part])
        figures[part] = evaluation.measure(answers, labels[split[part]], classes)
    return figures


def _phases(events, stop):
    """A progress function that writes `phase` events at most five times a second."""
    last = [0.0, None, 0.0]

    def report(phase, text, done, total, always=False):
        if stop() and not always:
            raise Stopped
        now = time.time()
        if text != last[1] or done == total or now - last[0] > 0.2:
            begun = now if text != last[1] else last[2]
            last[:] = now, text, begun
            left = (now - begun) / done * (total - done) if done and total else None
            events.write("phase", phase=phase, text=text, done=done, total=total, eta_seconds=left)

    return report


def _keep_examples(run, dataset, test) -> None:
    """Copies a few test images, so that a run can be tried anywhere."""
    folder = run.path / "examples"
    folder.mkdir(exist_ok=True)
    rows = []
    per_class = max(1, min(EXAMPLES_PER_CLASS, MAX_EXAMPLES // len(dataset.classes)))
    for label, name in enumerate(dataset.classes):
        for index in test[dataset.labels[test] == label][:per_class]:
            file = f"{len(rows):03d}.{str(dataset.formats[index]).lower()}"
            (folder / file).write_bytes(dataset.image_bytes(int(index)))
            rows.append({"file": file, "label": name, "name": dataset.names[index]})
            if len(rows) == MAX_EXAMPLES:
                break
    homes.write_json(folder / "examples.json", rows[:MAX_EXAMPLES])
