"""The command line: `python -m engine --help`. Everything a page can do, without a page.

Each command is a function in the module of its noun. Here they get their name, their place in
`--help` and an example.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

import typer

from engine.cli import (
    accounts,
    curation,
    datasets,
    host,
    inspect,
    models,
    predictions,
    queue,
    recipes,
    runs,
    share,
)
from engine.errors import DiskError, GraftError
from engine.host import words

COMMANDS: dict[str, list[tuple[Callable[..., None], str]]] = {
    "Main steps, in this order": [
        (datasets.listed, "datasets"),
        (inspect.inspect, "inspect tf_flowers"),
        (recipes.presets, "presets flowers"),
        (runs.train, "train sample --set stages.1.epochs=3"),
        (runs.listed, "runs"),
        (runs.show, "show latest"),
        (predictions.predict, "predict latest photo.jpg --top 5"),
        (models.export, "export latest --format litert --precision int8"),
    ],
    "Datasets": [
        (datasets.add, "add my-pets --label cat cat-1.jpg cat-2.jpg"),
        (curation.curate, "curate tf_flowers --leave-out roses/00012.jpg"),
        (curation.payback, "payback tf_flowers"),
    ],
    "Recipes": [
        (recipes.fields, "recipe"),
        (models.backbones, "backbones"),
        (recipes.preflight, "preflight flowers --set batch_size=16"),
        (recipes.find_rate, "find-rate flowers --stage 2"),
    ],
    "Runs": [
        (runs.stop, "stop latest"),
        (runs.pause, "pause latest"),
        (runs.resume, "resume latest"),
        (runs.go_on, "continue latest --epochs 5"),
        (queue.listed, "queue"),
        (queue.move, "queue-move latest 1"),
        (runs.delete, "delete latest"),
        (runs.restore, "restore RUN"),
        (runs.show_trash, "trash --empty"),
    ],
    "Models": [
        (predictions.batch, "batch latest photos.zip --csv answers.csv"),
        (predictions.evaluate, "evaluate latest --data photos/"),
        (predictions.calibrate, "calibrate latest"),
        (models.serve, "serve latest --port 8600"),
        (models.keys, "keys create laptop --scope classify"),
        (share.share, "share latest --hours 4 --wall --address http://192.168.1.20:8501"),
        (models.import_model, "import model.keras --labels labels.txt"),
    ],
    "This host": [
        (host.settings, "settings runs_per_device=2"),
        (host.cache, "cache --limit 5"),
        (host.doctor, "doctor --fix"),
        (accounts.users, "users add ada --role admin"),
        (accounts.audit, "audit --last 20 --who ada"),
    ],
}
"""Panels of `--help`; in each, the commands with an example that begins with the command's name."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Graft: transfer learning for image classification. Train, test and export models.",
)
for panel, commands in COMMANDS.items():
    for function, example in commands:
        add = app.command(
            example.split()[0],
            rich_help_panel=panel,
            epilog=f"Example: python -m engine {example}",
        )
        add(function)


def main() -> int:
    """Runs the command line.

    Returns:
        The exit code: 0 on success; 2 on bad input, or 1 where a run's model is damaged or the disk
        is full, with one sentence on standard error.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a name still ends
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return app() or 0
        finally:
            sys.stdout.flush()  # here rather than when Python ends, where an error is a traceback
    except GraftError as error:
        return _failed(error)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        if known := DiskError.of(error):
            return _failed(known)
        raise


def _failed(error: GraftError) -> int:
    """Says what went wrong; returns the exit code."""
    print(f"error: {words.printable(str(error))}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # its file is on a full disk: Python must not try again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return error.exit_code
