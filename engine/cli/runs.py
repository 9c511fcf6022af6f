"""Commands about runs that wait, pause, go on: the queue, and the host's settings."""

import json
from typing import Annotated

import typer
from rich.markup import escape

from engine import home as homes
from engine.cli.options import AsJson, Home, RunId, app, json_out, table
from engine.cli.terminal import NOTES, follow, starts
from engine.errors import GraftError
from engine.runs import runs

Wait = Annotated[
    bool, typer.Option(help="Stay and show how it goes; or return as soon as it is in the queue.")
]


@app.command(name="queue")
def show_queue(home: Home = None, json_: AsJson = False):
    """List what runs and what waits, in the order in which it will start."""
    from engine.jobs import jobs

    folder = homes.home(home)
    running = [run for run in jobs.active(folder) if run.status != "queued"]
    waiting = jobs.waiting(folder)
    if json_:
        return json_out(
            {
                "running": [
                    {
                        "run": run.id,
                        "status": run.status,
                        "device": run.state.get("device"),
                        "seconds_left": run.eta,
                    }
                    for run in running
                ],
                "waiting": [
                    {"place": e["place"], "run": e["run"].id, "starts_in": e["starts_in"]}
                    for e in waiting
                ],
            }
        )
    if not running and not waiting:
        return say("Nothing runs and nothing waits.")
    rows = [[run.id, f"{run.status} on {run.state.get('device')}", _left(run)] for run in running]
    rows += [[e["run"].id, f"place {e['place']}", f"starts {starts(e)}"] for e in waiting]
    table(["run", "where", "when"], rows)


def _left(run):
    return "" if run.eta is None else f"{run.eta:.0f} s left"


@app.command(name="queue-move")
def move(
    run: RunId,
    place: Annotated[int, typer.Argument(help="1 is the next to start.", min=1)],
    home: Home = None,
):
    """Move a waiting run to another place in the queue."""
    from engine.jobs import jobs
    from engine.runs import queue

    folder = homes.home(home)
    found = runs.get_run(folder, run)
    jobs.move(found, place)
    order = queue.waiting(folder)
    if found.id in order:
        say(f"Run {found.id} is at place {order.index(found.id) + 1} of {len(order)}.")
    else:
        say(f"Run {found.id} has just started.")


@app.command()
def pause(run: RunId, home: Home = None):
    """Pause a run: it leaves its device within seconds, and resume goes on exactly there."""
    from engine.jobs import jobs

    found = runs.get_run(homes.home(home), run)
    jobs.pause(found)
    said = "has left the queue" if found.status == "paused" else "was asked to pause"
    say(f"Run {found.id} {said}; to go on: python -m engine resume {found.id}")


@app.command()
def resume(
    run: RunId,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Go on in batches of so many images, as a new run: it needs less memory."
        ),
    ] = None,
    wait: Wait = True,
    home: Home = None,
):
    """Go on with a paused, interrupted or failed run, exactly where it was."""
    from engine.jobs import jobs

    found = runs.get_run(homes.home(home), run)
    if batch_size is not None:
        return watch(jobs.restart_smaller(found, batch_size), wait)
    seen = found.events()[1]
    watch(jobs.resume(found), wait, seen)


@app.command(name="continue")
def go_on(
    run: RunId,
    epochs: Annotated[int, typer.Option(help="How many more epochs.")],
    trainable: Annotated[
        str | None,
        typer.Option(help="What learns: none, all, last N blocks; as last, if left out."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate; as in the last stage, if left out.")
    ] = None,
    wait: Wait = True,
    home: Home = None,
):
    """Train a finished run further, as a new run that keeps its weights unless it finds better ones."""
    from engine.jobs import jobs

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
    watch(jobs.start(jobs.continued(found, [stage]), folder), wait)


@app.command(name="settings")
def host_settings(
    change: Annotated[
        list[str] | None, typer.Argument(help="What to change, such as runs_per_device=2.")
    ] = None,
    home: Home = None,
    json_: AsJson = False,
):
    """Show or change what holds for all runs of this host."""
    from engine.host import settings

    folder = homes.home(home)
    changes = dict(_setting(text) for text in change or ())
    found = settings.change(folder, **changes) if changes else settings.get(folder)
    if json_:
        return json_out(found)
    table(
        ["setting", "value", "help"],
        [[name, json.dumps(value), settings.HELP[name]] for name, value in found.items()],
    )


def _setting(text):
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise GraftError(f"a setting must look like runs_per_device=2; {text!r} was given")
    try:
        return name, json.loads(value.lower())
    except ValueError:  # a word, which the settings refuse with their own sentence
        return name, value


def say(text: str, style: str | None = None) -> None:
    """A note on standard error, on one line however narrow the terminal: it may hold a command."""
    NOTES.print(escape(text), style=style, highlight=False, soft_wrap=True)


# -- following a run --------------------------------------------------------------------------


def watch(run, wait: bool = True, seen: int = 0) -> None:
    """Follows a run to its end and prints its id, the last line of standard output.

    Args:
        run: one that was just put into the queue.
        wait: False to say only where it stands in the queue.
        seen: bytes of its events that were there before.

    Raises:
        typer.Exit: code 1 unless it finished or was stopped.
    """
    from engine.jobs import jobs

    if not wait:
        place = next((e for e in jobs.waiting(run.path.parent.parent) if e["run"] == run), None)
        where = (
            f"at place {place['place']}; it starts {starts(place)}" if place else "and starts now"
        )
        say(f"Run {run.id} is in the queue {where}.")
        return print(run.id)
    jobs.interrupt_to_stop(run)
    follow(run, seen)
    status, error = run.status, run.error
    if status not in ("finished", "stopped"):
        smaller = run.state.get("proposed_batch_size")
        option = f" --batch-size {smaller}" if smaller else ""
        if status == "paused":
            say(f"Run {run.id} is paused.")
        else:
            say(f"Run {run.id} {status}.", "red")
        if error:
            say(error)
        say(f"To go on: python -m engine resume {run.id}{option}")
    print(run.id)
    if status not in ("finished", "stopped"):
        raise typer.Exit(1)


def stop(run) -> str:
    """Asks a run to stop; returns what has come of it, in a sentence."""
    from engine.jobs import jobs
    from engine.runs import checkpoint

    if run.status == "queued" and checkpoint.Checkpoints(run.path).listed():
        jobs.pause(run)  # stopped, it would be lost: there is no worker that could finish it
        return (
            f"Run {run.id} has left the queue and keeps what it has learned; to go on: "
            f"python -m engine resume {run.id}"
        )
    jobs.stop(run)
    if run.status == "stopped":
        return f"Run {run.id} was waiting; it has left the queue and will not start."
    return f"Asked run {run.id} to stop; it finishes with the best so far."
