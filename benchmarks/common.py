"""What all parts share: the prepared photos, runs and their figures, rows of the table."""

import json
import os
import subprocess
import sys
import time

from engine.data import datasets
from engine.features import cache
from engine.home import PROJECT
from engine.host import processes
from engine.jobs import jobs
from engine.recipe import load_preset

SMALL = ("backbone.name=MobileNetV2", "backbone.alpha=0.35")
"""A backbone with small ImageNet weights (1.7 MB)."""
QUICK_SLICES = {"test": "train[:1%]", "validation": "train[10%:12%]", "train": "train[25%:29%]"}


def say(text) -> None:
    """Prints a line of progress to standard error; standard output is for the result."""
    print(f"  {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def python(*arguments) -> dict:
    """Runs a module of this package in a new process; its last line is JSON."""
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def photos(quick, *sets):
    """The preset `reference` with the small backbone; on a few photos if quick."""
    slices = [f"split.{part}={text}" for part, text in QUICK_SLICES.items()] if quick else []
    return load_preset("reference", [*SMALL, *slices, *sets])


def prepared(recipe, home):
    """The recipe's dataset, prepared in another process so that none of it is measured."""
    if datasets.outdated(recipe.dataset, home):
        say(f"preparing {recipe.dataset.title}")
        datasets.prepare(recipe.dataset, home)
        datasets.job(recipe.dataset, home).wait()
    return datasets.open_dataset(recipe.dataset, home)


def forget_features(home) -> None:
    """Empties the feature store; converted networks stay."""
    for entry in cache.entries(home):
        if entry.kind == "features" and not cache.delete(entry):
            raise RuntimeError(f"{entry.path} is still in use; a cold run cannot be measured")


def trained(recipe, home) -> dict:
    """Trains through Graft, in its worker, and waits.

    Returns:
        A dict: seconds (from the worker's start to its end), test (accuracy) and stages, each with
        name, path, computed, feature_seconds, conversion_seconds, fit_seconds, whole_seconds (with
        checks and conversion) and epoch_seconds.
    """
    run = jobs.wait(jobs.start(recipe, home))
    return figures(run)


def figures(run) -> dict:
    """The figures of a finished run; see `trained`. Raises RuntimeError if it failed."""
    if run.status != "finished":
        raise RuntimeError(f"run {run.id} is {run.status}: {run.error}\n{run.log_tail()}")
    stages, before, epochs = [], None, []
    for event in run.events()[0]:
        kind = event["event"]
        if kind == "start":
            before = event["t"]
        elif kind == "stage_start":
            begun, epochs = event, []
        elif kind == "epoch":
            epochs.append(event["seconds"])
        elif kind == "stage_end":
            if len(epochs) != run.recipe.stages[event["stage"]].epochs:
                raise RuntimeError(f"stage {event['name']} ended early: {event['text']}")
            stages.append(
                {
                    "name": event["name"],
                    "path": begun["path"],
                    "computed": begun.get("computed"),
                    "feature_seconds": begun.get("seconds", 0.0),
                    "conversion_seconds": begun.get("conversion_seconds", 0.0),
                    "fit_seconds": event["seconds"],
                    "whole_seconds": event["t"] - before,
                    "epoch_seconds": epochs,
                }
            )
            before = event["t"]
    test = run.evaluation["test"]
    return {
        "run": run.id,
        "seconds": run.seconds,
        "test": test["accuracy"],
        "test_images": test["n"],
        "stages": stages,
    }


def stage_seconds(stage) -> float:
    """Seconds of a stage: its feature pass and its fit."""
    return stage["feature_seconds"] + stage["fit_seconds"]


def mean(values) -> float:
    return sum(values) / len(values)


def row(what, baseline, graft, unit, wanted=None, note="", ratio=None) -> dict:
    """A row of the table.

    Args:
        what: what was measured.
        baseline, graft: the measured values, in order; their means are compared.
        unit: of both; "%" for shares between 0 and 1.
        wanted: the largest acceptable ratio, or None; a str if it is no ratio.
        ratio: replaces the ratio of the means.
    """
    if ratio is None and baseline and graft:
        ratio = mean(graft) / mean(baseline)
    return {
        "what": what,
        "baseline": [float(v) for v in baseline],
        "graft": [float(v) for v in graft],
        "unit": unit,
        "ratio": ratio,
        "wanted": wanted,
        "note": note,
    }


def use_worker_environment() -> None:
    """Sets the variables of Graft's workers in this process, before TensorFlow is imported."""
    if "tensorflow" in sys.modules:
        raise RuntimeError("TensorFlow reads its variables on import, and was imported already")
    os.environ.update(processes.environment())
