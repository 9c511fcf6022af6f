"""The command that makes a run of a model from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from engine import home as homes
from engine.cli.options import Home, app
from engine.cli.runs import say
from engine.cli.terminal import progress_bars


@app.command(name="import")
def import_model(
    path: Annotated[Path, typer.Argument(help="A run folder, a zip of one, or a .keras file.")],
    name: Annotated[str | None, typer.Option(help="What the run is called here.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="For a .keras file: a text file of class names, one a line, in the order of its answers."
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="For a .keras file that takes images of any size: pixels.", min=32, max=1024
        ),
    ] = None,
    preprocessing: Annotated[
        str,
        typer.Option(
            help="For a .keras file: what it expects to be done with pixels before it sees them. included: "
            "nothing, it takes them from 0 to 255 and scales them itself; tf: scaled to -1 to 1; torch: "
            "0 to 1, less ImageNet's mean, by its deviation; caffe: blue first, less ImageNet's mean."
        ),
    ] = "included",
    home: Home = None,
):
    """Make a run of a model from elsewhere, checked and loaded in a process of its own. The last line is its id."""
    from engine.imports import imports

    names = imports.read_labels(labels) if labels else None
    with progress_bars() as bar:
        task = bar.add_task("Reading the files", total=None, eta="")
        imported = imports.add(
            path, homes.home(home), name, names, image_size, preprocessing,
            lambda text, done, total: bar.update(task, description=text, completed=done, total=total),
        )  # fmt: skip
    for note in imported.notes:
        say(note, "yellow")
    say(f"To classify with it: python -m engine predict {imported.run.id} IMAGE")
    print(imported.run.id)
