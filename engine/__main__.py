"""The command line: `python -m engine --help`. Everything a page can do, without a page."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine import home as homes
from engine import runs
from engine.errors import GraftError
from engine.terminal import NOTES, follow, percent, progress_bars

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Graft: transfer learning. A recipe goes in, a run comes out.",
)
# A pipe has no width; wide enough that a table keeps a row on a line.
console = Console(width=None if sys.stdout.isatty() else 160)

Home = Annotated[
    Path | None,
    typer.Option(
        help="Folder for all that Graft writes (default: GRAFT_HOME, or .graft beside app.py)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
RunId = Annotated[str, typer.Argument(help="A run's id, or latest.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a field, such as stages.0.epochs=3; may be given many times."
    ),
]


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
            return _json(recipe.load_preset(name).to_dict())
        return print(recipe.preset_text(name), end="")
    found = {n: recipe.load_preset(n) for n in recipe.preset_names()}
    if json_:
        return _json([r.to_dict() for r in found.values()])
    _table(
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
        return _json(fields)
    _table(
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


@app.command(name="datasets")
def list_datasets(home: Home = None, json_: AsJson = False):
    """List prepared datasets, and names to begin with."""
    from engine import datasets

    folder = homes.home(home) / "datasets"
    prepared = [m for p in sorted(folder.glob("*/manifest.json")) if (m := homes.read_json(p))]
    if json_:
        return _json(
            {"prepared": prepared, "suggestions": datasets.TFDS_SUGGESTIONS, "builtin": ["sample"]}
        )
    if prepared:
        _table(
            ["prepared", "images", "classes", "unreadable", "fingerprint"],
            [
                [
                    m["title"],
                    m["count"],
                    ", ".join(m["classes"][:8]),
                    len(m["unreadable"]),
                    m["fingerprint"][:12],
                ]
                for m in prepared
            ],
        )
    _table(
        ["source", "what it is"],
        [
            ["sample", "built in: generated drawings, no download"],
            [
                "folder",
                "your own: one folder for each class (dataset.source=folder dataset.path=DIR)",
            ],
            *[[f"tfds {name}", text] for name, text in datasets.TFDS_SUGGESTIONS.items()],
        ],
    )


@app.command()
def backbones(json_: AsJson = False):
    """List the catalogue of backbones."""
    from dataclasses import asdict

    from engine import backbones

    found = backbones.catalogue()
    if json_:
        return _json([asdict(b) for b in found])
    _table(
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
    home: Home = None,
):
    """Train in the foreground; Ctrl-C stops and keeps the best so far. The last line is the run id."""
    from engine import jobs
    from engine.recipe import load

    run = jobs.start(load(recipe, sets or []), homes.home(home))
    jobs.interrupt_to_stop(run)
    follow(run)
    if run.status == "failed":
        NOTES.print(f"Run {run.id} failed: {escape(run.error or '')}", style="red")
        print(run.id)
        raise typer.Exit(1)
    print(run.id)


@app.command(name="find-rate")
def find_rate(
    recipe: Annotated[str, typer.Argument(help="A preset's name or a recipe's YAML file.")],
    stage: Annotated[int, typer.Option(help="Which stage, counted from 1.")] = 1,
    sets: Sets = None,
    home: Home = None,
    json_: AsJson = False,
):
    """Find a stage's learning rate: about 100 steps with a rising rate. Ctrl-C cancels."""
    from engine import probes, rates
    from engine.recipe import load

    given, folder, place = load(recipe, sets or []), homes.home(home), stage - 1
    asked = ("rates", rates.key_recipe(given, place), folder, place)
    if probes.state(*asked)["state"] != "done":
        probes.start(*asked)
    try:
        with progress_bars() as bar:
            task = bar.add_task("Starting", total=None, eta="")

            def show(now):
                left = now["eta_seconds"]
                eta = "" if left is None else f"{left:.0f} s left"
                bar.update(
                    task,
                    description=now["text"],
                    completed=now["done"],
                    total=now["total"],
                    eta=eta,
                )

            result = probes.wait(*asked, progress=show)
    except KeyboardInterrupt:
        probes.cancel(*asked)
        NOTES.print("Cancelled; nothing was changed.")
        raise typer.Exit(130) from None
    present, found = given.stages[place].learning_rate, result["suggestion"]
    use = None if found is None else rates.setting(place, found)
    if json_:
        return _json(result | {"present": present, "set": use})
    console.print(escape(result["text"]), highlight=False, soft_wrap=True)
    if use:
        console.print(f"Suggested {found:.1e}; the recipe has {present:.1e}.", highlight=False)
        console.print(f"To use it: --set {use}", highlight=False)


