"""Runs on a terminal: progress bars made from events."""

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from engine import jobs, runs

# Scripts read standard output, so progress goes to standard error.
NOTES = Console(stderr=True)


def follow(run):
    """Shows a run's events as progress until it ends."""
    offset, tasks, total, ended = 0, {}, 0, False
    with progress_bars() as bar:
        while not ended:
            jobs.wait(run, 0.3)
            ended = run.status not in runs.ACTIVE
            found, offset = run.events(offset)
            for e in found:
                kind = e["event"]
                if kind == "phase" and e["phase"] not in ("training",):
                    task = tasks.setdefault(e["text"], None)
                    if task is None:
                        task = tasks[e["text"]] = bar.add_task(
                            e["text"], total=e["total"] or 1, eta=""
                        )
                    bar.update(
                        task, completed=e["done"] if e["total"] else 1, total=e["total"] or 1
                    )
                elif kind == "start":
                    total = e["total_steps"]
                    counts = ", ".join(f"{n} {part}" for part, n in e["counts"].items())
                    bar.console.print(f"{counts} images of {len(e['classes'])} classes")
                    tasks["training"] = bar.add_task("Training", total=total, eta="")
                elif kind == "batch":
                    eta = "" if e["eta_seconds"] is None else f"{e['eta_seconds']:.0f} s left"
                    bar.update(tasks["training"], completed=e["step"], eta=eta)
                elif kind == "epoch" and "loss" in e:
                    bar.console.print(
                        f"stage {e['stage'] + 1} epoch {e['epoch'] + 1}: loss {number(e['loss'])}, "
                        f"validation {number(e['val_loss'])}, accuracy {percent(e['accuracy'])}, "
                        f"validation {percent(e['val_accuracy'])}, {e['images_per_second']:.0f} images/s",
                        highlight=False,
                    )
                elif kind in ("note", "warning", "stage_end", "end"):
                    bar.console.print(
                        escape(e["text"]),
                        highlight=False,
                        style="yellow" if kind == "warning" else None,
                    )


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
