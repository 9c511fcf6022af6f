"""Commands that ask a finished run: predict, evaluate, batch, calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine import home as homes
from engine.cli.options import AsJson, Home, RunId, data_out, json_out, line, path_of, table
from engine.cli.runs import per_class
from engine.cli.terminal import progress, say
from engine.errors import DamagedFile, DatasetError, GraftError
from engine.host.words import percent, plural
from engine.runs import runs

if TYPE_CHECKING:
    from engine.predict.batches import Rows
    from engine.predict.confidence import Verdict


def predict(
    run: RunId,
    image: Annotated[list[Path], typer.Argument(help="Image files.", parser=path_of)],
    top: Annotated[int, typer.Option(help="How many answers for each image.", min=1, max=1000)] = 3,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Classify images with a finished run.

    Exit code 2 if an image could not be read, 1 if the model is damaged.
    """
    from engine.predict import confidence
    from engine.predict.classifier import Classifier

    found = runs.get_run(homes.home(home), run)
    answers = Classifier(found).predict(image, keep_images=False)
    known = confidence.known(found)
    verdicts = known.verdicts(answers) if known else [None] * len(answers)
    pairs = list(zip(answers, verdicts, strict=True))
    if json_:
        json_out(
            [
                {
                    "image": a.name,
                    "error": a.error,
                    "answers": [{"label": label, "probability": p} for label, p in a.top(top)],
                    "sure": v and v.kind,
                    "likely": v and v.likely,
                    "distance": v and v.distance,
                }
                for a, v in pairs
            ]
        )
    else:
        for a, v in pairs:
            text = ", ".join(f"{label} {percent(p)}" for label, p in a.top(top))
            text += f". {v.text}" if v and v.kind != "sure" else ""
            line(f"{a.name}: {a.error or text}", "red" if a.error else None)
    if any(a.error for a in answers):
        raise typer.Exit(2)


def evaluate(
    run: RunId,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder with one folder for each class (default: the test images).",
            parser=path_of,
        ),
    ] = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Show accuracy, loss and scores per class, on the test images or on a folder of your own."""
    from engine.predict import evaluation
    from engine.predict.classifier import Classifier

    found = runs.get_run(homes.home(home), run)
    if data is not None:
        with progress("Classifying") as show:
            figures = evaluation.evaluate_folder(Classifier(found), data, show)
    elif found.evaluation:
        figures = found.evaluation["test"]
    else:
        raise GraftError(f"run {found.id} has no evaluation (it is {found.status})")
    if json_:
        return json_out(figures)
    low, high = figures["interval"]
    line(
        f"{plural(figures['n'], 'image')}, accuracy {percent(figures['accuracy'])} "
        f"({percent(low)} to {percent(high)}), loss {figures['loss']:.3f}"
    )
    for name, why in figures.get("unreadable", []):
        say(f"skipped: {name}: {why}")
    for name in figures.get("unknown_classes", []):
        say(f"skipped: folder {name} is not a class of this run")
    per_class(figures)


def calibrate(run: RunId, home: Home = None, json_: AsJson = False) -> None:
    """Calibrate a run's confidence on its dataset; runs trained here do this when they end."""
    from engine.predict import calibration
    from engine.predict.calibrate import calibrate as measure
    from engine.predict.calibrate import remember

    folder = homes.home(home)
    found = runs.get_run(folder, run)
    try:
        calibration.summary(found)
    except DamagedFile:  # it is created again, and nothing of it is needed for that
        (found.path / calibration.FILE).unlink()
    with progress("Indexing training images") as show:
        remember(found, folder, show)
    kept = measure(found)
    if json_:
        return json_out(kept)
    _print_calibration(kept)


