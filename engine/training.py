"""The visible path from a recipe to a result; read `train` from top to bottom.

It runs in a worker process (`engine.worker`), the only place that owns the GPU.
"""

import time

import keras
import numpy as np
import tensorflow as tf

from engine import classifier, evaluation, export, ingest, input_pipeline, modeling
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
    precision = prepare_device(recipe, events)
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
    architecture = modeling.architecture(bundle) | {"classes": classes, "precision": precision}
    homes.write_json(run.path / "architecture.json", architecture)

    pixels = input_pipeline.Pixels(
        dataset,
        np.concatenate([split["train"], split["validation"]]),
        recipe.image_size,
        recipe.resize,
        recipe.memory_budget,
        lambda done, total: report("data", "Decoding images", done, total),
    )
    if not pixels.cached:
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
        precision=precision,
    )
    best, was_stopped, step = Best(run.path / "best.weights.h5"), False, 0
    for number in range(len(recipe.stages)):
        if was_stopped:
            break
        report(
            "training",
            f"Stage {number + 1} of {len(recipe.stages)}: {recipe.stages[number].name}",
            0,
            None,
        )
        was_stopped, step = run_stage(
            number, bundle, recipe, pixels, split, labels, best, events, stop, step, steps
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
    kept_bundle = export.in_float32(bundle, recipe.head)
    export.write(kept_bundle, run)
    best.path.unlink()  # final.keras holds the same

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


def prepare_device(recipe, events) -> str:
    """Seeds, memory growth and precision; returns the precision's name."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.utils.set_random_seed(recipe.seed)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    precision = recipe.precision
    if precision == "auto":
        # float16 pays from compute capability 7.0 on (tensor cores); on CPUs it is slower for
        # small networks, and bfloat16 helps some backbones and hurts others.
        fast = gpus and tf.config.experimental.get_device_details(gpus[0]).get(
            "compute_capability", (0,)
        ) >= (7, 0)
        precision = "mixed_float16" if fast else "float32"
        events.write(
            "note", text=f"Precision auto chose {precision} for {'GPU' if gpus else 'CPU'}."
        )
    keras.config.set_dtype_policy(precision)
    return precision


def run_stage(number, bundle, recipe, pixels, split, labels, best, events, stop, first_step, steps):
    """Fits one stage and reports what it was worth.

    Returns:
        (whether the user stopped it, the global step reached).
    """
    stage, model = recipe.stages[number], bundle.model
    sizes = modeling.apply_stage(bundle, stage)
    class_count = model.output_shape[-1]
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
    start = best.weights or model.get_weights()
    events.write(
        "stage_start",
        stage=number,
        name=stage.name,
        step=first_step,
        **{k: sizes[k] for k in ("trainable_params", "frozen_params")},
    )
    best_before = best.loss
    validation = input_pipeline.evaluation_batches(
        pixels, split["validation"], labels, class_count, recipe
    )
    reporter = Reporter(number, recipe, best, events, stop, first_step, steps, len(split["train"]))
    callbacks = [reporter]
    if stage.early_stopping:
        callbacks.append(
            keras.callbacks.EarlyStopping("val_loss", patience=stage.early_stopping, mode="min")
        )
    begun, stopped = time.time(), False
    try:
        model.fit(
            input_pipeline.training_batches(
                pixels, split["train"], labels, class_count, recipe, number, weights=weights
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
            best.offer(model, loss, number, 0)
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
    helped = best.stage == number
    reason = "stopped" if stopped else reporter.reason
    if reason == "completed" and reporter.epochs_done < stage.epochs:
        reason = "early_stopping"
    if reason in ("diverged", "early_stopping"):
        # What comes next starts from something good, not from where it went wrong.
        model.set_weights(best.weights or start)
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
        seconds=time.time() - begun,
        text=_stage_text(
            stage, reason, reporter, helped, best_before, recipe.stages[best.stage].name
        ),
    )
    return stopped, reporter.step


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
    last = [0.0, None]

    def report(phase, text, done, total, always=False):
        if stop() and not always:
            raise Stopped
        if text != last[1] or done == total or time.time() - last[0] > 0.2:
            last[:] = time.time(), text
            events.write("phase", phase=phase, text=text, done=done, total=total)

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
