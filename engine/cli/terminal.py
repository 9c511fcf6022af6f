"""Work on a terminal: notes and progress bars, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from engine import actions
from engine.cli.options import safe
from engine.errors import GraftError
from engine.host import words
from engine.jobs import jobs
from engine.recipe import DatasetSpec
from engine.runs import queue, remaining, runs

# Scripts read standard output, so progress goes to standard error.
NOTES = Console(stderr=True, emoji=False)

WHOLE = "Whole run"
"""The bar of a run's time; those of its phases count items."""
State = TypeVar("State", bound=Mapping[str, Any])


def say(text: str, style: str | None = None) -> None:
    """A note on one line however narrow the terminal is: it may hold a command."""
    NOTES.print(safe(text), style=style, highlight=False, soft_wrap=True)


class _Plain(TextColumn):
    """A column that prints names as they are."""

    def render(self, task: Task) -> Text:
        return Text(words.printable(self.text_format.format(task=task)))


def progress_bars() -> Progress:
    """Bars with a description, elapsed time and, in the field `eta`, the time left."""
    return Progress(
        _Plain("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        _Plain("{task.fields[eta]}"),
        console=NOTES,
    )


@contextmanager
def progress(text: str) -> Iterator[Callable[..., None]]:
    """One bar; yields the function that moves it.

    Args:
        text: what is being done.

    Yields:
        `show(done, total=None, text=None, left=None)`; `left` in seconds. What is None stays.
    """
    with progress_bars() as bar:
        task = bar.add_task(text, total=None, eta="")

        def show(
            done: float | None,
            total: float | None = None,
            text: str | None = None,
            left: float | None = None,
        ) -> None:
            bar.update(task, completed=done, total=total, description=text, eta=_left(left))

        yield show
        total = bar.tasks[task].total or 1
        bar.update(task, completed=total, total=total, eta="")


def watched(
    ask: Callable[[], State],
    cancel: Callable[[], None],
    text: str = "Starting",
    kept: str = "Nothing was changed.",
) -> State:
    """Shows the progress of background work until it ends; Ctrl-C cancels it.

    Args:
        ask: returns its state, such as `engine.host.background.Job.state`.
        cancel: ends it.
        text: shown until the first state is known.
        kept: shown after Ctrl-C: what is left of the work.

    Returns:
        The last state, whatever it is.

    Raises:
        typer.Exit: code 130 after Ctrl-C.
    """
    try:
        with progress(text) as show:
            while (now := ask())["state"] in ("running", "preparing"):
                show(now["done"], now["total"], now["text"], now["eta_seconds"])
                time.sleep(0.2)
            return now
    except KeyboardInterrupt:
        cancel()
        say(f"Cancelled. {kept}")
        raise typer.Exit(130) from None


def prepare(spec: DatasetSpec, home: Path) -> None:
    """Prepares a dataset if it is not prepared yet, with progress; Ctrl-C cancels.

    Raises:
        GraftError: if it cannot be prepared.
    """
    from engine.data import datasets

    # A separate process does it: TensorFlow in this one would hold a GPU that a worker needs.
    actions.prepare(spec, home)
    ended = watched(
        lambda: datasets.state(spec, home),
        lambda: actions.cancel_prepare(spec, home),
        f"Opening {spec.title}",
    )
    if ended["error"]:
        raise GraftError(ended["error"])


# -- following a run --------------------------------------------------------------------------


def follow(run: runs.Run, seen: int = 0) -> None:
    """Shows a run's events as progress until it ends or pauses, and its place while it waits.

    Args:
        run: the Run.
        seen: bytes of its events that were there before; they are not shown again.
    """
    offset, place, ended = seen, None, False
    tasks: dict = {}
    with progress_bars() as bar:
        while not ended:
            jobs.wait(run, 0.3)
            status = run.status
            ended = status not in runs.ACTIVE
            if status == "queued":
                place = show_place(bar, run, place)
            found, offset = run.events(offset)
            for e in found:
                _show(bar, tasks, e)
            _show_left(bar, tasks, run)


def _show_left(bar, tasks, run):
    """Shows how much of the run is over, and what it still does once it was asked to stop."""
    text, left = remaining.stopping(run), remaining.of(run)
    if left or text:
        if WHOLE not in tasks:
            tasks[WHOLE] = bar.add_task(WHOLE, total=1, eta="")
        share = left.share if left else 0
        bar.update(tasks[WHOLE], completed=share, eta=text or (left.text if left else ""))


def _show(bar, tasks, e):
    """Shows one event; `tasks` holds the bars by name."""
    kind = e["event"]
    if kind == "phase" and e["phase"] not in ("training",):
        task = tasks.setdefault(e["text"], None)
        if task is None:
            task = tasks[e["text"]] = bar.add_task(e["text"], total=e["total"] or 1, eta="")
        bar.update(task, completed=e["done"] if e["total"] else 1, total=e["total"] or 1)
    elif kind == "start":
        counts = ", ".join(f"{n} {part}" for part, n in e["counts"].items())
        classes = words.plural(len(e["classes"]), "class", "classes")
        bar.console.print(f"{counts} images of {classes}")
    elif kind == "epoch" and "loss" in e:
        bar.console.print(
            f"stage {e['stage'] + 1} epoch {e['epoch'] + 1}: loss {_loss(e['loss'])}, "
            f"validation {_loss(e['val_loss'])}, accuracy {words.percent(e['accuracy'])}, "
            f"validation {words.percent(e['val_accuracy'])}, {e['images_per_second']:.0f} images/s",
            highlight=False,
        )
    elif kind in ("note", "warning", "resume", "stage_end", "end"):
        if kind == "end" and WHOLE in tasks:
            over = e["status"] in ("finished", "stopped")
            bar.update(tasks[WHOLE], eta="", **{"completed": 1} if over else {})
        style = "yellow" if kind == "warning" else None
        bar.console.print(safe(e["text"]), highlight=False, style=style)


def show_place(bar: Progress, run: runs.Run, before: int | None) -> int | None:
    """Shows where a waiting run is in the queue if that has changed; returns its place.

    Args:
        before: the place that was shown last, or None.
    """
    home = run.home
    order = queue.waiting(home)
    place = order.index(run.id) + 1 if run.id in order else before
    if place != before:
        entry = next((e for e in jobs.waiting(home) if e["run"] == run), None)
        if entry and entry["starts_in"] != 0:  # the first in the queue starts at once
            bar.console.print(
                f"Waiting at place {entry['place']} of the queue; it starts {starts(entry)}.",
                highlight=False,
            )
    return place


def starts(entry: dict) -> str:
    """When a waiting run starts, to be read after "it starts".

    Args:
        entry: one of `engine.jobs.jobs.waiting`.
    """
    seconds = entry["starts_in"]
    if seconds is None:
        return "after the runs before it"
    return "now" if seconds < 1 else f"in about {words.duration(seconds)}"


def _left(seconds) -> str:
    return "" if seconds is None else f"{words.duration(seconds)} left"


def _loss(value) -> str:
    return "not a number" if value is None else f"{value:.3f}"
