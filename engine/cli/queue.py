"""Commands about the queue of runs."""

from __future__ import annotations

from typing import Annotated

import typer

from engine import actions
from engine import home as homes
from engine.cli.options import AsJson, Home, RunId, json_out, table
from engine.cli.terminal import say, starts
from engine.jobs import jobs
from engine.runs import queue, remaining, runs


def listed(home: Home = None, json_: AsJson = False) -> None:
    """List running and waiting runs, in the order in which they start."""
    folder = homes.home(home)
    running = [run for run in jobs.active(folder) if run.status != "queued"]
    waiting = jobs.waiting(folder)
    if json_:
        return json_out({"running": [_running(r) for r in running], "waiting": _waiting(waiting)})
    if not running and not waiting:
        return say("No run is running or waiting.")
    rows = [
        [run.id, f"{run.shown_status} on {run.state.get('device')}", _left(run)] for run in running
    ]  # fmt: skip
    rows += [[e["run"].id, f"place {e['place']}", f"starts {starts(e)}"] for e in waiting]
    table(["run", "where", "when"], rows)


def _running(run) -> dict:
    left = remaining.of(run)
    return {
        "run": run.id,
        "status": run.status,
        "device": run.state.get("device"),
        "asked": run.asked,
        "seconds_left": left and left.seconds,
    }


def _waiting(entries) -> list[dict]:
    return [
        {"place": e["place"], "run": e["run"].id, "starts_in": e["starts_in"]} for e in entries
    ]  # fmt: skip


def _left(run) -> str:
    left = remaining.of(run)
    return remaining.stopping(run) or (left.text if left else "")


def move(
    run: RunId,
    place: Annotated[int, typer.Argument(help="1 is the next to start.", min=1)],
    home: Home = None,
) -> None:
    """Move a waiting run to another place in the queue."""
    folder = homes.home(home)
    found = runs.get_run(folder, run)
    actions.move(found, place)
    order = queue.waiting(folder)
    if found.id in order:
        say(f"Run {found.id} is at place {order.index(found.id) + 1} of {len(order)}.")
    else:
        say(f"Run {found.id} has just started.")
