"""Commands about runs: train, list, show, stop, resume, continue, delete and restore them."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from engine import actions
from engine import home as homes
from engine.cli.options import AsJson, Home, RecipeName, RunId, Sets, json_out, line, table
from engine.cli.terminal import follow, say, starts
from engine.errors import DamagedFile
from engine.host import words
from engine.jobs import jobs
from engine.runs import checkpoint, remaining, runs, trash
from engine.runs.worst import worst

Wait = Annotated[
    bool, typer.Option(help="Show progress until the run ends, or return once it is in the queue.")
]


def train(
    recipe: RecipeName,
    sets: Sets = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Add the run to the queue and return.")
    ] = False,
    home: Home = None,
) -> None:
    """Train and show progress; Ctrl-C stops and keeps the best model.

    The last line is the run id.
    """
    from engine.recipe import load

    watch(actions.start(load(recipe, sets or []), homes.home(home)), wait=not queue)


def listed(home: Home = None, json_: AsJson = False) -> None:
    """List all runs, newest first."""
    jobs.active(homes.home(home))  # after a reboot, this finds runs that were interrupted
    found, damaged = runs.readable_runs(homes.home(home))
    for _, why in damaged:
        say(f"skipped: {why}", "yellow")
    if json_:
        return json_out([_summary(r) for r in found])
    if not found:
        return say("There are no runs yet. Start one with: python -m engine train sample")
    table(
        ["run", "status", "dataset", "backbone", "test accuracy", "duration"],
        [
            [
                r.id,
                r.shown_status,
                r.recipe.dataset.title,
                r.recipe.backbone.title,
                _accuracy(r),
                words.duration(r.seconds),
            ]
            for r in found
        ],
    )


def show(run: RunId, home: Home = None, json_: AsJson = False) -> None:
    """Show one run: status, stages, accuracy."""
    from engine.estimate import preflight

    found = runs.get_run(homes.home(home), run)
    if json_:
        return json_out(found.summary() | {"preflight": preflight.compare(found)})
    line(f"{found.id}  {found.shown_status}  {words.duration(found.seconds)}", "bold")
    if found.error:
        line(found.error, "red")
    if found.decisions:
        line(f"Decisions about single images: {found.decisions}.")
    for report in found.stages():
        line(report["text"])
    if rows := preflight.compare(found):
        table(*preflight.comparison(rows))
    if found.evaluation:
        whose = f"stage {found.kept_stage}" if found.kept_stage else "the run it continues"
        line(f"Test accuracy {_accuracy(found)}{_beside(found)}; weights of {whose} kept.")
        per_class(found.evaluation["test"])


def per_class(figures: dict) -> None:
    """Prints precision, recall and F1 of each class; of many, those with the lowest F1.

    Args:
        figures: of `engine.predict.evaluation`, or a part of a run's `evaluation`.
    """
    scores, kept = ("precision", "recall", "f1"), worst(figures["per_class"])
    table(
        ["class", "precision", "recall", "F1", "images"],
        [
            [row["label"], *(words.percent(row[score]) for score in scores), row["support"]]
            for row in kept
        ],
    )
    if more := len(figures["per_class"]) - len(kept):
        line(f"These have the lowest F1; --json has the other {more:,} classes too.")


def stop(
    run: RunId,
    kill: Annotated[
        bool,
        typer.Option("--kill", help="End it at once; it can be resumed from its last checkpoint."),
    ] = False,
    home: Home = None,
) -> None:
    """Stop a run: it finishes with its best model; a waiting run leaves the queue."""
    found = runs.get_run(homes.home(home), run)
    if kill:
        actions.kill(found)
        say(f"Run {found.id} was killed. To resume it: python -m engine resume {found.id}")
    elif found.status == "queued" and checkpoint.Checkpoints(found.path).listed():
        actions.pause(found)  # stopping it would lose what it trained: no worker could finish it
        say(
            f"Run {found.id} has left the queue and keeps its checkpoint. To resume it: "
            f"python -m engine resume {found.id}"
        )
    else:
        actions.stop(found)
        if found.status == "stopped":
            say(f"Run {found.id} was waiting; it has left the queue and will not start.")
        else:
            say(f"Run {found.id}: {remaining.stopping(found) or found.status}.")


def pause(run: RunId, home: Home = None) -> None:
    """Pause a run: it frees its device within seconds and can be resumed exactly there."""
    found = runs.get_run(homes.home(home), run)
    actions.pause(found)
    doing = "it has left the queue" if found.status == "paused" else remaining.stopping(found)
    say(f"Run {found.id}: {doing}. To resume it: python -m engine resume {found.id}")


def resume(
    run: RunId,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Resume with this batch size, as a new run that needs less memory."),
    ] = None,
    wait: Wait = True,
    home: Home = None,
) -> None:
    """Resume a paused, interrupted or failed run exactly where it was."""
    found = runs.get_run(homes.home(home), run)
    if batch_size is not None:
        return watch(actions.restart_smaller(found, batch_size), wait)
    seen = found.events()[1]
    watch(actions.resume(found), wait, seen)


def go_on(
    run: RunId,
    epochs: Annotated[int, typer.Option(help="How many more epochs.")],
    trainable: Annotated[
        str | None,
        typer.Option(
            help="Which layers are trained: none, all or last N blocks (default: as before)."
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate (default: that of the last stage).")
    ] = None,
    wait: Wait = True,
    home: Home = None,
) -> None:
    """Train a finished run for more epochs, as a new run.

    The finished run's weights are kept unless better ones are found.
    """
    folder = homes.home(home)
    found = runs.get_run(folder, run)
    last = found.recipe.stages[-1]
    stage = last.model_dump(mode="json") | {
        "name": "more",
        "epochs": epochs,
        # The same share of the stage: a warm-up longer than its stage is refused.
        "warmup_epochs": last.warmup_epochs * max(0, epochs) / last.epochs,
    }
    stage |= {} if trainable is None else {"trainable": trainable}
    stage |= {} if rate is None else {"learning_rate": rate}
    watch(actions.extend(found, [stage]), wait)


def delete(run: RunId, home: Home = None) -> None:
    """Move a run to the trash, from where it can be restored."""
    found = runs.get_run(homes.home(home), run)
    actions.delete(found)
    say(f"Run {found.id} is in the trash. To restore it: python -m engine restore {found.id}")


def restore(
    run: Annotated[str, typer.Argument(help="The id of a deleted run (see trash).")],
    home: Home = None,
) -> None:
    """Restore a deleted run."""
    back = actions.restore(homes.home(home), run)
    say(f"Run {back.id} is restored; it is {back.status}.")


def show_trash(
    empty: Annotated[bool, typer.Option("--empty", help="Delete all of them for good.")] = False,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """List deleted runs, or delete them for good."""
    folder = homes.home(home)
    if empty:
        count, freed = actions.empty_trash(folder)
        say(f"Deleted {words.plural(count, 'run')} for good, {homes.size_text(freed)}.")
    found = trash.listed(folder)
    if json_:
        return json_out([asdict(each) for each in found])
    if not found:
        return say("The trash is empty.")
    table(
        ["run", "name", "deleted", "size"],
        [[each.id, each.name, date(each.deleted), homes.size_text(each.bytes)] for each in found],
    )


def date(seconds: float) -> str:
    """A moment in local time: "2025-03-01 09:30".

    Args:
        seconds: unix time.
    """
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def watch(run: runs.Run, wait: bool = True, seen: int = 0) -> None:
    """Follows a run to its end and prints its id, the last line of standard output.

    Args:
        run: one that was just added to the queue.
        wait: False to show only its place in the queue.
        seen: bytes of its events that were there before.

    Raises:
        typer.Exit: code 1 unless it finished or was stopped.
    """
    if not wait:
        place = next((e for e in jobs.waiting(run.home) if e["run"] == run), None)
        where = (
            f"at place {place['place']}; it starts {starts(place)}" if place else "and starts now"
        )
        say(f"Run {run.id} is in the queue {where}.")
        return print(run.id)
    jobs.interrupt_to_stop(run, actions.stop)
    follow(run, seen)
    status, error = run.status, run.error
    if status in ("finished", "stopped"):
        return print(run.id)
    smaller = run.state.get("proposed_batch_size")
    option = f" --batch-size {smaller}" if smaller else ""
    if status == "paused":
        say(f"Run {run.id} is paused.")
    else:
        say(f"Run {run.id} {status}.", "red")
    if error:
        say(error)
    say(f"To resume it: python -m engine resume {run.id}{option}")
    print(run.id)
    raise typer.Exit(1)


def _summary(run) -> dict:
    """A run's summary; what is wrong, if a file of it is damaged: the other runs stay listed."""
    try:
        return run.summary()
    except DamagedFile as error:
        return {"id": run.id, "status": run.status, "error": str(error), "path": str(run.path)}


def _accuracy(run) -> str:
    try:
        found = run.evaluation
    except DamagedFile:
        return "damaged"
    if not found:
        return "–"
    test = found["test"]
    low, high = test["interval"]
    return f"{words.percent(test['accuracy'])} ({words.percent(low)} to {words.percent(high)})"


def _beside(run) -> str:
    """The accuracy without images that have a near copy in the training part."""
    from engine.predict import evaluation

    return evaluation.beside_copies((run.evaluation or {}).get("test", {}))
