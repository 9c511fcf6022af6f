"""Commands that keep what was made: delete and restore runs, the trash, the doctor."""

import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from engine import home as homes
from engine.cli.options import AsJson, Home, RunId, app, console, json_out, table
from engine.cli.terminal import NOTES
from engine.runs import runs, trash

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


@app.command()
def delete(run: RunId, home: Home = None):
    """Move a run to the trash, from where it can be restored."""
    found = runs.get_run(homes.home(home), run)
    trash.delete(found)
    NOTES.print(
        f"Run {found.id} is in the trash; to restore it: python -m engine restore {found.id}",
        soft_wrap=True,
        highlight=False,
    )


@app.command()
def restore(
    run: Annotated[str, typer.Argument(help="The id of a deleted run (see trash).")],
    home: Home = None,
):
    """Put a deleted run back, as it was."""
    back = trash.restore(homes.home(home), run)
    NOTES.print(f"Run {back.id} is back; it is {back.status}.", highlight=False)


@app.command(name="trash")
def show_trash(
    empty: Annotated[
        bool, typer.Option("--empty", help="Delete for good all that is in it.")
    ] = False,
    home: Home = None,
    json_: AsJson = False,
):
    """List deleted runs, or delete them for good."""
    folder = homes.home(home)
    if empty:
        count, freed = trash.empty(folder)
        NOTES.print(
            f"Deleted {count} run{'s' * (count != 1)} for good, {homes.size_text(freed)}.",
            highlight=False,
        )
    found = trash.listed(folder)
    if json_:
        return json_out([asdict(each) for each in found])
    if not found:
        return NOTES.print("The trash is empty.")
    table(
        ["run", "name", "deleted", "size"],
        [
            [
                each.id,
                each.name,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(each.deleted)),
                homes.size_text(each.bytes),
            ]
            for each in found
        ],
    )


@app.command(name="doctor")
def examine(
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be mended without a loss.")
    ] = False,
    home: Home = None,
    json_: AsJson = False,
):
    """Look for what is damaged, left over or full, and say what to do. Exit code 1 if an error remains."""
    from engine.doctor import doctor

    found = doctor.examine(home)
    mended = doctor.mend(found) if fix else []
    if mended:
        found = doctor.examine(home)
    failed = [each for each in mended if each.severity == "error"]
    sound = doctor.sound(found) and not failed
    if json_:
        json_out(
            {
                "sound": sound,
                "mended": [each.to_dict() for each in mended],
                "findings": [each.to_dict() for each in found],
            }
        )
    else:
        for each in mended:
            _line("mended" if each.severity == "ok" else "error", each)
        for each in found:
            _line(each.severity, each)
        fixable = sum(each.mend is not None for each in found)
        if fixable:
            NOTES.print(f"{fixable} of these can be mended: python -m engine doctor --fix")
    if not sound:
        raise typer.Exit(1)


def _line(word, finding):
    """One finding: a word, the sentence, and what to do below it."""
    style = STYLES.get(word, "green")
    text = finding.text[:1].upper() + finding.text[1:]
    head = f"[{style}]{word:8}[/{style}] {finding.check:12}"
    console.print(f"{head}{escape(text)}.", highlight=False, soft_wrap=True)
    if finding.remedy and word != "mended":
        console.print(f"{'':21}{escape(finding.remedy)}", highlight=False, soft_wrap=True)
