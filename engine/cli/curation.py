"""Commands about decisions on single images: make them, undo them, list them, see what they were worth."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from engine import home as homes
from engine.cli.dataset_argument import HELP
from engine.cli.options import AsJson, Home, Sets, app, console, json_out, table
from engine.errors import DatasetError, GraftError

Data = Annotated[str, typer.Argument(help=HELP)]


@app.command()
def curate(
    dataset: Data,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Name of an image to leave out; may be given many times."),
    ] = None,
    relabel: Annotated[
        list[str] | None, typer.Option(help="NAME=CLASS: give an image its right class.")
    ] = None,
    move: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PART: put an image into train, validation or test."),
    ] = None,
    undo: Annotated[
        int | None, typer.Option(help="Undo the step of this number; 0 is the last one.", min=0)
    ] = None,
    redo: Annotated[int | None, typer.Option(help="Do an undone step again.", min=0)] = None,
    csv: Annotated[Path | None, typer.Option(help="Write what holds to a CSV file.")] = None,
    home: Home = None,
    json_: AsJson = False,
):
    """Leave out, relabel or move images of a dataset; the files stay. Without options, the history."""
    from engine.cli.dataset_argument import spec_of
    from engine.data import curation, datasets

    folder = homes.home(home)
    spec = spec_of(dataset, folder)
    opened = datasets.open_dataset(spec, folder)
    made = _decisions(opened, leave_out, relabel, move)
    if made:
        words = ", ".join(sorted({curation.ACTIONS[d["do"]] for d in made}))
        curation.decide(folder, spec, f"{words}: {len(made)} images (command line)", made)
    if undo is not None:
        curation.undo(folder, spec, undo or None)
    if redo is not None:
        curation.undo(folder, spec, redo or None, again=True)
    overlay, steps = curation.current(folder, spec), curation.steps(folder, spec)
    if csv:
        csv.write_text(curation.to_csv(folder, spec), encoding="utf-8")
    if json_:
        return json_out({"overlay": overlay, "steps": [vars(step) for step in steps]})
    table(
        ["step", "when", "what", ""],
        [
            [s.number, time.strftime("%Y-%m-%d %H:%M", time.localtime(s.time)), s.text,
             "undone" if s.undone else ""]
            for s in steps
        ],
    )  # fmt: skip
    if overlay:
        words = curation.in_words(folder, overlay)
        console.print(f"{escape(words)}; to train with them: --set dataset.overlay={overlay}")
    else:
        console.print("Nothing is decided: the images are as the source has them.")


def _decisions(opened, leave_out, relabel, move) -> list[dict]:
    """Decisions from the options. Raises DatasetError for a name that no image has."""
    from engine.data import curation

    places = {name: i for i, name in enumerate(opened.names)}
    made = []
    for do, given in (("exclude", leave_out), ("relabel", relabel), ("move", move)):
        for text in given or ():
            name, equals, to = (text, "=", "") if do == "exclude" else text.rpartition("=")
            if not equals:
                raise DatasetError(
                    f"{text!r} must look like NAME={'PART' if do == 'move' else 'CLASS'}"
                )
            if name not in places:
                raise DatasetError(
                    f"the dataset has no image {name!r}; names are those that python -m engine inspect "
                    "--json gives"
                )
            made += curation.decisions(opened, [places[name]], do, to)
    return made


@app.command(name="payback")
def worth(
    dataset: Data,
    recipe: Annotated[
        str, typer.Option(help="A preset's name or a recipe's YAML file.")
    ] = "sample",
    sets: Sets = None,
    home: Home = None,
    json_: AsJson = False,
):
    """What the decisions about single images were worth: the head trained with and without them."""
    from engine.cli.dataset_argument import spec_of
    from engine.cli.host import watched
    from engine.data import curation
    from engine.inspection import payback
    from engine.recipe import load

    folder = homes.home(home)
    spec = spec_of(dataset, folder)
    spec = spec.model_copy(update={"overlay": curation.current(folder, spec)})
    default = "sample" if spec.source == "sample" else "flowers"
    asked = (spec, folder, load(recipe or default, sets or []))
    if payback.state(*asked)["state"] != "done":
        payback.start(*asked)
        ended = watched(lambda: payback.state(*asked), lambda: payback.cancel(*asked))
        if ended["state"] != "done":
            raise GraftError(ended["error"] or "the comparison was cancelled")
    found = payback.state(*asked)["result"]
    if json_:
        return json_out(found)
    console.print(escape(found["text"]), highlight=False, soft_wrap=True)
