"""What events, checkpoints and an open page cost the training host.

On a host that other things share, two runs of the same work differ by more than is looked for here, so
what is compared lies as near together as can be: in one fit, epochs with all of Graft's callbacks and
epochs with none, in turns; in one run through the worker, some seconds with its Train page open and
some without, in turns. The page is open on another computer, as it is for people: `benchmarks.viewer`
asks the server for all that a browser asks for. A last run with Chromium on this very host shows that
what is asked for is drawn, and what a browser on the training host takes beside: it gets idle time only
(nice 19, and the idle scheduling class where `chrt` is there).
"""

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
import psutil

from benchmarks import common
from engine import jobs, runs
from engine.home import PROJECT
from engine.recipe import load_preset

EPOCHS = 80
CHROMIUM_EPOCHS = 15
WINDOW = 6.0  # seconds with the page open, then without
EVERY = 0.5  # seconds between two looks at processor times
DRAWN = """[...document.querySelectorAll(".graft-chart")]
    .reduce((sum, box) => sum + Number(box.dataset.drawn || 0), 0)"""
"""How often the charts of the page were drawn: the proof that it was alive."""


def run(home, quick) -> dict:
    recipe = unfrozen(12 if quick else EPOCHS)
    common.prepared(recipe, home)
    path = home / "bare.yaml"
    path.write_text(recipe.to_yaml())
    common.say("epochs with and without callbacks")
    events = common.python("benchmarks.dashboard", home, path)
    with server_of(home) as (address, process):
        common.say("a run with its page open and closed")
        page = toggled(jobs.start(recipe, home), address, process)
        shown = with_chromium(home, unfrozen(2 if quick else CHROMIUM_EPOCHS), address, process)
    return {"rows": rows(events, page, shown), "figures": {"events": events, "page": page} | shown}


def unfrozen(epochs):
    """The preset `sample` with its second stage alone, so many epochs."""
    data = load_preset("sample").to_dict()
    data["stages"] = [data["stages"][1] | {"epochs": epochs}]
    return load_preset("sample").from_dict(data)


@contextlib.contextmanager
def server_of(home):
    """Graft's server; gives its address and process."""
    sys.path.append(str(PROJECT / "tests"))
    from browser_support import server

    with server(home, home / "server.log") as (address, process):
        yield address, psutil.Process(process.pid)


def toggled(job, address, server) -> dict:
    """Opens and closes the run's page until it ends; compares the epochs that lie in either time."""
    wait_for(job, "epoch")
    windows, used = [], {True: 0.0, False: 0.0}
    viewers = []
    while job.status in runs.ACTIVE:
        is_open, begun, before = not len(windows) % 2, time.time(), processor_seconds([server])
        if is_open:
            with distant_page(address, job) as found:
                time.sleep(WINDOW)
            viewers.append(found)
        else:
            time.sleep(WINDOW)
        windows.append([is_open, begun, time.time()])
        used[is_open] += processor_seconds([server]) - before
    common.figures(job)  # raises if it failed
    ends = [e["t"] for e in job.events()[0] if e["event"] == "epoch"]
    windows.pop()  # the end of the run falls into it
    seconds = [
        [after - before for before, after in zip(ends, ends[1:], strict=False) if begun < before and after < end]
        for _, begun, end in windows
    ]  # fmt: skip
    took = {True: 0.0, False: 0.0}
    for is_open, begun, end in windows:
        took[is_open] += end - begun
    return {
        "windows": [[is_open, s] for (is_open, *_), s in zip(windows, seconds, strict=True) if s],
        "server_share": {str(k): used[k] / took[k] for k in used if took[k]},
        "viewers": viewers,
    }


def wait_for(job, kind) -> None:
    """Waits for a run's first event of a kind; RuntimeError if it ends before."""
    while not any(event["event"] == kind for event in job.events()[0]):
        if job.status not in runs.ACTIVE:
            raise RuntimeError(f"run {job.id} is {job.status}: {job.error}")
        time.sleep(0.1)


