"""Commands about datasets: list them, and build one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, cast

import typer

from engine import actions
from engine import home as homes
from engine.cli.dataset_argument import HELP, spec_of
from engine.cli.options import AsJson, Home, json_out, line, path_of, table
from engine.cli.terminal import progress, say
from engine.errors import DamagedFile, DatasetError
from engine.host.words import listed as listed_names
from engine.host.words import plural

if TYPE_CHECKING:
    from engine.data.sources.collection import Saved

SHOWN = 20
"""Skipped files that are named on the terminal; JSON has all of them."""


def listed(home: Home = None, json_: AsJson = False) -> None:
    """List prepared datasets, datasets built here, and names to start with."""
    from engine.data import datasets
    from engine.data.sources import collection, tfds_catalogue

    folder = homes.home(home)
    paths = sorted((folder / homes.DATASETS).glob("*/manifest.json"))
    prepared = []
    for path in paths:
        try:
            prepared.append(datasets.facts(path.parent))
        except DamagedFile as error:
            say(f"skipped: {error}", "yellow")
    own = [collection.open_(folder, name) for name in collection.names(folder)]
    if json_:
        return json_out(
            {
                "prepared": prepared,
                "saved": [_facts(each) for each in own],
                "suggestions": datasets.TFDS_SUGGESTIONS,
                "catalogue": [asdict(e) | {"url": e.url} for e in tfds_catalogue.CATALOGUE],
                "builtin": ["sample"],
            }
        )
    if prepared:
        header = ["prepared", "images", "classes", "left out", "fingerprint"]
        table(header, map(_row, prepared))
    if own:
        table(["built here", "description"], [[s.name, s.description] for s in own])
    table(
        ["source", "description"],
        [
            ["sample", "built in: generated drawings, no download"],
            ["folder", "one folder for each class: dataset.source=folder dataset.path=DIR"],
            ["zip", "a zip of class folders: dataset.source=zip dataset.path=FILE"],
            ["saved", "built here (python -m engine add --help): dataset.source=saved"],
            ["tfds", "TensorFlow Datasets, such as: dataset.source=tfds dataset.name=NAME"],
        ],
    )
    table(
        ["name", "content", "images", "classes", "MiB", "licence"],
        [
            [e.name, e.what, f"{e.images:,}", e.classes, f"{e.download_mib:,.1f}", e.licence]
            for e in tfds_catalogue.CATALOGUE
        ],
    )


def _row(manifest) -> list:
    return [
        manifest["title"],
        manifest["count"],
        listed_names(manifest["classes"], 8),
        len(manifest["unreadable"]) + sum(manifest.get("left_out", {}).values()),
        manifest["fingerprint"][:12],
    ]


def add(
    name: Annotated[
        str, typer.Argument(help="The dataset's name; it is created if it does not exist.")
    ],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Image files of one class.", parser=path_of)
    ] = None,
    label: Annotated[str | None, typer.Option(help="The class of these files.")] = None,
    zip_: Annotated[
        Path | None,
        typer.Option(
            "--zip", help="A zip with one folder of images for each class.", parser=path_of
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help=f"The dataset that a new one extends. {HELP}")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Undo the last addition.")] = False,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Add images to a dataset built here; earlier images keep their part (train, validation, test).

    Exit code 2 if no image could be added.
    """
    from engine.data.sources import archive, collection

    folder, files = homes.home(home), files or []
    if undo and (files or label or zip_ or base):
        raise DatasetError("--undo removes the last addition and nothing else; leave the rest out")
    if files and not label:
        raise DatasetError("the files need a class; give it with --label")
    if label and not files:
        raise DatasetError(f"no files were given for the class {label}; name them after it")
    if label:
        collection.clean_label(label)
    if zip_:
        archive.check(zip_)  # before a dataset is created for it
    if not undo:
        _create(folder, name, base)
    outcome: dict = {"added": 0, "skipped": [], "taken_back": 0}
    if undo:
        outcome["taken_back"] = actions.undo_addition(folder, name)
    elif files or zip_:
        with progress("Adding") as show:
            for number, skipped in _additions(folder, name, label, files, zip_, show):
                outcome["added"] += number
                outcome["skipped"] += skipped
    found = collection.open_(folder, name)
    if json_:
        json_out(_facts(found) | outcome)
    else:
        _print(found, outcome, undo)
    if outcome["skipped"] and not outcome["added"]:
        raise typer.Exit(2)


def _create(folder: Path, name: str, base: str | None) -> None:
    """Creates the dataset unless it exists."""
    from engine.data.sources import collection

    given = None if base is None else spec_of(base, folder)
    if name not in collection.names(folder):
        actions.create_dataset(folder, name, given)
    elif given and collection.open_(folder, name).base != given.model_dump(mode="json"):
        raise DatasetError(
            f"the dataset {name} exists already and does not extend {base}; leave --base out, or "
            "choose another name"
        )


def _additions(
    folder: Path,
    name: str,
    label: str | None,
    files: list[Path],
    zip_: Path | None,
    show: Callable[..., None],
) -> Iterator[tuple[int, list]]:
    """Yields (images added, skipped files with reasons) of each addition."""
    if files and label:
        given = [(str(path), cast("IO[bytes]", _File(path))) for path in files]
        yield actions.add_images(folder, name, label, given, show)
    if zip_:
        yield actions.add_zip(folder, name, zip_, show)


class _File:
    """A file that is opened only while it is read: there may be thousands."""

    def __init__(self, path: Path):
        self.path = path

    def seek(self, place):
        """It is read from its beginning each time."""

    def read(self, size):
        with open(self.path, "rb") as file:
            return file.read(size)


def _facts(found: Saved) -> dict:
    return {
        "name": found.name,
        "base": found.base,
        "description": found.description,
        "images_added": len(found.rows()),
        "batches": [asdict(batch) for batch in found.batches],
    }


def _print(found: Saved, outcome: dict, undo: bool) -> None:
    if undo:
        count = outcome["taken_back"]
        say(f"Removed {plural(count, 'image')}." if count else "Nothing to undo.")
    for file, why in outcome["skipped"][:SHOWN]:
        say(f"skipped: {file}: {why}")
    if len(outcome["skipped"]) > SHOWN:
        say(f"and {len(outcome['skipped']) - SHOWN:,} more were skipped")
    if outcome["added"]:
        say(f"Added {plural(outcome['added'], 'image')}.")
    line(f"{found.name}: {found.description}.")
    say(f"To train on it: --set dataset.source=saved --set dataset.name={found.name}")
