"""Runs trained for a test, and what their events say."""

from engine.jobs import jobs
from engine.recipe import load_preset


def train(home, *sets, preset="sample", expect="finished"):
    run = jobs.wait(jobs.start(load_preset(preset, list(sets)), home))
    assert run.status == expect, f"{run.status}: {run.error}\n{run.log_tail()}"
    return run


def events(run, kind):
    return [e for e in run.events()[0] if e["event"] == kind]
