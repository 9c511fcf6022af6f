"""Runs on a terminal: progress bars made from events."""

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from engine.jobs import jobs
from engine.runs import queue, runs

# Scripts read standard output, so progress goes to standard error.
NOTES = Console(stderr=True)


def follow(run, seen: int = 0):
    """Shows a run's events as progress until it ends or is paused, and its place while it waits.

    Args:
        run: the Run.
        seen: bytes of its events that were there before, and are not shown again.
    """
    offset, tasks, place, ended = seen, {}, None, False
    for e in run.events()[0] if seen else ():
        if e["event"] == "start":
            tasks["total"] = e["total_steps"]
    with progress_bars() as bar:
        while not ended:
            jobs.wait(run, 0.3)
            status = run.status
            ended = status not in runs.ACTIVE
            if status == "queued":
                place = _tell_place(bar, run, place)
            found, offset = run.events(offset)
            for e in found:
                _show(bar, tasks, e)


def _show(bar, tasks, e):
    """Shows one event; `tasks` holds the bars by name, and the number of all steps."""
    kind = e["event"]
    if kind == "phase" and e["phase"] not in ("training",):
        task = tasks.setdefault(e["text"], None)
        if task is None:
            task = tasks[e["text"]] = bar.add_task(e["text"], total=e["total"] or 1, eta="")
        bar.update(task, completed=e["done"] if e["total"] else 1, total=e["total"] or 1)
    elif kind == "start":
        tasks["total"] = e["total_steps"]
        counts = ", ".join(f"{n} {part}" for part, n in e["counts"].items())
        bar.console.print(f"{counts} images of {len(e['classes'])} classes")
    elif kind == "batch":
        if "training" not in tasks:
            tasks["training"] = bar.add_task("Training", total=tasks.get("total"), eta="")
        eta = "" if e["eta_seconds"] is None else f"{e['eta_seconds']:.0f} s left"
        bar.update(tasks["training"], completed=e["step"], eta=eta)
    elif kind == "epoch" and "loss" in e:
        bar.console.print(
            f"stage {e['stage'] + 1} epoch {e['epoch'] + 1}: loss {number(e['loss'])}, "
            f"validation {number(e['val_loss'])}, accuracy {percent(e['accuracy'])}, "
            f"validation {percent(e['val_accuracy'])}, {e['images_per_second']:.0f} images/s",
            highlight=False,
        )
    elif kind in ("note", "warning", "resume", "stage_end", "end"):
        style = "yellow" if kind == "warning" else None
        bar.console.print(escape(e["text"]), highlight=False, style=style)


def _tell_place(bar, run, told):
    """Says where a waiting run stands if that has changed; returns its place.

    Args:
        told: the place that was said last, or None.
    """
    home = run.path.parent.parent
    order = queue.waiting(home)
    place = order.index(run.id) + 1 if run.id in order else told
    if place != told:
        entry = next((e for e in jobs.waiting(home) if e["run"] == run), None)
        if entry and entry["starts_in"] != 0:  # with nothing before it, it starts this moment
            bar.console.print(
                f"Waiting at place {entry['place']} of the queue; it starts {starts(entry)}.",
                highlight=False,
            )
    return place


def starts(entry) -> str:
    """When a waiting run starts, after "it starts".

    Args:
        entry: one of `engine.jobs.jobs.waiting`.
    """
    seconds = entry["starts_in"]
    if seconds is None:
        return "after the runs before it"
    return "now" if seconds < 1 else f"in about {seconds:.0f} s"


def progress_bars():
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}"),
        console=NOTES,
    )


def percent(value):
    return "-" if value is None else f"{value:.1%}"


def number(value):
    return "not a number" if value is None else f"{value:.3f}"