@app.command(name="preflight")
def measure_first(
    recipe: Annotated[str, typer.Argument(help="A preset's name or a recipe's YAML file.")],
    sets: Sets = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure even if it was measured before.")
    ] = False,
    home: Home = None,
    json_: AsJson = False,
):
    """Predict minutes, memory and images per second of each stage, by a short probe on this host."""
    from engine import preflight, probes
    from engine.recipe import load

    wanted, folder = load(recipe, sets or []), homes.home(home)
    found = None if again else preflight.estimate(wanted, folder)
    if found is None:
        # First the dataset: a probe's answer is kept by its content.
        _prepare(wanted.dataset, folder)
        probes.start(preflight.KIND, wanted, folder)
        try:
            with progress_bars() as bar:
                task = bar.add_task("Starting", total=None, eta="")

                def show(state):
                    left = state["eta_seconds"]
                    eta = "" if left is None else f"{left:.0f} s left"
                    done = {"completed": state["done"], "total": state["total"]}
                    bar.update(task, description=state["text"], eta=eta, **done)

                probes.wait(preflight.KIND, wanted, folder, progress=show)
        except KeyboardInterrupt:
            probes.cancel(preflight.KIND, wanted, folder)
            NOTES.print("The measurement was cancelled.")
            raise typer.Exit(130) from None
        found = preflight.estimate(wanted, folder)
    if json_:
        return _json(found)
    _table(*preflight.table(found))
    console.print(found["text"], highlight=False, soft_wrap=True)


