"""What browser and page tests share: a live server, Chromium, and runs that a test makes grow."""

import contextlib
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import expect

from engine import load_preset
from engine.host import processes
from engine.runs import events, runs
from tests.support import ROOT

STEPS, EPOCHS = 15, 8

# `urlopen` would keep the proxy that the process had at its first call, here that of a test.
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def chromium() -> str | None:
    """Path of a Chromium or Chrome, or None."""
    names = ("chromium", "google-chrome", "chromium-browser")
    return next((path for name in names if (path := shutil.which(name))), None)


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def server(home, log, *options, script="app.py"):
    """Starts the app on a free port with its own home and Streamlit's options.

    Gives (address, process).
    """
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        script,
        f"--server.port={port}",
        "--server.headless=true",
        "--server.fileWatcherType=none",
        *options,
    ]
    # Tests keep their images in folders of their own.
    allowed = {"GRAFT_ALLOWED_ROOTS": tempfile.gettempdir()}
    environment = allowed | os.environ | {"GRAFT_HOME": str(home)}
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    address = f"http://127.0.0.1:{port}"
    try:
        _await_health(address, process, log)
        yield address, process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def _await_health(address, process, log):
    until = time.monotonic() + 180  # a bound for a busy host, never a measurement
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended at once: {Path(log).read_text(encoding='utf-8')}")
        try:
            with DIRECTLY.open(f"{address}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)  # nothing to wait on: the port is not open yet
    said = Path(log).read_text(encoding="utf-8")
    raise RuntimeError(f"the server did not answer within three minutes: {said}")


class GrowingRun:
    """A run whose worker is the test itself: it is active, and grows when the test says so."""

    def __init__(self, home, name="growing"):
        recipe = load_preset("sample", [f"name={name}"])
        self.run = runs.create(recipe, home)
        self.run.update(status="running", started=time.time(), **processes.identity())
        self.log = events.EventLog(self.run.path / "events.jsonl")
        self.step = 0
        (self.run.path / "worker.log").write_text("the last line of the log\n")
        classes = ["circle", "square", "star", "triangle"]
        stages = [stage.model_dump() for stage in recipe.stages]
        self.log.write("phase", phase="training", text="Stage 1 of 2: frozen", done=0, total=None)
        self.log.write(
            "start",
            classes=classes,
            counts={"train": 450, "validation": 90, "test": 60},
            steps_per_epoch=STEPS,
            total_steps=STEPS * EPOCHS,
            stages=stages,
        )

    def grow(self, steps: int) -> None:
        """Writes the events of `steps` more steps, with the ends of epochs and stages."""
        for _ in range(steps):
            if self.step in (0, 3 * STEPS):
                self._stage()
            self.step += 1
            epoch = (self.step - 1) // STEPS
            stage = int(epoch >= 3)
            loss = 1.4 * math.exp(-self.step / 40) + 0.05 * math.sin(self.step)
            self.log.write(
                "batch",
                stage=stage,
                epoch=epoch - 3 * stage,
                step=self.step,
                loss=loss + 0.1,
                accuracy=1 - loss / 2,
                learning_rate=0.003 if stage == 0 else 0.001,
                images_per_second=900 + 40 * math.sin(self.step),
                left=self._left(),
            )
            if self.step % STEPS == 0:
                self.log.write(
                    "epoch",
                    stage=stage,
                    epoch=epoch - 3 * stage,
                    step=self.step,
                    loss=loss + 0.1,
                    accuracy=1 - loss / 2,
                    val_loss=loss + 0.2,
                    val_accuracy=0.97 - loss / 2,
                    learning_rate=0.001,
                    seconds=3.0,
                    images_per_second=900,
                    left=self._left(),
                )

    def _left(self) -> dict:
        whole = STEPS * EPOCHS
        return {
            "seconds": (whole - self.step) * 0.2 + 20,
            "later": 20.0,
            "finish": 20.0,
            "share": 0.9 * self.step / whole,
            "at_most": False,
        }

    def _stage(self):
        number = int(self.step > 0)
        if number:
            self.log.write(
                "stage_end",
                stage=0,
                name="frozen",
                step=self.step,
                best_val_loss=0.62,
                best_epoch=2,
                helped=True,
                reason="completed",
                text="Stage frozen helped.",
            )
        self.log.write(
            "stage_start",
            stage=number,
            name=["frozen", "unfrozen"][number],
            step=self.step,
            trainable_params=[1028, 98_000][number],
            frozen_params=[97_000, 400][number],
        )

    def fail(self, sentence: str) -> None:
        """Ends the run with an error."""
        self.log.write("end", status="failed", text=sentence, seconds=1.0, kept_stage=None)
        self.run.update(status="failed", error=sentence, ended=time.time())


TRAINING = 120_000  # milliseconds: a bound for a wait, never a measurement


def title(page, name):
    """The page's heading."""
    return page.get_by_role("heading", name=name, exact=True, level=1)


def upload(page, *files: Path):
    """Puts files into the uploader and waits until each is listed."""
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files([str(f) for f in files])
    for file in files:
        expect(page.get_by_text(file.name).first).to_be_visible()


def answered(page, count):
    """Waits for `count` answers; returns the likeliest class of each, sure or not."""
    bars = page.get_by_role("img", name=re.compile("Most likely classes: "))
    expect(bars).to_have_count(count)
    return [bar.get_attribute("aria-label").split(": ", 1)[1].split()[0] for bar in bars.all()]
