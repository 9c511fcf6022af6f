"""The command that exports a run's model for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from engine import home as homes
from engine.cli.options import AsJson, Home, RunId, app, json_out
from engine.cli.runs import say
from engine.cli.terminal import progress_bars
from engine.errors import GraftError
from engine.exports import background, card, exports, formats
from engine.runs import runs


@app.command()
def export(
    run: RunId,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(formats.FORMATS)}.")],
    precision: Annotated[
        str, typer.Option(help="Of LiteRT: float32, float16 (large weights, same answers) or int8.")
    ] = "float32",
    output: Annotated[
        Path | None, typer.Option(help="Folder for a copy of the zip; the run keeps its own.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make and check it anew even if the run keeps one.")
    ] = False,
    home: Home = None,
    json_: AsJson = False,
):
    """Export a finished run, with a certificate that it answers as the run does.

    The last line is the zip's path. Exit code 1 if the export does not agree with the run.
    """
    folder = homes.home(home)
    found = _made(runs.get_run(folder, run), format, folder, precision, again)
    if output:
        found = exports.copy_to(found, output)
    certificate = found["certificate"]
    if json_:
        json_out(found)
    else:
        say(card.one_line(certificate), None if certificate["agrees"] else "red")
        print(found["path"])
    if not certificate["agrees"]:
        raise typer.Exit(1)


def _made(run, format, home, precision, again):
    """The export, made in a process of its own; an interrupt ends that too."""
    background.begin(run, format, home, precision, again)
    try:
        with progress_bars() as bar:
            task = bar.add_task("Starting", total=None, eta="")
            return background.wait(
                run,
                format,
                home,
                precision,
                lambda now: bar.update(
                    task,
                    description=now["text"],
                    completed=now["done"] or 0,
                    total=now["total"],
                ),
            )
    except KeyboardInterrupt:
        background.cancel(run, format, home, precision)
        raise GraftError("the export was cancelled; nothing of it is left") from None
