"""How well the time left of a run is predicted: what its page shows, second by second, against what
came. Each recipe runs twice: the first time this host knows nothing of it.

python -m benchmarks.time_left GRAFT_HOME     # of all runs that are there already
"""

import sys
from pathlib import Path
from statistics import median

from benchmarks import common
from engine import home as homes
from engine.jobs import jobs
from engine.recipe import load_preset
from engine.runs import remaining, runs

LAST = 5
"""Seconds before the end that do not count: there, a second is a large share."""


def run(home, quick) -> dict:
    epochs = ["stages.0.epochs=12", "stages.0.early_stopping=0", "stages.1.epochs=3"]
    recipes = [load_preset("sample")]
    if not quick:
        recipes.append(load_preset("flowers", epochs))
    rows, figures = [], {}
    for recipe in recipes:
        for time in ("first", "second"):
            common.say(f"{recipe.name}, {time} run")
            done = jobs.train(recipe, home)
            found = figures[f"{recipe.name}, {time}"] = ratios(done)
            rows.append(
                common.row(
                    f"time left of `{recipe.name}`, {time} run here: worst ratio to the true one",
                    [found["steps"]],
                    [found["worst"]],
                    "",
                    note="from the first tenth on; baseline: the pace of all steps so far; median "
                    f"{found['median']:.2f}, and {found['within']:.0%} of seconds within 1.5",
                )
            )
    return {"rows": rows, "figures": figures}


def ratios(done) -> dict:
    """Predicted against true seconds left, the larger by the smaller, at each second of a run.

    Returns:
        worst, median and within (share of seconds within 1.5) of what was shown; steps, the worst
        by counting steps; seconds in total.
    """
    events, begun = done.events()[0], done.started
    end = next(event["t"] for event in events if event["event"] == "end")
    total = next(event["total_steps"] for event in events if event["event"] == "start")
    shown, by_steps, now = [], [], begun + (end - begun) / 10
    while now < end - LAST:
        before = [event for event in events if event["t"] <= now]
        found, true = remaining.remaining(before, now), end - now
        shown.append(ratio(found.seconds, true) if found else float("inf"))
        trained = [event for event in before if event["event"] == "batch"]
        if trained:
            step, since = trained[-1]["step"], trained[0]["t"]
            by_steps.append(ratio((now - since) / step * (total - step), true))
        now += 1
    return {
        "worst": max(shown),
        "median": median(shown),
        "within": sum(value <= 1.5 for value in shown) / len(shown),
        "steps": max(by_steps, default=float("nan")),
        "seconds": end - begun,
    }


def ratio(predicted, true) -> float:
    """The larger by the smaller; a prediction counts as a second at least."""
    predicted = max(1.0, predicted)
    return max(predicted / true, true / predicted)


if __name__ == "__main__":
    for made in runs.list_runs(homes.home(Path(sys.argv[1]))):
        if made.status == "finished":
            print(made.id, {name: round(value, 2) for name, value in ratios(made).items()})