@contextlib.contextmanager
def distant_page(address, job):
    """A viewer of the run's page while the block lasts; fills the dict it gives at the end."""
    command = [sys.executable, "-m", "benchmarks.viewer", address, "train", f"run={job.id}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    viewer, found = subprocess.Popen(["nice", "-n", "19", *command], cwd=PROJECT, **pipes), {}
    try:
        yield found
    finally:
        found |= json.loads(viewer.communicate()[0].strip().splitlines()[-1])
    if not found["reruns"] or found["bytes"] < 10_000:
        raise RuntimeError(f"the page was not alive: {found}")


def with_chromium(home, recipe, address, process) -> dict:
    """A run watched by a headless Chromium on this host; empty if there is none."""
    sys.path.append(str(PROJECT / "tests"))
    from browser_support import chromium

    if not chromium():
        return {}
    common.say("a shorter run, Chromium on this host")
    with idle_browser(home, chromium()) as browser:
        return {"chromium": watched(jobs.start(recipe, home), process, browser, address)}


@contextlib.contextmanager
def idle_browser(home, executable):
    """A headless Chromium that takes only what nobody else wants."""
    from playwright.sync_api import sync_playwright

    chrt = f"{shutil.which('chrt')} --idle 0 " if shutil.which("chrt") else ""
    wrapper = home / "idle-chromium"
    wrapper.write_text(f'#!/bin/sh\nexec {chrt}nice -n 19 "{executable}" "$@"\n')
    wrapper.chmod(0o755)
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        for child in psutil.Process().children():
            if child.name() == "node":  # Playwright's own half, which hears all that the page hears
                child.nice(19)
        browser = playwright.chromium.launch(executable_path=wrapper, args=options)
        try:
            yield browser
        finally:
            browser.close()


def watched(job, server, browser=None, address="") -> dict:
    """Waits for a run's end, its page open in a browser if there is one; returns its figures, and
    processor seconds of all."""
    wait_for(job, "phase")
    worker, page, drawn, samples, helpers, offset = (
        psutil.Process(job.state["pid"]), None, None, [], [], 0
    )  # fmt: skip
    if browser:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        # At idle priority a page may be long in coming; it comes while TensorFlow starts.
        page.goto(f"{address}/train?run={job.id}", wait_until="commit", timeout=120_000)
    while job.status in runs.ACTIVE:
        if browser and len(samples) % 10 == 0:  # a look through all processes is not for nothing
            helpers = [
                p for p in psutil.Process().children(recursive=True) if "chrom" in p.name().lower()
            ]
        samples.append(
            [time.time(), processor_seconds([server]), processor_seconds([worker])]
            + [processor_seconds(helpers)]
        )
        news, offset = job.events(offset)
        if page and any(event["event"] == "stage_end" for event in news):
            drawn = page.evaluate(DRAWN)
        if page:
            page.wait_for_timeout(1000 * EVERY)  # lets its events come in
        else:
            time.sleep(EVERY)
    found = common.figures(job)
    if page:
        page.close()
    ends = [e["t"] for e in job.events()[0] if e["event"] in ("stage_start", "stage_end")]
    clock, *used = zip(*samples, strict=True)
    during = {"clock": ends[-1] - ends[0]}
    for kind, values in zip(("server", "worker", "browser"), used, strict=True):
        before, after = np.interp(ends, clock, values)
        during[kind] = float(after - before)
    version = browser.version if browser else None
    return found | {"browser": version, "drawn": drawn, "during": during}


def processor_seconds(processes) -> float:
    """User and system seconds so far."""
    total = 0.0
    for process in processes:
        # One of Chromium's helpers may have ended; the worker ends when the run does.
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def pairs(windows) -> tuple[list, list]:
    """Median seconds of an epoch (without, with) of neighbouring windows, as two equally long lists."""
    medians = [(is_on, statistics.median(seconds)) for is_on, seconds in windows if seconds]
    without, with_ = [], []
    for (is_on, one), (_, other) in zip(medians, medians[1:], strict=False):
        with_.append(one if is_on else other)
        without.append(other if is_on else one)
    return without, with_


def ratio(without, with_) -> float:
    """Median of the ratios of neighbours: what another process took at one time is in both."""
    return statistics.median(b / a for a, b in zip(without, with_, strict=True))


def rows(events, page, shown) -> list:
    one, other = pairs(events["windows"]), pairs(page["windows"])
    ratios = [ratio(*one), ratio(*other)]
    note = "median of {} ratios of neighbouring windows, quartiles {:.3f} to {:.3f}"

    def row(what, found, ratio_, more=""):
        single = sorted(b / a for a, b in zip(*found, strict=True))
        quartiles = statistics.quantiles(single, n=4)
        text = note.format(len(single), quartiles[0], quartiles[2]) + more
        ms = [[1000 * statistics.median(v)] for v in found]
        return common.row(what, *ms, "ms", 1.03, text, ratio_)

    view = page["viewers"][0]
    made = [
        row("an epoch of GraftSmall: events, checkpoints, best weights", one, ratios[0]),
        row(
            "an epoch of GraftSmall: Train page open",
            other,
            ratios[1],
            f"; the server takes {page['server_share']['True']:.3f} of a core, "
            f"{view['reruns'] / view['seconds']:.1f} requests a second",
        ),
        common.row(
            "both together", [], [], "ms", 1.03, "the product of the two above",
            ratios[0] * ratios[1],
        ),
    ]  # fmt: skip
    if shown:
        found = shown["chromium"]
        seconds = found["during"]["clock"]
        made.append(
            common.row(
                "processor seconds a second of Chromium, were it on the training host",
                [],
                [found["during"]["browser"] / seconds],
                "s",
                note=f"Chromium {found['browser']} at idle priority, {seconds:.0f} s, charts drawn "
                f"{found['drawn']} times; not part of the rows above",
            )
        )
    return made


# -- in a process of its own: a fit whose callbacks come and go -----------------------------------


def alternating_fit(home, path) -> dict:
    """A stage's fit as the worker does it, but every other group of epochs without callbacks."""
    common.use_worker_environment()
    import keras

    from engine import callbacks, events, ingest, input_pipeline, modeling, runs, stages, training
    from engine.recipe import load
    from engine.resume import Keeper

    recipe = load(path)
    run = runs.create(recipe, home)
    log = events.EventLog(run.path / "events.jsonl")
    training.prepare_device(recipe, log, home)
    dataset = ingest.ingest(recipe.dataset, home)
    split = dataset.split(recipe.split)
    bundle = modeling.build(recipe, list(dataset.classes), home)
    both = np.concatenate([split["train"], split["validation"]])
    pixels = input_pipeline.Pixels(
        dataset, both, recipe.image_size, recipe.resize, recipe.memory_budget
    )
    steps = -(-len(split["train"]) // recipe.batch_size)
    work = stages.Work(
        recipe, bundle, dataset, pixels, split, home, steps, log, lambda: "", None,
        Keeper(run.path, home),
    )  # fmt: skip
    stage = recipe.stages[0]
    modeling.apply_stage(bundle, stage)
    stages.compile_(bundle.model, stage, work)
    facts = {"best_before": None, "batch_size": recipe.batch_size, "steps_per_epoch": steps}
    reporter = callbacks.Reporter(0, work, 0, len(split["train"]), [3.0], facts)
    windows, group = [], 4  # epochs; of the group after a change, all count

    class Toggle(keras.callbacks.Callback):
        """Passes on to the reporter what happens in every other group of epochs."""

        on, began = False, 0.0

        def set_model(self, model):
            super().set_model(model)
            reporter.set_model(model)

        def on_epoch_begin(self, epoch, logs=None):
            if epoch % group == 0:
                self.on = not self.on
                windows.append([self.on, []])
            self.began = time.perf_counter()
            if self.on:
                reporter.on_epoch_begin(epoch, logs)

        def on_train_batch_end(self, batch, logs=None):
            if self.on:
                reporter.on_train_batch_end(batch, logs)

        def on_test_batch_end(self, batch, logs=None):
            if self.on:
                reporter.on_test_batch_end(batch, logs)

        def on_epoch_end(self, epoch, logs=None):
            if self.on:
                reporter.on_epoch_end(epoch, logs)
            if epoch:  # the first one traces the graph
                windows[-1][1].append(time.perf_counter() - self.began)

    shared = (dataset.labels, len(dataset.classes), recipe)
    bundle.model.fit(
        input_pipeline.training_batches(pixels, split["train"], *shared, 0),
        epochs=stage.epochs,
        steps_per_epoch=steps,
        validation_data=input_pipeline.evaluation_batches(pixels, split["validation"], *shared),
        verbose=0,
        callbacks=[Toggle()],
    )
    return {"windows": windows}


if __name__ == "__main__":
    from pathlib import Path

    print(json.dumps(alternating_fit(Path(sys.argv[1]), sys.argv[2])))
