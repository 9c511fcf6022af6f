"""The command that looks for problems in a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from engine import actions
from engine import home as homes
from engine.cli.dataset_argument import HELP, Layout, spec_of
from engine.cli.options import AsJson, Home, json_out, line, table
from engine.cli.terminal import prepare, say, watched
from engine.errors import DatasetError, GraftError
from engine.host.words import plural

if TYPE_CHECKING:
    import numpy as np

    from engine.data.prepared import Dataset
    from engine.host.background import JobState
    from engine.inspection.findings import Finding
    from engine.inspection.inspection import Inspection

SHOWN = 3
"""Images named for each finding on the terminal; JSON has all of them."""
KEPT = "Results so far are kept; run the command again to continue."


def inspect(
    dataset: Annotated[str, typer.Argument(help=HELP)],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A preset or a recipe's YAML file. Its backbone is used to find wrong labels and "
            "outliers, and its split is checked (default: sample for the sample, otherwise "
            "flowers)."
        ),
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Without the backbone: quick, but no wrong labels.")
    ] = False,
    layout: Layout = "auto",
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Find duplicates, leakage, wrong labels, dark, blurred and odd images.

    Results are kept. Ctrl-C stops; the next call continues.
    """
    from engine.data import curation, datasets
    from engine.estimate import proposal
    from engine.inspection import findings, inspection, judge
    from engine.recipe import load

    folder = homes.home(home)
    spec = spec_of(dataset, folder, layout)
    given = load(recipe or proposal.preset_for(spec.model_dump(), folder), [])
    asked = (spec, folder, None if pixels else given)
    prepare(spec, folder)
    opened = datasets.open_dataset(
        spec.model_copy(update={"overlay": curation.current(folder, spec)}), folder
    )
    found, ended = _inspected(asked)
    if inspection.recovered(found, opened):
        found, ended = _inspected(asked, again=True)
    parts: dict[str, np.ndarray] | None = None
    unsplit = None
    try:
        parts = opened.split(given.split)
    except DatasetError as error:
        unsplit = str(error)
    listed = findings.find(opened, found, parts)
    if json_:
        json_out(
            {
                "dataset": _facts(opened),
                "split": unsplit,
                "division": opened.division(given.split),
                "findings": [_plain(f, opened, found, parts) for f in listed],
                "backbone": found.backbone,
                "report": found.report,
                "error": ended["error"],
            }
        )
    else:
        _print(listed, opened, opened.division(given.split), unsplit)
        if replaced := judge.replaced(given, found.backbone):
            line(replaced)
    if ended["error"]:  # findings from the pixels are shown all the same
        raise GraftError(ended["error"])


def _inspected(asked: tuple, again: bool = False) -> tuple[Inspection, JobState]:
    """(the Inspection, its last state), once there is one.

    Args:
        asked: arguments of `inspection.state`.
        again: whether to inspect images again that could not be read then.

    Raises:
        GraftError: if it cannot be started, or failed.
    """
    from engine.inspection import inspection

    spec, home, recipe = asked
    while True:
        actions.inspect(spec, home, recipe, again)
        ended = watched(
            lambda: inspection.state(*asked), lambda: actions.stop_inspection(*asked), kept=KEPT
        )
        if ended["state"] != "missing":  # one for another backbone may have been in progress
            break
    found = inspection.open_inspection(*asked)
    if found is None:
        raise GraftError(ended["error"] or "the inspection was cancelled")
    return found, ended


def _print(listed: list[Finding], opened: Dataset, division: str, unsplit: str | None) -> None:
    from engine.inspection.findings import share

    lost = "".join(
        f"; {found.count:,} of them can no longer be read"
        for found in listed
        if found.kind == "lost"
    )
    counts = f"{plural(len(opened), 'image')} of {plural(len(opened.classes), 'class', 'classes')}"
    line(f"{opened.title}: {counts}{lost}")
    for text in (*opened.notes, division, opened.left_out_text):
        if text:
            line(text)
    for name, why in opened.skipped[:SHOWN]:
        say(f"Skipped: {name} ({why})")
    if len(opened.skipped) > SHOWN:
        say(f"and {len(opened.skipped) - SHOWN:,} more were skipped")
    if unsplit:
        say(f"Leakage between parts was not checked: {unsplit}")
    if not listed:
        return line("No problems were found.")
    table(
        ["finding", "severity", "count", "likely true", "what", "examples"],
        [
            [f.kind, f.severity, f"{f.count:,}", share(f), f.title, _examples(f, opened)]
            for f in listed
        ],
    )
    for finding in listed:
        line(f"{finding.kind}: {finding.advice}")


def _examples(finding: Finding, opened: Dataset) -> str:
    """A few names."""
    if finding.kind == "unreadable":
        return ", ".join(name for name, _ in opened.unreadable[:SHOWN])
    shown = finding.groups[0][:SHOWN] if finding.groups else finding.indices[:SHOWN]
    return ", ".join(opened.names[i] for i in shown.tolist())


def _facts(opened: Dataset) -> dict:
    return {
        "title": opened.title,
        "images": len(opened),
        "classes": list(opened.classes),
        "fingerprint": opened.fingerprint,
        "overlay": opened.overlay,
        "unreadable": [list(item) for item in opened.unreadable],
        "skipped": [list(item) for item in opened.skipped],
        "left_out": opened.left_out,
        "notes": opened.notes,
    }


def _plain(
    finding: Finding,
    opened: Dataset,
    found: Inspection,
    parts: dict[str, np.ndarray] | None,
) -> dict:
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
    if finding.kind in ("mislabelled", "doubtful") and found.features:
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
        "expected": finding.expected,
        "relabel_as_suggested": findings.suggests_labels(finding),
        "images": images,
        "groups": None if finding.groups is None else [names(g) for g in finding.groups],
        "leave_out": names(findings.suggested_exclusions(finding, opened)),
    }