def _print_calibration(kept) -> None:
    from engine.predict import confidence

    before, after, got = kept["before"], kept["after"], kept["coverage"]
    line(
        f"Temperature {kept['temperature']:.2f}. Expected calibration error on "
        f"{plural(kept['test'], 'test image')}: {before['ece']:.3f} before scaling, "
        f"{after['ece']:.3f} after. With 10 equal bins: {before['binned']:.3f} and "
        f"{after['binned']:.3f}; chance alone gives {after['floor']:.3f}."
    )
    line(
        f"The likely classes contain the true class for {percent(got['coverage'])} of them "
        f"(target {percent(confidence.COVERAGE)}). {percent(kept['false_alarms'])} are marked as "
        f"unlike the training images. {percent(got['sure'])} of the answers are sure, and "
        f"{percent(got['accuracy_when_sure'])} of those are correct."
    )
    table(
        ["confidence", "accuracy", "images"],
        [
            [percent(r["confidence"], 0), percent(r["accuracy"], 0), r["n"]]
            for r in after["rows"]
        ],
    )  # fmt: skip


def batch(
    run: RunId,
    images: Annotated[
        Path,
        typer.Argument(
            help="A folder or a zip of images. Class folders in it give the accuracy.",
            parser=path_of,
        ),
    ],
    csv: Annotated[
        str | None, typer.Option(help="Write the answers to this CSV file; - for standard output.")
    ] = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Classify many images: answers, accuracy, and drift from the run's validation images."""
    from engine.predict import batch_worker, batches
    from engine.predict.classifier import Classifier

    found = runs.get_run(homes.home(home), run)
    model = Classifier(found)
    kept: dict = {}
    rows = _answered(model, images, kept)
    verdicts = _verdicts(found, rows)
    answers = batches.table(found, rows, verdicts)
    figures = batch_worker.figures(model.classes, rows)
    drift = batch_worker.judged(found, rows, kept)
    if json_:
        return json_out({"answers": answers, "figures": figures, "drift": drift})
    if csv == "-":
        return data_out(batches.to_csv(answers))
    if csv:
        try:
            path_of(csv).write_text(batches.to_csv(answers), encoding="utf-8")
        except OSError as error:
            text = f"{csv} cannot be written ({error.strerror}); give another file"
            raise DatasetError(text) from None
    _print_batch(answers, figures, drift, verdicts is not None)


def _answered(model, images: Path, kept: dict) -> Rows:
    """Answers to all images, with progress; `kept` takes what drift is judged by."""
    import numpy as np

    from engine.predict import batch_worker, batches

    if not images.exists():
        raise DatasetError(f"there is no folder or zip {images}; check the path")
    with batches.items(images) as items, progress("Classifying") as show:
        if not items:
            raise DatasetError(f"{images} holds no image that Graft can use")
        show(0, len(items))
        parts = list(batch_worker.parts(model, items, None, show, kept))
    return batches.Rows(
        **{n: np.concatenate([getattr(part, n) for part in parts]) for n in batches.COLUMNS}
    )


def _verdicts(run, rows: Rows) -> list[Verdict | None] | None:
    """How sure each answer is, None for an image that was not read; None if the run cannot say."""
    import numpy as np

    from engine.predict import confidence

    known = confidence.known(run)
    if known is None:
        say(f"Confidence is not available for run {run.id}.", "yellow")
        return None
    read = np.flatnonzero(rows.read)
    verdicts: list[Verdict | None] = [None] * len(rows)
    judged = known.judge(rows.probabilities[read], rows.distances[read])
    for row, verdict in zip(read.tolist(), judged, strict=True):
        verdicts[row] = verdict
    return verdicts


def _print_batch(answers, figures, drift, judged: bool) -> None:
    from engine.predict.confidence import WORDS

    lost = sum(a["error"] is not None for a in answers)
    line(f"{plural(len(answers) - lost, 'image')} answered, {lost} could not be read.")
    if judged:
        counts = [(sum(a["sure"] == word for a in answers), word) for word in WORDS.values()]
        line(", ".join(f"{number} {word}" for number, word in counts) + ".")
    if figures:
        low, high = figures["interval"]
        line(
            f"{plural(figures['n'], 'image')} in class folders: accuracy "
            f"{percent(figures['accuracy'])} ({percent(low)} to {percent(high)})."
        )
    if drift:
        line(drift["text"], "yellow" if drift["drifted"] else None)
        for test in drift["tests"].values():
            line(f"  p {test['p']:.2g}: {test['text']}")
