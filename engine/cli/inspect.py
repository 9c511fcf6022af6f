"""The command that looks for what is wrong with a dataset."""

from typing import Annotated

import typer
from rich.markup import escape

from engine import home as homes
from engine.cli.dataset_argument import HELP
from engine.cli.host import prepare, watched
from engine.cli.options import AsJson, Home, app, console, json_out, table
from engine.cli.terminal import NOTES
from engine.errors import DatasetError, GraftError

SHOWN = 3
"""Images named for each finding on the terminal; JSON has all of them."""


@app.command()
def inspect(
    dataset: Annotated[str, typer.Argument(help=HELP)],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A preset or a recipe's YAML file, whose backbone looks for wrong labels and outliers, "
            "and whose split is checked (default: sample for the sample, flowers for all else)."
        ),
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Leave the backbone out: quick, no wrong labels.")
    ] = False,
    home: Home = None,
    json_: AsJson = False,
):
    """Find duplicates, leakage, wrong labels, dark, blurred and odd images. Ctrl-C stops, and the next
    call goes on; what was found is kept, and opens at once."""
    from engine.cli.dataset_argument import spec_of
    from engine.data import curation, datasets
    from engine.estimate import proposal
    from engine.inspection import findings, inspection
    from engine.recipe import load

    folder = homes.home(home)
    spec = spec_of(dataset, folder)
    given = load(recipe or proposal.preset_for(spec.model_dump(), folder), [])
    asked = (spec, folder, None if pixels else given)
    try:
        prepare(spec, folder)
    except KeyboardInterrupt:
        NOTES.print("Cancelled; nothing was changed.")
        raise typer.Exit(130) from None
    opened = datasets.open_dataset(
        spec.model_copy(update={"overlay": curation.current(folder, spec)}), folder
    )
    found, ended = _inspected(asked, inspection.start)
    if inspection.recovered(found, opened):
        found, ended = _inspected(asked, inspection.again)
    try:
        parts, unsplit = opened.split(given.split), None
    except DatasetError as error:
        parts, unsplit = None, str(error)
    listed = findings.find(opened, found, parts)
    if json_:
        json_out(
            {
                "dataset": _facts(opened),
                "split": unsplit,
                "division": opened.division(given.split),
                "findings": [_plain(f, opened, found, parts) for f in listed],
                "report": found.report,
                "error": ended["error"],
            }
        )
    else:
        _print(listed, opened, opened.division(given.split), unsplit)
    if ended["error"]:  # what the pixels say is there all the same
        raise GraftError(ended["error"])


def _inspected(asked, start):
    """(the Inspection, its last state), once there is one.

    Args:
        asked: arguments of `inspection.state`.
        start: begins it, called with these. Raises GraftError, as for an inspection that fails.
    """
    from engine.inspection import inspection

    ended = {"state": "missing"}
    while ended["state"] == "missing":  # one for another backbone may have been under way
        start(*asked)
        ended = watched(lambda: inspection.state(*asked), lambda: inspection.cancel(*asked))
    found = inspection.open_inspection(*asked)
    if found is None:
        raise GraftError(ended["error"] or "the inspection was cancelled")
    return found, ended


def _print(listed, opened, division, unsplit) -> None:
    lost = "".join(
        f", {found.count:,} of which can no longer be read"
        for found in listed
        if found.kind == "lost"
    )
    console.print(
        f"{escape(opened.title)}: {len(opened):,} images of {len(opened.classes)} classes{lost}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(escape(division), highlight=False, soft_wrap=True)
    for name, why in opened.skipped[:SHOWN]:
        NOTES.print(f"Left out: {escape(name)} ({why})", highlight=False, soft_wrap=True)
    if len(opened.skipped) > SHOWN:
        NOTES.print(f"and {len(opened.skipped) - SHOWN:,} more were left out", highlight=False)
    if unsplit:
        NOTES.print(f"Leakage between parts was not looked for: {escape(unsplit)}", soft_wrap=True)
    if not listed:
        return console.print("Nothing to mend was found.")
    table(
        ["finding", "how serious", "count", "what", "such as"],
        [[f.kind, f.severity, f"{f.count:,}", f.title, _examples(f, opened)] for f in listed],
    )
    for finding in listed:
        console.print(f"{finding.kind}: {escape(finding.advice)}", highlight=False, soft_wrap=True)


def _examples(finding, opened) -> str:
    """A few names."""
    if finding.kind == "unreadable":
        return ", ".join(name for name, _ in opened.unreadable[:SHOWN])
    shown = finding.groups[0][:SHOWN] if finding.groups else finding.indices[:SHOWN]
    return ", ".join(opened.names[i] for i in shown.tolist())


def _facts(opened) -> dict:
    return {
        "title": opened.title,
        "images": len(opened),
        "classes": list(opened.classes),
        "fingerprint": opened.fingerprint,
        "overlay": opened.overlay,
        "unreadable": [list(item) for item in opened.unreadable],
        "skipped": [list(item) for item in opened.skipped],
    }


def _plain(finding, opened, found, parts) -> dict:
    """A finding as plain data, images by their names."""
    from engine.inspection import findings

    def names(indices):
        return [opened.names[i] for i in indices.tolist()]

    where = {i: part for part, members in (parts or {}).items() for i in members.tolist()}
    images = [
        {"name": opened.names[i], "label": opened.classes[opened.labels[i]], "part": where.get(i)}
        for i in finding.indices.tolist()
    ]
    if finding.scores is not None:
        for image, score in zip(images, finding.scores.tolist(), strict=True):
            image["score"] = score
    if finding.kind == "mislabelled":
        rows = opened.rows[finding.indices]
        for image, row in zip(images, rows.tolist(), strict=True):
            image["suggested"] = opened.source_classes[found.features["suggested"][row]]
            image["probability"] = float(found.features["suggested_probability"][row])
    return {
        "kind": finding.kind,
        "title": finding.title,
        "severity": finding.severity,
        "count": finding.count,
        "advice": finding.advice,
        "images": images,
        "groups": None if finding.groups is None else [names(g) for g in finding.groups],
        "leave_out": names(findings.suggested_exclusions(finding, opened)),
    }