@app.command(name="runs")
def list_runs(home: Home = None, json_: AsJson = False):
    """List all runs, newest first."""
    found = runs.list_runs(homes.home(home))
    if json_:
        return _json([r.summary() for r in found])
    if not found:
        return NOTES.print("There are no runs yet; begin with: python -m engine train sample")
    _table(
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
    from engine import preflight

    found = runs.get_run(homes.home(home), run)
    if json_:
        return _json(found.summary() | {"preflight": preflight.compare(found)})
    console.print(f"[bold]{found.id}[/bold]  {found.status}  {_duration(found)}")
    if found.error:
        console.print(escape(found.error), style="red")
    for report in found.stages():
        console.print(escape(report["text"]))
    if rows := preflight.compare(found):
        _table(*preflight.comparison(rows))
    if found.evaluation:
        console.print(
            f"Test accuracy {_accuracy(found)}; weights of stage {found.kept_stage} kept."
        )
        _table(
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
    """Classify images with a finished run. Exit code 2 if any could not be read."""
    from engine.classifier import Classifier

    answers = Classifier(runs.get_run(homes.home(home), run)).predict(image, keep_images=False)
    if json_:
        _json(
            [
                {
                    "image": a.name,
                    "error": a.error,
                    "answers": [{"label": label, "probability": p} for label, p in a.top(top)],
                }
                for a in answers
            ]
        )
    else:
        for a in answers:
            text = ", ".join(f"{label} {p:.1%}" for label, p in a.top(top))
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
    from engine import evaluation
    from engine.classifier import Classifier

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
        return _json(figures)
    low, high = figures["interval"]
    console.print(
        f"{figures['n']} images, accuracy {figures['accuracy']:.1%} "
        f"({low:.1%} to {high:.1%}), loss {figures['loss']:.3f}"
    )
    for name, why in figures.get("unreadable", []):
        NOTES.print(f"left out: {escape(name)}: {escape(why)}")
    for name in figures.get("unknown_classes", []):
        NOTES.print(f"left out: folder {escape(name)} is not a class of this run")
    _table(
        ["class", "precision", "recall", "F1", "images"],
        [
            [r["label"], *(percent(r[k]) for k in ("precision", "recall", "f1")), r["support"]]
            for r in figures["per_class"]
        ],
    )


@app.command()
def stop(
    run: RunId,
    kill: Annotated[bool, typer.Option("--kill", help="End it at once, keeping nothing.")] = False,
    home: Home = None,
):
    """Stop a run: it finishes with the best so far."""
    from engine import jobs

    found = runs.get_run(homes.home(home), run)
    if kill:
        jobs.kill(found)
        return NOTES.print(f"Run {found.id} was killed.")
    jobs.stop(found)
    NOTES.print(f"Asked run {found.id} to stop; it finishes with the best so far.")


@app.command()
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Delete everything that no run uses.")
    ] = False,
    limit: Annotated[
        float | None, typer.Option(help="Bound what the cache may take, in GiB.")
    ] = None,
    home: Home = None,
    json_: AsJson = False,
):
    """Show, bound or clear the cached features and converted networks."""
    from dataclasses import asdict

    from engine import cache

    folder = homes.home(home)
    if limit is not None:
        cache.set_limit(folder, limit)
    if clear:
        freed, stay = cache.clear(folder)
        kept = f"; {stay} in use stay" if stay else ""
        NOTES.print(f"Freed {freed / 2**20:.1f} MiB{kept}.")
    found = cache.entries(folder)
    if json_:
        return _json({"limit": cache.limit(folder), "entries": [asdict(e) for e in found]})
    total = sum(e.bytes for e in found)
    console.print(
        f"{len(found)} entries, {total / 2**20:.1f} MiB of at most {cache.limit(folder) / 2**30:g} GiB"
    )
    if found:
        _table(
            ["kind", "what", "MiB", "in use"],
            [
                [cache.KINDS[e.kind], e.title, f"{e.bytes / 2**20:.1f}", "yes" if e.busy else ""]
                for e in found
            ],
        )


def _prepare(spec, folder):
    """Prepares a dataset if that is due, with progress; Ctrl-C ends it. Raises DatasetError."""
    import time

    from engine import datasets

    # In a process of its own: TensorFlow in this one would hold a GPU that the probe needs.
    datasets.prepare(spec, folder)
    try:
        with progress_bars() as bar:
            task = bar.add_task(f"Opening {spec.title}", total=None, eta="")
            while (now := datasets.state(spec, folder))["state"] == "preparing":
                done = {"completed": now["done"], "total": now["total"]}
                bar.update(task, description=now["text"], **done)
                time.sleep(0.2)
            bar.update(task, completed=1, total=1)
    except KeyboardInterrupt:
        datasets.cancel(spec, folder)
        raise
    if now["state"] == "failed":
        raise GraftError(now["error"])


def _table(columns, rows):
    table = Table(box=None, header_style="bold", pad_edge=False)
    # The first column is what one types next: never cut.
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="ignore" if number == 0 else "fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row))
    console.print(table)


def _json(data):
    print(json.dumps(data, indent=1, default=str))


def _accuracy(run):
    if not run.evaluation:
        return "-"
    test = run.evaluation["test"]
    return f"{test['accuracy']:.1%} ({test['interval'][0]:.1%} to {test['interval'][1]:.1%})"


def _duration(run):
    return "-" if run.seconds is None else f"{run.seconds:.0f} s"


def main() -> int:
    """Runs the CLI: exit code 0 on success, 2 on bad input with one sentence on standard error."""
    try:
        return app() or 0
    except GraftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
