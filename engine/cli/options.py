"""What all commands share: common options, and how rows and data are printed."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine import home as homes
from engine.errors import FULL, GraftError
from engine.host import words
from engine.recipe import paths

# A pipe has no width; 160 columns keep a row of a table on one line.
console = Console(width=None if sys.stdout.isatty() else 160, emoji=False)

Home = Annotated[
    Path | None,
    typer.Option(
        help="Folder for everything Graft writes (default: GRAFT_HOME, or .graft beside app.py)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def path_of(text: str) -> Path:
    """A path as people paste it (`engine.recipe.paths.given`), ~ for their home included."""
    return Path(paths.given(text)).expanduser()


RunId = Annotated[str, typer.Argument(help="A run's id, or latest.")]
RecipeName = Annotated[str, typer.Argument(help="A preset's name or a recipe's YAML file.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field, such as stages.0.epochs=3. Can be repeated."),
]


def safe(text: object) -> str:
    """What Rich prints character by character: mark-up in a name is escaped, and what a terminal
    would obey becomes its number."""
    return escape(words.printable(str(text)))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows under column names.

    Args:
        columns: the names.
        rows: one value a column; each is printed as text.
    """
    shown = Table(box=None, header_style="bold", pad_edge=False)
    # The first column is what people type next, so it is never cut.
    for number, column in enumerate(columns):
        shown.add_column(column, no_wrap=number == 0, overflow="fold" if number else "ignore")
    for row in rows:
        shown.add_row(*map(safe, row))
    console.print(shown)


def line(text: str, style: str | None = None) -> None:
    """Prints one line of the answer, whatever the width of the terminal."""
    console.print(safe(text), style=style, highlight=False, soft_wrap=True)


def data_out(text: str) -> None:
    """Prints text for a file or a program, as UTF-8 whatever the terminal can show."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    print(text, end="")


def write_file(path: Path, text: str) -> None:
    """Writes a file that was asked for, as UTF-8; on a full disk, what was there stays.

    Raises GraftError if it cannot be written, or OSError if the disk is full.
    """
    try:
        if path.is_relative_to("/dev") or (path.exists() and not path.is_file()):
            path.write_text(text, encoding="utf-8")
            return
        with homes.replacing(path.resolve()) as file:
            file.write(text)
    except OSError as error:
        if error.errno in FULL:
            raise
        text = f"{path} cannot be written ({error.strerror}); give another file"
        raise GraftError(text) from None


def json_out(data: dict | list) -> None:
    """Prints one JSON document, all of it ASCII."""
    print(json.dumps(data, indent=1, default=str))
