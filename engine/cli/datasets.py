"""Commands about datasets: what there is, and putting one together."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from engine import home as homes
from engine.cli.dataset_argument import HELP, spec_of
from engine.cli.options import AsJson, Home, app, console, json_out, table
from engine.cli.terminal import NOTES, progress_bars
from engine.data import additions
from engine.errors import DatasetError

SHOWN = 20
"""Files that were left out, named on the terminal; JSON has all of them."""


@app.command(name="datasets")
def list_datasets(home: Home = None, json_: AsJson = False):
    """List prepared datasets, those put together here, and names to begin with."""
    from engine.data import datasets
    from engine.data.sources import collection, tfds_catalogue

    folder = homes.home(home)
    paths = sorted((folder / "datasets").glob("*/manifest.json"))
    prepared = [m for path in paths if (m := homes.read_json(path))]
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
        table(
            ["prepared", "images", "classes", "unreadable", "fingerprint"],
            [
                [
                    m["title"],
                    m["count"],
                    ", ".join(m["classes"][:8]),
                    len(m["unreadable"]),
                    m["fingerprint"][:12],
                ]
                for m in prepared
            ],
        )
    if own:
        table(["put together here", "what it is"], [[s.name, s.description] for s in own])
    table(
        ["source", "what it is"],
        [
            ["sample", "built in: generated drawings, no download"],
            ["folder", "one folder for each class: dataset.source=folder dataset.path=DIR"],
            ["zip", "a zip of such folders: dataset.source=zip dataset.path=FILE"],
            ["saved", "put together here (python -m engine add --help): dataset.source=saved"],
            ["tfds", "TensorFlow Datasets: dataset.source=tfds dataset.name=NAME, such as"],
        ],
    )
    table(
        ["name", "what it shows", "images", "classes", "MiB", "licence"],
        [
            [e.name, e.what, f"{e.images:,}", e.classes, f"{e.download_mib:,.1f}", e.licence]
            for e in tfds_catalogue.CATALOGUE
        ],
    )


@app.command(name="add")
def add_images(
    name: Annotated[str, typer.Argument(help="The dataset's name; it is made if there is none.")],
    files: Annotated[list[Path] | None, typer.Argument(help="Image files of one class.")] = None,
    label: Annotated[str | None, typer.Option(help="The class of these files.")] = None,
    zip_: Annotated[
        Path | None, typer.Option("--zip", help="A zip with one folder of images for each class.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help=f"What a new dataset begins with. {HELP}")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the last addition back.")] = False,
    home: Home = None,
    json_: AsJson = False,
):
    """Add images to a dataset put together here. Those already there stay in the part (train,
    validation, test) they are in. Exit code 2 if none could be added."""
    from engine.data.sources import archive, collection

    folder, files = homes.home(home), files or []
    if undo and (files or label or zip_ or base):
        raise DatasetError(
            "--undo takes the last addition back and nothing else; leave the rest out"
        )
    if bool(files) != bool(label):
        raise DatasetError(
            "give the files and, with --label, their class"
            if files
            else f"no files were given for the class {label}; name them after it"
        )
    if label:
        collection.clean_label(label)
    if zip_:
        archive.check(zip_)  # before a dataset is made for it
    if not undo:
        _make(folder, name, base)
    outcome = {"added": 0, "skipped": [], "taken_back": 0}
    if undo:
        outcome["taken_back"] = collection.undo(folder, name)
    elif files or zip_:
        with progress_bars() as bar:
            task = bar.add_task("Adding", total=None, eta="")

            def show(done, total):
                bar.update(task, completed=done, total=total)

            for number, skipped in _additions(folder, name, label, files, zip_, show):
                outcome["added"] += number
                outcome["skipped"] += skipped
    found = collection.open_(folder, name)
    if json_:
        json_out(_facts(found) | outcome)
    else:
        _tell(found, outcome, undo)
    if outcome["skipped"] and not outcome["added"]:
        raise typer.Exit(2)


def _make(folder, name, base):
    """Makes the dataset, unless it is there."""
    from engine.data.sources import collection

    given = None if base is None else spec_of(base, folder)
    if name not in collection.names(folder):
        collection.create(folder, name, given)
    elif given and collection.open_(folder, name).base != given.model_dump(mode="json"):
        raise DatasetError(
            f"there is a dataset {name} already and it does not begin with {base}; leave --base out, or "
            "choose another name"
        )


def _additions(folder, name, label, files, zip_, show):
    """Yields (images added, those left out with reasons) of each addition asked for."""

    if files:
        given = [(str(path), _File(path)) for path in files]
        yield additions.add(folder, name, label, given, show)
    if zip_:
        yield additions.add_zip(folder, name, zip_, show)


class _File:
    """A file that is opened only while it is read: thousands may be given."""

    def __init__(self, path: Path):
        self.path = path

    def seek(self, place):
        """It is read from its beginning each time."""

    def read(self, size):
        with open(self.path, "rb") as file:
            return file.read(size)


def _facts(found) -> dict:
    return {
        "name": found.name,
        "base": found.base,
        "description": found.description,
        "images_added": len(found.rows()),
        "batches": [asdict(batch) for batch in found.batches],
    }


def _tell(found, outcome, undo):
    if undo:
        count = outcome["taken_back"]
        text = (
            f"Took {count:,} image{'s' * (count != 1)} back." if count else "Nothing to take back."
        )
        NOTES.print(text, highlight=False)
    for file, why in outcome["skipped"][:SHOWN]:
        NOTES.print(f"left out: {escape(file)}: {escape(why)}", highlight=False, soft_wrap=True)
    if len(outcome["skipped"]) > SHOWN:
        NOTES.print(f"and {len(outcome['skipped']) - SHOWN:,} more were left out", highlight=False)
    if outcome["added"]:
        NOTES.print(f"Added {outcome['added']:,} images.", highlight=False)
    console.print(escape(f"{found.name}: {found.description}."), highlight=False, soft_wrap=True)
    NOTES.print(
        f"To train on it: --set dataset.source=saved --set dataset.name={found.name}",
        highlight=False,
        soft_wrap=True,
    )
