"""Commands that ask a finished run: predict, evaluate, batch, calibrate."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine import actions
from engine import home as homes
from engine.cli.options import (
    AsJson,
    Home,
    RunId,
    data_out,
    json_out,
    line,
    path_of,
    table,
    write_file,
)
from engine.cli.runs import per_class
from engine.cli.terminal import progress, say
from engine.errors import DatasetError, GraftError
from engine.host.words import listed, percent, plural, shown
from engine.runs import runs

if TYPE_CHECKING:
    from engine.predict.classifier import Classifier
    from engine.predict.confidence import Verdict
    from engine.predict.rows import Rows

LISTED = 20
"""Files without an answer that a terminal lists."""


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


Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="Let a folder count as a class: FOLDER=CLASS. Can be repeated.", metavar="F=C"
    ),
]


def evaluate(
    run: RunId,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder or a zip with one folder for each class (default: the test images).",
            parser=path_of,
        ),
    ] = None,
    map_: Map = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Show accuracy, loss and scores per class, on the test images or on images of your own."""
    from engine.predict import rows as answers
    from engine.predict.classifier import Classifier

    found = runs.get_run(homes.home(home), run)
    if data is not None:
        rows, left_out, chosen = _answered(Classifier(found), data, map_ or [])
        figures = answers.figures(rows, found.classes, chosen)
        if not figures or not figures["n"]:
            raise DatasetError(_no_class(data, figures, found.classes))
        lost = [[str(rows.names[i]), str(rows.errors[i])] for i in (~rows.read).nonzero()[0]]
        unknown = [row["name"] for row in figures["folders"] if not row["label"]]
        figures |= {"unreadable": lost, "left_out": left_out, "unknown_classes": unknown}
    elif map_:
        raise GraftError("--map needs --data, the images whose folders it means")
    elif found.evaluation:
        figures = found.evaluation["test"]
    else:
        raise GraftError(f"run {found.id} has no evaluation (it is {found.status})")
    if json_:
        return json_out(figures)
    _print_figures(figures)
    _print_left_out([*figures.get("unreadable", []), *figures.get("left_out", [])])
    per_class(figures)


def _no_class(data: Path, figures: dict | None, classes: Sequence[str]) -> str:
    """Why there is no accuracy."""
    from engine.predict import class_folders

    folders = [class_folders.Folder(**row) for row in figures["folders"]] if figures else []
    if any(folder.label for folder in folders):
        return f"no image of {shown(str(data))} in a folder of a class can be read"
    said = " ".join(class_folders.sentences(folders))
    return (
        f"{shown(str(data))} has no folder named like one of the run's classes "
        f"({listed(classes)}). {said}".rstrip(". ")
        + "; rename the folders, or add --map FOLDER=CLASS"
    )


def _print_figures(figures: dict) -> None:
    """Accuracy, and what a person should know of the folders that it comes from."""
    from engine.predict import class_folders, evaluation

    low, high = figures["interval"]
    if figures["n"]:
        line(
            f"{plural(figures['n'], 'image')}, accuracy {percent(figures['accuracy'])} "
            f"({percent(low)} to {percent(high)}), loss {figures['loss']:.3f}"
            + evaluation.beside_copies(figures)
        )
    folders = [class_folders.Folder(**row) for row in figures.get("folders", [])]
    for sentence in class_folders.sentences(folders):
        say(sentence, "yellow")
    offered = [folder for folder in folders if folder.near][: class_folders.OFFERED]
    if offered:
        maps = (shown(shlex.quote(f"{folder.name}={folder.near}")) for folder in offered)
        say("To count them, add: " + " ".join(f"--map {text}" for text in maps))


def _print_left_out(rows: list) -> None:
    """Files without an answer."""
    for name, why in rows[:LISTED]:
        say(f"left out: {shown(name)}: {why}")
    if len(rows) > LISTED:
        say(f"left out: {len(rows) - LISTED:,} more; --json lists them")


def calibrate(run: RunId, home: Home = None, json_: AsJson = False) -> None:
    """Calibrate a run's confidence on its dataset; runs trained here do this when they end."""
    found = runs.get_run(homes.home(home), run)
    with progress("Indexing training images") as show:
        kept = actions.calibrate(found, show)
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
    map_: Map = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Classify many images: answers, accuracy, and drift from the run's validation images."""
    from engine.predict import batch_worker
    from engine.predict import rows as answers
    from engine.predict.classifier import Classifier

    found = runs.get_run(homes.home(home), run)
    rows, left_out, chosen = _answered(Classifier(found), images, map_ or [])
    verdicts = _verdicts(found, rows)
    table = answers.table(found, rows, verdicts, chosen)
    figures = answers.figures(rows, found.classes, chosen)
    drift = batch_worker.judged(found, rows)
    if json_:
        rest = {"figures": figures, "drift": drift, "left_out": left_out}
        return json_out({"answers": table} | rest)
    if csv == "-":
        return data_out(answers.to_csv(table))
    if csv:
        write_file(path_of(csv), answers.to_csv(table))
    _print_batch(table, drift, verdicts is not None)
    if figures:
        _print_figures(figures)
        per_class(figures)
    lost = [(row["image"], row["error"]) for row in table if row["error"]]
    _print_left_out([*lost, *left_out])


def _answered(
    model: Classifier, path: Path, maps: list[str]
) -> tuple[Rows, list[tuple[str, str]], dict[str, str]]:
    """Answers to all images of a folder or a zip, with progress.

    Returns:
        (answers, what is left out and why, the classes chosen for folders).
    """
    from engine.data.sources import reading, tree
    from engine.predict import batch_worker, class_folders
    from engine.predict import rows as answers

    if path.is_file() and path.suffix.lower() != ".zip":
        raise DatasetError(
            f"{shown(str(path))} is neither a folder nor a zip; for single images, use: "
            "python -m engine predict RUN IMAGE"
        )
    with reading.opened(path, model.classes) as (found, read), progress("Classifying") as show:
        if not found.images:
            raise DatasetError(f"{shown(str(path))} holds no image that Graft can use")
        folders = {image.label for image in found.images} - {""}
        chosen = class_folders.chosen(maps, folders, model.classes)
        show(0, len(found.images))
        parts = list(batch_worker.parts(model, found.images, read, None, show))
        return answers.joined(parts), tree.told(found), chosen


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


def _print_batch(answers: list[dict], drift: dict | None, judged: bool) -> None:
    from engine.predict.confidence import WORDS

    lost = sum(a["error"] is not None for a in answers)
    line(f"{plural(len(answers) - lost, 'image')} answered, {lost} could not be read.")
    if judged:
        counts = [(sum(a["sure"] == word for a in answers), word) for word in WORDS.values()]
        line(", ".join(f"{number} {word}" for number, word in counts) + ".")
    if drift:
        line(drift["text"], "yellow" if drift["drifted"] else None)
        for test in drift["tests"].values():
            line(f"  p {test['p']:.2g}: {test['text']}")
