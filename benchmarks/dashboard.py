"""What events and an open page cost the training host: a run through the worker with its Train page
open, against a bare `fit` on the same batches, with validation and no callbacks; in turns.

The page is open on another computer, as it is for people: `benchmarks.viewer` asks the server for all
that a browser asks for. A last round with Chromium on this very host shows that what is asked for is
drawn, and what a browser on the training host takes beside: it is idle time only (nice 19, and the
idle scheduling class where `chrt` is there), but on two cores idle time is hard to come by.
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
from engine import jobs
from engine.home import PROJECT
from engine.recipe import load_preset

ROUNDS = 3
EPOCHS = 40
CHROMIUM_EPOCHS = 15
EVERY = 0.5  # seconds between two looks at processor times
DRAWN = """[...document.querySelectorAll(".graft-chart")]
    .reduce((sum, box) => sum + Number(box.dataset.drawn || 0), 0)"""
"""How often the charts of the page were drawn: the proof that it was alive."""


def run(home, quick) -> dict:
    recipe = unfrozen(2 if quick else EPOCHS)
    common.prepared(recipe, home)
    path = home / "bare.yaml"
    path.write_text(recipe.to_yaml())
    bare, graft = [], []
    with server_of(home) as (address, process):
        for number in range(1 if quick else ROUNDS):
            common.say(f"round {number + 1}: bare fit")
            bare.append(common.python("benchmarks.dashboard", home, path))
            common.say(f"round {number + 1}: worker and page")
            job = jobs.start(recipe, home)
            with distant_page(address, job) as viewer:
                graft.append(watched(job, process))
            graft[-1]["page"] = viewer
        shown = with_chromium(home, unfrozen(2 if quick else CHROMIUM_EPOCHS), address, process)
    return {"rows": rows(bare, graft, shown), "figures": {"bare": bare, "graft": graft} | shown}


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
    worker, page, drawn, samples, helpers, offset = (
        psutil.Process(job.state["pid"]), None, None, [], [], 0
    )  # fmt: skip
    if browser:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        # At idle priority a page may be long in coming; it comes while TensorFlow starts.
        page.goto(f"{address}/train?run={job.id}", wait_until="commit", timeout=120_000)
    while job.status in ("starting", "running"):
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


def rows(bare, graft, shown) -> list:
    stages = [found["stages"][0] for found in graft]
    during = [found["during"] for found in graft]
    epochs = len(stages[0]["epoch_seconds"])
    page = graft[0]["page"]
    made = [
        common.row(
            f"{epochs} epochs of GraftSmall, page open",
            [b["seconds"] for b in bare],
            [stage["fit_seconds"] for stage in stages],
            "s",
            1.03,
            f"the page asked for {page['reruns']} times in {page['seconds']:.0f} s, "
            f"{page['bytes'] / 2**20:.1f} MiB sent",
        ),
        common.row(
            "the same, median epoch",
            [1000 * statistics.median(b["epoch_seconds"]) for b in bare],
            [1000 * statistics.median(stage["epoch_seconds"]) for stage in stages],
            "ms",
            1.03,
            "without the tracing of the first epoch",
        ),
        common.row(
            "the same, processor seconds of the fit; Graft's with the server",
            [b["processor_seconds"] for b in bare],
            [d["worker"] + d["server"] for d in during],
            "s",
            1.03,
            "tells more than the clock where other things run on the host",
        ),
        common.row(
            "processor seconds of the server a second of training",
            [],
            [d["server"] / d["clock"] for d in during],
            "s",
        ),
    ]
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


# -- in a process of its own: the bare fit ----------------------------------------------------


def bare_fit(home, path) -> dict:
    """The same stage without Graft's callbacks: batches, network, compilation are the worker's."""
    common.use_worker_environment()
    import keras

    from engine import events, ingest, input_pipeline, modeling, training
    from engine.recipe import load

    recipe = load(path)
    training.prepare_device(recipe, events.EventLog(f"{path}.events"))
    dataset = ingest.ingest(recipe.dataset, home)
    split = dataset.split(recipe.split)
    bundle = modeling.build(recipe, list(dataset.classes), home)
    both = np.concatenate([split["train"], split["validation"]])
    pixels = input_pipeline.Pixels(
        dataset, both, recipe.image_size, recipe.resize, recipe.memory_budget
    )
    stage, steps = recipe.stages[0], -(-len(split["train"]) // recipe.batch_size)
    modeling.apply_stage(bundle, stage)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.head.label_smoothing)
    accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    bundle.model.compile(
        modeling.optimizer(stage, steps), loss, metrics=[accuracy], jit_compile=False
    )
    shared = (dataset.labels, len(dataset.classes), recipe)
    data = input_pipeline.training_batches(pixels, split["train"], *shared, 0)
    validation = input_pipeline.evaluation_batches(pixels, split["validation"], *shared)
    ends, used = [], psutil.Process().cpu_times()
    begun = time.time()
    bundle.model.fit(
        data,
        epochs=stage.epochs,
        steps_per_epoch=steps,
        validation_data=validation,
        verbose=0,
        # Nothing but a look at the clock after each epoch.
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.time()))
        ],
    )
    seconds, now = time.time() - begun, psutil.Process().cpu_times()
    return {
        "seconds": seconds,
        "epoch_seconds": np.diff([begun, *ends]).tolist(),
        "processor_seconds": now.user + now.system - used.user - used.system,
    }


if __name__ == "__main__":
    from pathlib import Path

    print(json.dumps(bare_fit(Path(sys.argv[1]), sys.argv[2])))
