"""What a run leaves: the model with its best weights, tested and compared with its export."""

from __future__ import annotations

from itertools import islice

from engine import home as homes
from engine.data import copies
from engine.data.unreadable import Unreadable
from engine.host.words import percent, plural
from engine.models import modeling
from engine.predict import calibrate, calibration, classifier, evaluation, reference
from engine.runs import files
from engine.runs.runs import Run
from engine.train import keep
from engine.train.work import Work

CHECKED = 64
"""Validation images on which the export is compared with the model."""


def write(run: Run, work: Work, lost: Unreadable) -> dict:
    """Writes the model with the best weights, and `evaluation.json`; returns the test figures.

    The model is kept in float32 whatever it was trained in, so that it gives the same answers on
    every device.
    """
    bundle, events = work.bundle, work.events
    work.report("export", "Writing the model", 0, None, True)
    bundle.model.set_weights(work.best.weights)
    modeling.restore_dropout(bundle)
    kept = keep.in_float32(bundle, work.recipe.head)
    keep.write(kept, run.path)

    work.report("evaluation", "Testing on images not used in training", 0, None, True)
    figures = evaluate(run, work, lost)
    probe = [data for _, data in islice(lost.readable(work.split["validation"]), CHECKED)]
    parity = figures["parity"] = keep.parity(run, kept, bundle, probe)
    # Half precision may change a close answer or two; more than that is an error, and is reported.
    if parity["largest_difference"] > 1e-3 or parity["same_answers"] < 0.95:
        events.write(
            "warning",
            text="The exported model gives different answers from the trained one: probabilities "
            f"differ by up to {parity['largest_difference']:.2g} between formats, and "
            f"{percent(parity['same_answers'], 0)} of {plural(len(probe), 'answer')} are the same.",
        )
    homes.write_json(run.path / files.EVALUATION, figures)
    return figures["test"]


def evaluate(run: Run, work: Work, lost: Unreadable) -> dict:
    """Figures on the test and validation parts, computed as predictions are; stores what the run
    keeps of its images (`engine.predict.reference`), from which its confidence is derived.

    Args:
        run: with its model written.
        work: the run's Work.
        lost: the run's unreadable images.
    """
    dataset, split, labels = work.dataset, work.split, work.dataset.labels
    classes = list(dataset.classes)
    model = classifier.Classifier(run)
    kept = reference.Collector(dataset, split, labels, run.recipe.seed)
    given = {
        part: evaluation.gather(model, dataset, split[part], lost, kept.look)
        for part in ("test", "validation")
    }
    drawn = kept.drawn["train"]
    for done, _ in enumerate(evaluation.answers(model, dataset, drawn, lost, kept.look), 1):
        work.report("reference", "Indexing training images", done, len(drawn), True)
    work.report("check", "Checking the confidence and the exported model", 0, None, True)
    kept.write(run, classes)
    temperature = calibrate.calibrate(run)["temperature"]
    figures = {}
    for part, (read, rows) in given.items():
        scaled = calibration.scaled(rows, temperature)
        figures[part] = evaluation.measure(scaled, labels[read], classes)
        # What the charts show, and what the best weights were chosen by.
        plain = evaluation.measure(rows, labels[read], classes)
        figures[part]["loss_before_scaling"] = plain["loss"]
        figures[part]["unreadable"] = lost.rows(split[part])
        if part == "test":
            known = copies.in_another(dataset.copies, read, split["train"])
            if known.any():
                alone = evaluation.measure(scaled[~known], labels[read[~known]], classes)
                kinds = ("n", "accuracy", "interval")
                figures[part]["without_copies"] = {kind: alone[kind] for kind in kinds}
    return figures


def sentence(status: str, work: Work, test: dict) -> str:
    """A run's result in one sentence.

    Args:
        status: "finished" or "stopped".
        work: the run's Work.
        test: figures on the test part.
    """
    low, high = test["interval"]
    return (
        f"{status.capitalize()}: the weights of {work.kept()} were kept; accuracy on "
        f"{plural(test['n'], 'test image')} {percent(test['accuracy'])} "
        f"(95% interval {percent(low)} to {percent(high)}){evaluation.beside_copies(test)}."
    )
