"""What events and an open page cost: a run through the worker while Chromium shows its Train page,
against a bare `fit` on the same batches, with validation and no callbacks; in turns.

Nobody's training host should also run the browser, so Chromium gets idle time only (nice 19, and
the idle scheduling class where `chrt` is there); the processor time of everything is given apart.
"""

import contextlib
import json
import shutil
import statistics
import sys
import time

import numpy as np
import psutil

from benchmarks import common
from engine import jobs
from engine.home import PROJECT
from engine.recipe import load_preset

ROUNDS = 2
EPOCHS = 20
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
    with open_browser(home) as watch:
        for number in range(1 if quick else ROUNDS):
            common.say(f"round {number + 1}: bare fit")
            bare.append(common.python("benchmarks.dashboard", home, path))
            common.say(f"round {number + 1}: worker and page")
            graft.append(watch(jobs.start(recipe, home)))
    return {"rows": rows(bare, graft), "figures": {"bare": bare, "graft": graft}}


def unfrozen(epochs):
    """The preset `sample` with its second stage alone, so many epochs."""
    data = load_preset("sample").to_dict()
    data["stages"] = [data["stages"][1] | {"epochs": epochs}]
    return load_preset("sample").from_dict(data)


@contextlib.contextmanager
def open_browser(home):
    """The server, and Chromium if there is one; gives a function that watches a run to its end."""
    sys.path.append(str(PROJECT / "tests"))
    from browser_support import chromium, server

    with contextlib.ExitStack() as stack:
        address, process = stack.enter_context(server(home, home / "server.log"))
        browser = None
        if chromium():
            browser = stack.enter_context(idle_browser(home, chromium()))
        yield lambda job: watched(job, address, psutil.Process(process.pid), browser)


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


def watched(job, address, server, browser) -> dict:
    """Keeps a run's page open until it ends; returns its figures, and processor seconds of all."""
    worker, page, drawn, samples, helpers, offset = (
        psutil.Process(job.state["pid"]), None, None, [], [], 0
    )  # fmt: skip
    if browser:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        # At idle priority a page may be long in coming; it comes while TensorFlow starts.
        page.goto(f"{address}/train?run={job.id}", wait_until="commit", timeout=120_000)
    while job.status in ("starting", "running"):
        if len(samples) % 10 == 0:  # a look through all processes is not for nothing
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
    return found | {
        "browser": browser.version if browser else None,
        "drawn": drawn,
        "during": during,
    }


def processor_seconds(processes) -> float:
    """User and system seconds so far."""
    total = 0.0
    for process in processes:
        # One of Chromium's helpers may have ended; the worker ends when the run does.
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def rows(bare, graft) -> list:
    stages = [found["stages"][0] for found in graft]
    during = [found["during"] for found in graft]
    seconds = common.mean([d["clock"] for d in during])
    with_page = graft[0]["browser"] is not None
    page = (
        f"Chromium {graft[0]['browser']} with the run's page at idle priority, "
        f"charts drawn {graft[0]['drawn']} times"
        if with_page
        else "no browser found, so the page was not open"
    )
    epochs = len(stages[0]["epoch_seconds"])
    made = [
        common.row(
            f"{epochs} epochs of GraftSmall, page open",
            [b["seconds"] for b in bare],
            [stage["fit_seconds"] for stage in stages],
            "s",
            1.03,
            page,
        ),
        common.row(
            "the same, median epoch",
            [1000 * statistics.median(b["epoch_seconds"]) for b in bare],
            [1000 * statistics.median(stage["epoch_seconds"]) for stage in stages],
            "ms",
            1.03,
            "without the tracing of the first epoch",
        ),
    ]
    made.append(
        common.row(
            "the same, processor seconds of the fit; Graft's with the server",
            [b["processor_seconds"] for b in bare],
            [d["worker"] + d["server"] for d in during],
            "s",
            1.03,
            "tells more than the clock where other things run on the host",
        )
    )
    for kind in ("server", "browser", "worker"):
        if kind == "browser" and not with_page:
            continue
        words = {"server": "the server", "browser": "Chromium", "worker": "the worker"}[kind]
        made.append(
            common.row(
                f"processor seconds of {words} a second of training",
                [],
                [d[kind] / d["clock"] for d in during],
                "s",
                note=f"over {seconds:.0f} s",
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
