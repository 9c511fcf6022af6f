"""What events, checkpoints and an open page cost the training host.

On a shared host, two runs of the same work differ by more than these costs. So callbacks are timed
inside the fit (all their work is done on its thread, while it waits), and the cost of a page is
measured within one run: a few seconds with its Train page open and a few without, alternating. The
page is open on another computer, as for most users: `benchmarks.viewer` sends the same requests as
a browser. A last run with Chromium on this host shows that the charts are really drawn, and what a
browser on the training host uses. It gets idle time only (nice 19, and the idle scheduling class
where `chrt` exists).
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
EVERY = 0.5  # seconds between two readings of processor times
DRAWN = """[...document.querySelectorAll(".graft-chart")]
    .reduce((sum, box) => sum + Number(box.dataset.drawn || 0), 0)"""
"""How often the page drew its charts: proof that it was alive."""


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
            path.write_text(recipe.to_yaml(), encoding="utf-8")
            common.say(f"{subject}: with and without callbacks")
            events = common.python("benchmarks.dashboard", home, path)
            common.say(f"{subject}: a run with its page open and closed")
            page = toggled(jobs.start(recipe, home), address, process)
            found[subject] = {"events": events, "page": page}
        shown = with_chromium(home, unfrozen(2 if quick else CHROMIUM_EPOCHS), address, process)
    made = [row for subject, figures in found.items() for row in rows(subject, **figures)]
    return {"rows": made + chromium_rows(shown), "figures": found | shown}


def photos(epochs):
    """The preset `flowers` with its second stage only, for this many epochs."""
    data = load_preset("flowers").to_dict()
    data["stages"] = [data["stages"][1] | {"epochs": epochs}]
    return load_preset("flowers").from_dict(data)


def unfrozen(epochs):
    """The preset `sample` with its second stage only, for this many epochs."""
    data = load_preset("sample").to_dict()
    data["stages"] = [data["stages"][1] | {"epochs": epochs}]
    return load_preset("sample").from_dict(data)


@contextlib.contextmanager
def server_of(home):
    """Graft's server; yields its address and process."""
    from tests.support.browser import server

    with server(home, home / "server.log") as (address, process):
        yield address, psutil.Process(process.pid)


def toggled(job, address, server) -> dict:
    """Opens and closes the run's page until the run ends, and compares its pace with and without.

    The pace comes from the batch events: seconds for each image since the event before.
    """
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
    ][5:]  # the first ones wait until the graph is traced
    windows.pop()  # the run ended in it
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
    """A viewer of the run's page while the block lasts; it fills the dict it yields at the end."""
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
    from tests.support.browser import chromium

    if not chromium():
        return {}
    common.say("a shorter run, Chromium on this host")
    with idle_browser(home, chromium()) as browser:
        return {"chromium": watched(jobs.start(recipe, home), process, browser, address)}


