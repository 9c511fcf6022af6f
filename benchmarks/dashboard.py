"""What events, checkpoints and an open page cost the training host.

On a host that other things share, two runs of the same work differ by more than is looked for here. So
what callbacks cost is clocked inside the fit that they are part of (all they do is done on its thread,
while it waits), and what a page costs is compared as near together as can be: in one run through the
worker, some seconds with its Train page open and some without, in turns. The page is open on another computer, as it is for people: `benchmarks.viewer`
asks the server for all that a browser asks for. A last run with Chromium on this very host shows that
what is asked for is drawn, and what a browser on the training host takes beside: it gets idle time only
(nice 19, and the idle scheduling class where `chrt` is there).
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
import psutil

from benchmarks import common
from engine.home import PROJECT
from engine.jobs import jobs
from engine.recipe import load_preset
from engine.runs import runs

EPOCHS = 80
PHOTO_EPOCHS = 3
CHROMIUM_EPOCHS = 15
WINDOW = 6.0  # seconds with the page open, then without
EVERY = 0.5  # seconds between two looks at processor times
DRAWN = """[...document.querySelectorAll(".graft-chart")]
    .reduce((sum, box) => sum + Number(box.dataset.drawn || 0), 0)"""
"""How often the charts of the page were drawn: the proof that it was alive."""


def run(home, quick) -> dict:
    small = unfrozen(12 if quick else EPOCHS)
    subjects = {"GraftSmall, drawings of 96 px": small}
    if os.environ.get("KERAS_HOME"):
        subjects["MobileNetV2 0.35, photos of 224 px"] = photos(1 if quick else PHOTO_EPOCHS)
    found = {}
    with server_of(home) as (address, process):
        for subject, recipe in subjects.items():
            common.prepared(recipe, home)
            path = home / "bare.yaml"
            path.write_text(recipe.to_yaml())
            common.say(f"{subject}: with and without callbacks")
            events = common.python("benchmarks.dashboard", home, path)
            common.say(f"{subject}: a run with its page open and closed")
            page = toggled(jobs.start(recipe, home), address, process)
            found[subject] = {"events": events, "page": page}
        shown = with_chromium(home, unfrozen(2 if quick else CHROMIUM_EPOCHS), address, process)
    made = [row for subject, figures in found.items() for row in rows(subject, **figures)]
    return {"rows": made + chromium_rows(shown), "figures": found | shown}


def photos(epochs):
    """The preset `flowers` with its second stage alone, so many epochs."""
    data = load_preset("flowers").to_dict()
    data["stages"] = [data["stages"][1] | {"epochs": epochs}]
    return load_preset("flowers").from_dict(data)


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
    """Opens and closes the run's page until it ends; compares the pace of what lies in either time.

    The pace is that of the batch events, milliseconds for each image since the one before."""
    wait_for(job, "batch")
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
    paces = [
        (e["t"], 1 / e["images_per_second"]) for e in job.events()[0] if e["event"] == "batch"
    ][5:]  # the first ones wait for the graph to be traced
    windows.pop()  # the end of the run falls into it
    seconds = [[pace for t, pace in paces if begun + 0.5 < t < end] for _, begun, end in windows]
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


def rows(subject, events, page) -> list:
    other = pairs(page["windows"])
    single = sorted(b / a for a, b in zip(*other, strict=True))
    quartiles = statistics.quantiles(single, n=4)
    view, server = page["viewers"][0], page["server_share"]["True"]
    inside = events["inside"] / events["with"]
    open_ = ratio(*other)
    return [
        common.row(
            f"{subject}: events, checkpoints, best weights",
            [1000 * events["bare"]],
            [1000 * (events["bare"] + events["inside"])],
            "ms",
            1.03,
            f"an epoch without them, and with the time spent in them, {100 * inside:.1f} % "
            f"(clocked; {events['epochs']} epochs, {events['bytes'] / 2**20:.0f} MiB a checkpoint)",
            1 + events["inside"] / events["bare"],
        ),
        common.row(
            f"{subject}: Train page open",
            [1000 * statistics.median(other[0])],
            [1000 * statistics.median(other[1])],
            "ms",
            1.03,
            f"an image; median of {len(single)} ratios of neighbouring windows of {WINDOW:.0f} s, "
            f"quartiles {quartiles[0]:.3f} to {quartiles[2]:.3f}; the server takes {server:.3f} of a "
            f"core, {view['reruns'] / view['seconds']:.1f} requests a second",
            open_,
        ),
        common.row(
            f"{subject}: both together", [], [], "", 1.03, "the product of the two above",
            (1 + events["inside"] / events["bare"]) * open_,
        ),
    ]  # fmt: skip


def chromium_rows(shown) -> list:
    if not shown:
        return []
    found = shown["chromium"]
    seconds = found["during"]["clock"]
    return [
        common.row(
            "processor seconds a second of Chromium, were it on the training host",
            [],
            [found["during"]["browser"] / seconds],
            "s",
            note=f"Chromium {found['browser']} at idle priority, {seconds:.0f} s, charts drawn "
            f"{found['drawn']} times; not part of the rows above",
        )
    ]


# -- in a process of its own: a fit whose callbacks are clocked ------------------------------------


def clocked_fit(home, path) -> dict:
    """A stage's fit as the worker does it, with the time clocked that its callbacks take."""
    common.use_worker_environment()
    import keras

    from engine.data import prepare_worker
    from engine.models import modeling, session
    from engine.recipe import load
    from engine.runs import events, runs
    from engine.train import input_pipeline, stages
    from engine.train import reporter as callbacks
    from engine.train.resume import Keeper

    recipe = load(path)
    run = runs.create(recipe, home)
    log = events.EventLog(run.path / "events.jsonl")
    session.prepare_device(recipe, log)
    dataset = prepare_worker.ingest(recipe.dataset, home)
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
    spent = {"with": [], "inside": 0.0}

    class Toggle(keras.callbacks.Callback):
        """Passes on to the reporter what happens, and clocks the time that takes."""

        on, began = False, 0.0

        def set_model(self, model):
            super().set_model(model)
            reporter.set_model(model)

        def pass_on(self, name, *arguments):
            if self.on:
                begun = time.perf_counter()
                getattr(reporter, name)(*arguments)
                spent["inside"] += time.perf_counter() - begun

        def on_epoch_begin(self, epoch, logs=None):
            self.on = epoch > 0  # the first one traces the graph
            self.began = time.perf_counter()
            self.pass_on("on_epoch_begin", epoch, logs)

        def on_train_batch_end(self, batch, logs=None):
            self.pass_on("on_train_batch_end", batch, logs)

        def on_test_batch_end(self, batch, logs=None):
            self.pass_on("on_test_batch_end", batch, logs)

        def on_epoch_end(self, epoch, logs=None):
            self.pass_on("on_epoch_end", epoch, logs)
            if self.on:
                spent["with"].append(time.perf_counter() - self.began)

    shared = (dataset.labels, len(dataset.classes), recipe)
    bundle.model.fit(
        input_pipeline.training_batches(pixels, split["train"], *shared, 0),
        epochs=stage.epochs,
        steps_per_epoch=steps,
        validation_data=input_pipeline.evaluation_batches(pixels, split["validation"], *shared),
        verbose=0,
        callbacks=[Toggle()],
    )
    # Clocked inside, so that an epoch with them can be taken without them too.
    with_ = statistics.mean(spent["with"])
    inside = spent["inside"] / len(spent["with"])
    return {
        "with": with_,
        "inside": inside,
        "bare": with_ - inside,
        "epochs": len(spent["with"]),
        "bytes": reporter.work.keeper.store.bytes,
    }


if __name__ == "__main__":
    from pathlib import Path

    print(json.dumps(clocked_fit(Path(sys.argv[1]), sys.argv[2])))
