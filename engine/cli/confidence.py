"""Commands about how sure a run may be, and about many images at once."""

from typing import Annotated

import typer
from rich.markup import escape

from engine import home as homes
from engine.cli.options import AsJson, Home, RunId, app, console, json_out, table
from engine.cli.terminal import percent, progress_bars
from engine.errors import DamagedFile
from engine.predict import calibration
from engine.runs import runs


@app.command()
def calibrate(run: RunId, home: Home = None, json_: AsJson = False):
    """Find out how sure a run may be, from its dataset; a run does so itself when it ends."""
    from engine.predict import confidence
    from engine.predict.calibrate import calibrate as measure
    from engine.predict.calibrate import remember

    folder = homes.home(home)
    found = runs.get_run(folder, run)
    try:
        calibration.summary(found)
    except DamagedFile:  # it is made anew, and nothing of it is needed for that
        (found.path / calibration.FILE).unlink()
    with progress_bars() as bar:
        task = bar.add_task("Looking at its images", total=None, eta="")
        remember(found, folder, lambda done, total: bar.update(task, completed=done, total=total))
    kept = measure(found)
    if json_:
        return json_out(kept)
    before, after, got = kept["before"], kept["after"], kept["coverage"]
    console.print(
        f"Temperature {kept['temperature']:.2f}: expected calibration error {before['ece']:.3f} before and "
        f"{after['ece']:.3f} after, on {kept['test']} test images; by ten bins {before['binned']:.3f} and "
        f"{after['binned']:.3f}, where chance alone gives {after['floor']:.3f}."
    )
    console.print(
        f"Likely classes hold the true one in {percent(got['coverage'])} of them, "
        f"{percent(confidence.COVERAGE)} promised; {percent(kept['false_alarms'])} count as unlike training. "
        f"It is sure of {percent(got['sure'])}, and right in {percent(got['accuracy_when_sure'])} of those."
    )
    table(
        ["says (%)", "is right (%)", "images"],
        [
            [f"{100 * r['confidence']:.0f}", f"{100 * r['accuracy']:.0f}", r["n"]]
            for r in after["rows"]
        ],
    )


@app.command()
def batch(
    run: RunId,
    images: Annotated[
        str, typer.Argument(help="A folder of images, or a zip; class folders give accuracy.")
    ],
    csv: Annotated[
        str | None, typer.Option(help="Write the answers to this CSV file; - for standard output.")
    ] = None,
    home: Home = None,
    json_: AsJson = False,
):
    """Classify many images, streamed: answers, drift against the run's validation images, accuracy."""
    from pathlib import Path

    import numpy as np

    from engine.errors import DatasetError
    from engine.predict import batch_worker, batches, confidence
    from engine.predict.classifier import Classifier

    found = runs.get_run(homes.home(home), run)
    model = Classifier(found)
    if not Path(images).exists():
        raise DatasetError(f"there is no folder or zip {images}; give one that is there")
    with batches.items(images) as items, progress_bars() as bar:
        if not items:
            raise DatasetError(f"{images} holds no image that Graft can use")
        task = bar.add_task("Classifying", total=len(items), eta="")
        kept = {}
        parts = list(
            batch_worker.parts(
                model, items, None, lambda done: bar.update(task, completed=done), kept
            )
        )
    rows = batches.Rows(
        **{n: np.concatenate([getattr(part, n) for part in parts]) for n in batches.COLUMNS}
    )
    known, verdicts = confidence.known(found), None
    if known is None:
        console.print(f"Run {found.id} knows nothing of its certainty.", style="yellow")
    else:
        read, verdicts = np.flatnonzero(rows.read), [None] * len(rows)
        judged = known.judge(rows.probabilities[read], rows.distances[read])
        for row, verdict in zip(read.tolist(), judged, strict=True):
            verdicts[row] = verdict
    answers = batches.table(found, rows, verdicts)
    figures, drift = (
        batch_worker.figures(model.classes, rows),
        batch_worker.judged(found, rows, kept),
    )
    if json_:
        return json_out({"answers": answers, "figures": figures, "drift": drift})
    if csv == "-":
        return print(batches.to_csv(answers), end="")
    if csv:
        try:
            Path(csv).write_text(batches.to_csv(answers))
        except OSError as error:
            raise DatasetError(
                f"{csv} cannot be written ({error.strerror}); give another file"
            ) from None
    counts = {word: sum(a["sure"] == word for a in answers) for word in batches.SURE.values()}
    lost = sum(a["error"] is not None for a in answers)
    console.print(f"{len(answers) - lost} images answered, {lost} could not be read.")
    if verdicts:
        console.print(", ".join(f"{number} {word}" for word, number in counts.items()) + ".")
    if figures:
        low, high = figures["interval"]
        console.print(
            f"{figures['n']} lie in folders named like classes: accuracy {percent(figures['accuracy'])} "
            f"({percent(low)} to {percent(high)})."
        )
    if drift:
        console.print(escape(drift["text"]), style="yellow" if drift["drifted"] else None)
        for test in drift["tests"].values():
            console.print(f"  p {test['p']:.2g}: {escape(test['text'])}")
