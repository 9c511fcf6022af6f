"""What all commands share: the application, its common options, how rows and data are printed."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Graft: transfer learning. A recipe goes in, a run comes out.",
)
# A pipe has no width; wide enough that a table keeps a row on a line.
console = Console(width=None if sys.stdout.isatty() else 160)

Home = Annotated[
    Path | None,
    typer.Option(
        help="Folder for all that Graft writes (default: GRAFT_HOME, or .graft beside app.py)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
RunId = Annotated[str, typer.Argument(help="A run's id, or latest.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a field, such as stages.0.epochs=3; may be given many times."
    ),
]


def table(columns, rows):
    """Prints rows under column names."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    # The first column is what one types next: never cut.
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="ignore" if number == 0 else "fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row))
    console.print(table)


def json_out(data):
    """Prints one JSON document."""
    print(json.dumps(data, indent=1, default=str))
