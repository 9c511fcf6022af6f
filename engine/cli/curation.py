"""Commands about decisions on single images: make, undo and list them, measure their effect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine import actions
from engine import home as homes
from engine.cli.dataset_argument import HELP, Layout, spec_of
from engine.cli.options import AsJson, Home, Sets, json_out, line, path_of, table, write_file
from engine.cli.runs import date
from engine.cli.terminal import watched
from engine.errors import DatasetError
from engine.host import words
from engine.host.background import result_of
from engine.host.words import plural

if TYPE_CHECKING:
    from engine.data.prepared import Dataset

Data = Annotated[str, typer.Argument(help=HELP)]


def curate(
    dataset: Data,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Name of an image to leave out. Can be repeated.")
    ] = None,
    relabel: Annotated[
        list[str] | None, typer.Option(help="NAME=CLASS: change the class of an image.")
    ] = None,
    move: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PART: move an image to train, validation or test."),
    ] = None,
    undo: Annotated[
        int | None, typer.Option(help="Undo the step with this number; 0 is the last one.", min=0)
    ] = None,
    redo: Annotated[
        int | None,
        typer.Option(help="Redo the step with this number; 0 is the last undone one.", min=0),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="Write the current decisions to a CSV file.", parser=path_of),
    ] = None,
    layout: Layout = "auto",
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Leave out, relabel or move images of a dataset; its files stay.

    Without options, the history is shown.
    """
    from engine.data import curation, datasets

    folder = homes.home(home)
    spec = spec_of(dataset, folder, layout)
    made = _decisions(datasets.open_dataset(spec, folder), leave_out, relabel, move)
    if made:
        did = ", ".join(sorted({curation.ACTIONS[d["do"]] for d in made}))
        text = f"{did}: {plural(len(made), 'image')} (command line)"
        actions.decide(folder, spec, text, made)
    if undo is not None:
        actions.undo(folder, spec, undo or None)
    if redo is not None:
        actions.undo(folder, spec, redo or None, again=True)
    overlay, steps = curation.current(folder, spec), curation.steps(folder, spec)
    if csv:
        write_file(csv, curation.to_csv(folder, spec))
    if json_:
        return json_out({"overlay": overlay, "steps": [vars(step) for step in steps]})
    table(
        ["step", "when", "what", ""],
        [[s.number, date(s.time), s.text, "undone" if s.undone else ""] for s in steps],
    )
    if overlay:
        said = curation.in_words(folder, overlay)
        line(f"{said}; to train with them: --set dataset.overlay={overlay}")
    else:
        line("There are no decisions: the dataset is used as it is.")


def _decisions(
    opened: Dataset,
    leave_out: list[str] | None,
    relabel: list[str] | None,
    move: list[str] | None,
) -> list[dict]:
    """Decisions from the options. Raises DatasetError for a name that no image has."""
    from engine.data import curation

    made = []
    for do, given in (("exclude", leave_out), ("relabel", relabel), ("move", move)):
        for text in given or ():
            name, to = (text, "") if do == "exclude" else _parts(opened, text, do)
            image = words.same(name, opened.names)
            if image is None:
                raise DatasetError(
                    f"the dataset has no image {name!r}; see the names with: "
                    "python -m engine inspect DATASET --json"
                )
            made += curation.decisions(opened, [opened.names.index(image)], do, to)
    return made


def _parts(opened: Dataset, text: str, do: str) -> tuple[str, str]:
    """NAME and CLASS of "NAME=CLASS": both may contain "=", but NAME is that of an image."""
    from engine.data.splits import PARTS

    what, targets = ("PART", PARTS) if do == "move" else ("CLASS", opened.source_classes)
    pieces = text.split("=")
    if len(pieces) == 1:
        raise DatasetError(f"{text!r} must look like NAME={what}")
    splits = [("=".join(pieces[:i]), "=".join(pieces[i:])) for i in range(1, len(pieces))]
    fitting = [s for s in splits if words.same(s[0], opened.names)] or splits
    name, to = next((s for s in fitting if words.same(s[1], targets)), fitting[-1])
    return name, words.same(to, targets) or to


def payback(
    dataset: Data,
    recipe: Annotated[
        str, typer.Option(help="A preset's name or a recipe's YAML file.")
    ] = "sample",
    sets: Sets = None,
    layout: Layout = "auto",
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Measure what the decisions on single images changed: train the head with and without them."""
    from engine.data import curation
    from engine.inspection import payback
    from engine.recipe import load

    folder = homes.home(home)
    spec = spec_of(dataset, folder, layout)
    spec = spec.model_copy(update={"overlay": curation.current(folder, spec)})
    default = "sample" if spec.source == "sample" else "flowers"
    asked = (spec, folder, load(recipe or default, sets or []))
    if payback.state(*asked)["state"] != "done":
        actions.measure_decisions(*asked)
    found = result_of(
        watched(lambda: payback.state(*asked), lambda: actions.stop_measuring_decisions(*asked))
    )
    if json_:
        return json_out(found)
    line(found["text"])