@contextlib.contextmanager
def idle_browser(home, executable):
    """A headless Chromium that uses only idle time."""
    from playwright.sync_api import sync_playwright

    chrt = f"{shutil.which('chrt')} --idle 0 " if shutil.which("chrt") else ""
    wrapper = home / "idle-chromium"
    wrapper.write_text(f'#!/bin/sh\nexec {chrt}nice -n 19 "{executable}" "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        for child in psutil.Process().children():
            if child.name() == "node":  # Playwright's driver, which receives all the page receives
                child.nice(19)
        browser = playwright.chromium.launch(executable_path=wrapper, args=options)
        try:
            yield browser
        finally:
            browser.close()


def watched(job, server, browser=None, address="") -> dict:
    """Waits for a run's end, with its page open in a browser if there is one.

    Returns:
        Its figures and the processor seconds of server, worker and browser.
    """
    wait_for(job, "phase")
    worker, page, drawn, samples, helpers, offset = (
        psutil.Process(job.state["pid"]), None, None, [], [], 0
    )  # fmt: skip
    if browser:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        # At idle priority a page may load slowly; it loads while TensorFlow starts.
        page.goto(f"{address}/train?run={job.id}", wait_until="commit", timeout=120_000)
    while job.status in runs.ACTIVE:
        if browser and len(samples) % 10 == 0:  # listing all processes costs time
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
            page.wait_for_timeout(1000 * EVERY)  # lets it handle its events
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
        # One of Chromium's helpers may have ended, and the worker ends with the run.
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def pairs(windows) -> tuple[list, list]:
    """Median seconds (without, with) of neighbouring windows, as two lists of equal length."""
    medians = [(is_on, statistics.median(seconds)) for is_on, seconds in windows if seconds]
    without, with_ = [], []
    for (is_on, one), (_, other) in zip(medians, medians[1:], strict=False):
        with_.append(one if is_on else other)
        without.append(other if is_on else one)
    return without, with_


def ratio(without, with_) -> float:
    """Median of the ratios of neighbours: both contain the load of other processes at that time."""
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
            f"an epoch without them, and with the time spent in them, {inside:.1%} "
            f"(timed; {events['epochs']} epochs, {events['bytes'] / 2**20:.0f} MiB a checkpoint)",
            1 + events["inside"] / events["bare"],
        ),
        common.row(
            f"{subject}: Train page open",
            [1000 * statistics.median(other[0])],
            [1000 * statistics.median(other[1])],
            "ms",
            1.03,
            f"per image; median of {len(single)} ratios of neighbouring windows of {WINDOW:.0f} s, "
            f"quartiles {quartiles[0]:.3f} to {quartiles[2]:.3f}; the server uses {server:.3f} "
            f"of a core, {view['reruns'] / view['seconds']:.1f} requests per second",
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
            "processor seconds per second of Chromium on the training host",
            [],
            [found["during"]["browser"] / seconds],
            "s",
            note=f"Chromium {found['browser']} at idle priority, {seconds:.0f} s, charts drawn "
            f"{found['drawn']} times; not part of the rows above",
        )
    ]


# -- in a separate process: a fit whose callbacks are timed ------------------------------------


def timed_fit(home, path) -> dict:
    """A stage's fit as in the worker, with the time of its callbacks."""
    common.use_worker_environment()
    import keras

    from engine.data import prepare_worker
    from engine.models import modeling, optimizers, session
    from engine.recipe import load
    from engine.runs import events, runs
    from engine.train import input_pipeline, stages
    from engine.train.progress import Progress
    from engine.train.resume import Keeper
    from engine.train.work import Work

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
    keeper = Keeper(run.path, home)
    work = Work(recipe, bundle, dataset, pixels, split, home, log, lambda: "", None, keeper)
    stage = recipe.stages[0]
    modeling.apply_stage(bundle, stage)
    optimizers.compile_(bundle.model, stage, work.steps, recipe.head.label_smoothing)
    callbacks = stages.callbacks(work, Progress(0, 0), float("inf"))
    spent = {"with": [], "inside": 0.0}

    class Toggle(keras.callbacks.Callback):
        """Calls the callbacks, and measures the time they take."""

        on, began = False, 0.0

        def set_model(self, model):
            super().set_model(model)
            for callback in callbacks:
                callback.set_model(model)

        def pass_on(self, name, *arguments):
            if self.on:
                begun = time.perf_counter()
                for callback in callbacks:
                    getattr(callback, name)(*arguments)
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

    shared = (dataset.labels, len(dataset.classes))
    measured = input_pipeline.Examples(pixels, split["validation"], *shared)
    bundle.model.fit(
        input_pipeline.training_batches(
            input_pipeline.Examples(pixels, split["train"], *shared), recipe, 0
        ),
        epochs=stage.epochs,
        steps_per_epoch=work.steps,
        validation_data=input_pipeline.evaluation_batches(measured, recipe),
        verbose=0,
        callbacks=[Toggle()],
    )
    # Timed inside, so that an epoch without them is known too.
    with_ = statistics.mean(spent["with"])
    inside = spent["inside"] / len(spent["with"])
    return {
        "with": with_,
        "inside": inside,
        "bare": with_ - inside,
        "epochs": len(spent["with"]),
        "bytes": keeper.store.bytes,
    }


if __name__ == "__main__":
    from pathlib import Path

    print(json.dumps(timed_fit(Path(sys.argv[1]), sys.argv[2])))
