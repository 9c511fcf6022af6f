"""Commands about this host: what a recipe will take here, which rate suits it, what is cached."""

import time
from typing import Annotated

import typer
from rich.markup import escape

from engine import home as homes
from engine.cli.options import AsJson, Home, Sets, app, console, json_out, table
from engine.cli.terminal import NOTES, progress_bars
from engine.errors import GraftError


@app.command(name="find-rate")
def find_rate(
    recipe: Annotated[str, typer.Argument(help="A preset's name or a recipe's YAML file.")],
    stage: Annotated[int, typer.Option(help="Which stage, counted from 1.")] = 1,
    sets: Sets = None,
    home: Home = None,
    json_: AsJson = False,
):
    """Find a stage's learning rate: about 100 steps with a rising rate. Ctrl-C cancels."""
    from engine.estimate import rate_test
    from engine.recipe import load

    given, folder, place = load(recipe, sets or []), homes.home(home), stage - 1
    rate_test.check_stage(given, place)
    result = _probed("rates", rate_test.key_recipe(given, place), folder, place)
    present, found = given.stages[place].learning_rate, result["suggestion"]
    use = None if found is None else rate_test.setting(place, found)
    if json_:
        return json_out(result | {"present": present, "set": use})
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
    from engine.estimate import preflight
    from engine.recipe import load

    wanted, folder = load(recipe, sets or []), homes.home(home)
    found = None if again else preflight.estimate(wanted, folder)
    if found is None:
        _probed(preflight.KIND, wanted, folder, again=again)
        found = preflight.estimate(wanted, folder)
    if json_:
        return json_out(found)
    table(*preflight.table(found))
    console.print(found["text"], highlight=False, soft_wrap=True)


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

    from engine.features import cache

    folder = homes.home(home)
    if limit is not None:
        cache.set_limit(folder, limit)
    if clear:
        freed, stay = cache.clear(folder)
        kept = f"; {stay} in use stay" if stay else ""
        NOTES.print(f"Freed {freed / 2**20:.1f} MiB{kept}.")
    found = cache.entries(folder)
    if json_:
        return json_out({"limit": cache.limit(folder), "entries": [asdict(e) for e in found]})
    total = sum(e.bytes for e in found)
    console.print(
        f"{len(found)} entries, {total / 2**20:.1f} MiB of at most {cache.limit(folder) / 2**30:g} GiB"
    )
    if found:
        table(
            ["kind", "what", "MiB", "in use"],
            [
                [cache.KINDS[e.kind], e.title, f"{e.bytes / 2**20:.1f}", "yes" if e.busy else ""]
                for e in found
            ],
        )


def _probed(kind, recipe, folder, stage=0, again=False) -> dict:
    """The answer of a probe, asked for if it is not known, with progress; Ctrl-C cancels it."""
    from engine.estimate import probes

    # First the dataset: an answer is kept by its content.
    prepare(recipe.dataset, folder)
    asked = (kind, recipe, folder, stage)
    try:
        if again or probes.state(*asked)["state"] != "done":
            probes.start(*asked)
        with progress_bars() as bar:
            task = bar.add_task("Starting", total=None, eta="")

            def show(now):
                left = now["eta_seconds"]
                eta = "" if left is None else f"{left:.0f} s left"
                done = {"completed": now["done"], "total": now["total"]}
                bar.update(task, description=now["text"], eta=eta, **done)

            return probes.wait(*asked, progress=show)
    except KeyboardInterrupt:
        probes.cancel(*asked)
        NOTES.print("Cancelled; nothing was changed.")
        raise typer.Exit(130) from None


def prepare(spec, folder):
    """Prepares a dataset if that is due, with progress; Ctrl-C ends it. Raises DatasetError."""

    from engine.data import datasets

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


def watched(ask, cancel) -> dict:
    """Shows the progress of a job in the background until its end; Ctrl-C cancels it.

    Args:
        ask: gives its state: a dict with state, text, done, total, eta_seconds and error.
        cancel: ends it.

    Returns:
        The last state, whatever it is.
    """
    try:
        with progress_bars() as bar:
            task = bar.add_task("Starting", total=None, eta="")
            while (now := ask())["state"] == "running":
                left = now["eta_seconds"]
                eta = "" if left is None else f"{left:.0f} s left"
                done = {"completed": now["done"], "total": now["total"]}
                bar.update(task, description=now["text"], eta=eta, **done)
                time.sleep(0.2)
            return now
    except KeyboardInterrupt:
        cancel()
        NOTES.print("Cancelled; what was done so far is kept where it can be taken up again.")
        raise typer.Exit(130) from None
