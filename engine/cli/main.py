"""The command line: `python -m engine --help`. Everything a page can do, without a page."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from engine import home as homes

# Importing it adds its commands.
from engine.cli import confidence as cli_confidence  # noqa: F401
from engine.cli import (
    curation,  # noqa: F401
    datasets,  # noqa: F401
    export,  # noqa: F401
    host,  # noqa: F401
    import_,  # noqa: F401
    inspect,  # noqa: F401
    keep,  # noqa: F401
    serve,  # noqa: F401
)
from engine.cli import runs as cli_runs  # noqa: F401
from engine.cli.options import AsJson, Home, RunId, Sets, app, console, json_out, table
from engine.cli.terminal import NOTES, percent, progress_bars
from engine.errors import DamagedFile, GraftError
from engine.runs import runs  # noqa: F401


@app.command()
def presets(
    name: Annotated[
        str | None, typer.Argument(help="Print this preset's YAML with its reasons.")
    ] = None,
    json_: AsJson = False,
):
    """List the presets, or print one."""
    from engine import recipe

    if name:
        if json_:
            return json_out(recipe.load_preset(name).to_dict())
        return print(recipe.preset_text(name), end="")
    found = {n: recipe.load_preset(n) for n in recipe.preset_names()}
    if json_:
        return json_out([r.to_dict() for r in found.values()])
    table(
        ["preset", "dataset", "backbone", "stages", "what for"],
        [
            [n, r.dataset.title, r.backbone.title, len(r.stages), r.description]
            for n, r in found.items()
        ],
    )


@app.command(name="recipe")
def recipe_fields(json_: AsJson = False):
    """Explain every field of a recipe: help, bounds, unit, default."""
    from engine import recipe

    fields = recipe.all_fields()
    if json_:
        return json_out(fields)
    table(
        ["field", "default", "help"],
        [
            [
                f["path"],
                "" if f["default"] is None else f["default"],
                recipe.field_help(f["path"])
                + (f" [{' | '.join(f['choices'])}]" if f["choices"] else ""),
            ]
            for f in fields
        ],
    )


@app.command()
def backbones(json_: AsJson = False):
    """List the catalogue of backbones."""
    from dataclasses import asdict

    from engine.models import backbones

    found = backbones.catalogue()
    if json_:
        return json_out([asdict(b) for b in found])
    table(
        ["backbone", "parameters", "image size", "ImageNet top-1", "weights"],
        [
            [
                b.name,
                f"{b.params:,}",
                b.image_size,
                "" if b.top1 is None else f"{b.top1:g} %",
                f"{b.weights_mb:g} MB",
            ]
            for b in found
        ],
    )


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A preset's name or a recipe's YAML file.")],
    sets: Sets = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Put it into the queue and return.")
    ] = False,
    home: Home = None,
):
    """Train in the foreground; Ctrl-C stops and keeps the best so far. The last line is the run id."""
    from engine.jobs import jobs
    from engine.recipe import load

    cli_runs.watch(jobs.start(load(recipe, sets or []), homes.home(home)), wait=not queue)


@app.command(name="runs")
def list_runs(home: Home = None, json_: AsJson = False):
    """List all runs, newest first."""
    from engine.jobs import jobs

    jobs.active(homes.home(home))  # after a reboot, it finds what was broken off
    found, damaged = runs.readable_runs(homes.home(home))
    for _, why in damaged:
        NOTES.print(f"passed over: {escape(why)}", style="yellow", soft_wrap=True)
    if json_:
        return json_out([_summary(r) for r in found])
    if not found:
        return NOTES.print("There are no runs yet; begin with: python -m engine train sample")
    table(
        ["run", "status", "dataset", "backbone", "test accuracy", "duration"],
        [
            [
                r.id,
                r.status,
                r.recipe.dataset.title,
                r.recipe.backbone.title,
                _accuracy(r),
                _duration(r),
            ]
            for r in found
        ],
    )


@app.command()
def show(run: RunId, home: Home = None, json_: AsJson = False):
    """Show one run: status, stages, figures."""
    from engine.estimate import preflight

    found = runs.get_run(homes.home(home), run)
    if json_:
        return json_out(found.summary() | {"preflight": preflight.compare(found)})
    console.print(f"[bold]{found.id}[/bold]  {found.status}  {_duration(found)}")
    if found.error:
        console.print(escape(found.error), style="red")
    if found.decisions:
        console.print(f"Decisions about single images: {found.decisions}.")
    for report in found.stages():
        console.print(escape(report["text"]))
    if rows := preflight.compare(found):
        table(*preflight.comparison(rows))
    if found.evaluation:
        console.print(
            f"Test accuracy {_accuracy(found)}; weights of stage {found.kept_stage} kept."
        )
        table(
            ["class", "precision", "recall", "F1", "images"],
            [
                [r["label"], *(percent(r[k]) for k in ("precision", "recall", "f1")), r["support"]]
                for r in found.evaluation["test"]["per_class"]
            ],
        )


@app.command()
def predict(
    run: RunId,
    image: Annotated[list[Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option(help="How many answers for each image.", min=1, max=1000)] = 3,
    home: Home = None,
    json_: AsJson = False,
):
    """Classify images with a finished run. Exit code 2 if any could not be read, 1 if the model is
    damaged."""
    from engine.predict import confidence
    from engine.predict.classifier import Classifier

    found = runs.get_run(homes.home(home), run)
    answers = Classifier(found).predict(image, keep_images=False)
    known = confidence.known(found)
    verdicts = known.verdicts(answers) if known else [None] * len(answers)
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
                for a, v in zip(answers, verdicts, strict=True)
            ]
        )
    else:
        for a, v in zip(answers, verdicts, strict=True):
            text = ", ".join(f"{label} {p:.1%}" for label, p in a.top(top))
            text += f". {v.text}" if v and v.kind != "sure" else ""
            console.print(
                f"{escape(a.name)}: {escape(a.error or text)}",
                soft_wrap=True,
                style="red" if a.error else None,
                highlight=False,
            )
    if any(a.error for a in answers):
        raise typer.Exit(2)


@app.command()
def evaluate(
    run: RunId,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder with one folder for each class; left "
            "out, the figures of the run's own test part."
        ),
    ] = None,
    home: Home = None,
    json_: AsJson = False,
):
    """Figures of a finished run, on its own test part or on a folder of labelled images."""
    from engine.predict import evaluation
    from engine.predict.classifier import Classifier

    found = runs.get_run(homes.home(home), run)
    if data is None:
        if not found.evaluation:
            raise GraftError(f"run {found.id} has no evaluation (it is {found.status})")
        figures = found.evaluation["test"]
    else:
        with progress_bars() as bar:
            task = bar.add_task("Classifying", total=None, eta="")
            figures = evaluation.evaluate_folder(
                Classifier(found), data, lambda done: bar.update(task, completed=done)
            )
    if json_:
        return json_out(figures)
    low, high = figures["interval"]
    console.print(
        f"{figures['n']} images, accuracy {figures['accuracy']:.1%} "
        f"({low:.1%} to {high:.1%}), loss {figures['loss']:.3f}"
    )
    for name, why in figures.get("unreadable", []):
        NOTES.print(f"left out: {escape(name)}: {escape(why)}")
    for name in figures.get("unknown_classes", []):
        NOTES.print(f"left out: folder {escape(name)} is not a class of this run")
    table(
        ["class", "precision", "recall", "F1", "images"],
        [
            [r["label"], *(percent(r[k]) for k in ("precision", "recall", "f1")), r["support"]]
            for r in figures["per_class"]
        ],
    )


@app.command()
def stop(
    run: RunId,
    kill: Annotated[
        bool,
        typer.Option("--kill", help="End it at once; it can be resumed from its last checkpoint."),
    ] = False,
    home: Home = None,
):
    """Stop a run: it finishes with the best so far; one that waits leaves the queue."""
    from engine.jobs import jobs

    found = runs.get_run(homes.home(home), run)
    if kill:
        jobs.kill(found)
        return cli_runs.say(
            f"Run {found.id} was killed; to go on: python -m engine resume {found.id}"
        )
    cli_runs.say(cli_runs.stop(found))


def _summary(run) -> dict:
    """A run's summary; of one with a damaged file, what is wrong: it must not hide all others."""
    try:
        return run.summary()
    except DamagedFile as error:
        return {"id": run.id, "status": run.status, "error": str(error), "path": str(run.path)}


def _accuracy(run):
    try:
        found = run.evaluation
    except DamagedFile:
        return "damaged"
    if not found:
        return "-"
    test = found["test"]
    return f"{test['accuracy']:.1%} ({test['interval'][0]:.1%} to {test['interval'][1]:.1%})"


def _duration(run):
    return "-" if run.seconds is None else f"{run.seconds:.0f} s"


def main() -> int:
    """Runs the CLI: exit code 0 on success; 2 on bad input, 1 where a run's model is damaged, with
    one sentence on standard error."""
    try:
        return app() or 0
    except GraftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
