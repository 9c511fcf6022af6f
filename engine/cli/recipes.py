"""Commands about recipes: presets, fields, and what a recipe needs on this host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine import actions
from engine import home as homes
from engine import recipe as recipes
from engine.cli.options import AsJson, Home, RecipeName, Sets, data_out, json_out, line, table
from engine.cli.terminal import prepare, watched
from engine.host.background import result_of


def presets(
    name: Annotated[
        str | None, typer.Argument(help="Print this preset's YAML, with the reason for each value.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """List the presets, or print one."""
    if name and json_:
        return json_out(recipes.load_preset(name).to_dict())
    if name:
        return data_out(recipes.preset_text(name))
    found = {n: recipes.load_preset(n) for n in recipes.preset_names()}
    if json_:
        return json_out([r.to_dict() for r in found.values()])
    table(
        ["preset", "dataset", "backbone", "stages", "description"],
        [
            [n, r.dataset.title, r.backbone.title, len(r.stages), r.description]
            for n, r in found.items()
        ],
    )


def fields(json_: AsJson = False) -> None:
    """Explain every field of a recipe: help, bounds, unit, default."""
    found = recipes.all_fields()
    if json_:
        return json_out(found)
    rows = []
    for field in found:
        choices = f" [{' | '.join(field['choices'])}]" if field["choices"] else ""
        default = "" if field["default"] is None else field["default"]
        rows.append([field["path"], default, recipes.field_help(field["path"]) + choices])
    table(["field", "default", "help"], rows)


def preflight(
    recipe: RecipeName,
    sets: Sets = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again.")] = False,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Measure a recipe on this host: minutes, memory and images per second of each stage."""
    from engine.estimate import preflight

    wanted, folder = recipes.load(recipe, sets or []), homes.home(home)
    found = None if again else preflight.estimate(wanted, folder)
    if found is None:
        _measured(preflight.KIND, wanted, folder, again=again)
        found = preflight.estimate(wanted, folder)
        assert found is not None  # it was measured a moment ago
    if json_:
        return json_out(found)
    table(*preflight.table(found))
    line(found["text"])


def find_rate(
    recipe: RecipeName,
    stage: Annotated[int, typer.Option(help="Which stage, counted from 1.")] = 1,
    sets: Sets = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Find a stage's learning rate: about 100 steps with a rising rate. Ctrl-C cancels."""
    from engine.estimate import rate_test

    given, folder, place = recipes.load(recipe, sets or []), homes.home(home), stage - 1
    rate_test.check_stage(given, place)
    result = _measured("rates", rate_test.key_recipe(given, place), folder, place)
    present, found = given.stages[place].learning_rate, result["suggestion"]
    use = None if found is None else rate_test.setting(place, found)
    if json_:
        return json_out(result | {"present": present, "set": use})
    line(result["text"])
    if use:
        line(f"Suggested {found:.1e}; the recipe has {present:.1e}.")
        line(f"To use it: --set {use}")


def _measured(
    kind: str, recipe: recipes.Recipe, home: Path, stage: int = 0, again: bool = False
) -> dict:
    """The result of a measurement, measured now if it is not known, with progress.

    Raises:
        GraftError: if it failed.
    """
    from engine.estimate import probes

    # First the dataset: a result is kept by the dataset's content.
    prepare(recipe.dataset, home)
    asked = (kind, recipe, home, stage)
    if again or probes.state(*asked)["state"] != "done":
        actions.measure(*asked)
    return result_of(
        watched(lambda: probes.state(*asked), lambda: actions.cancel_measurement(*asked))
    )
