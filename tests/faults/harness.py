"""Runs one recipe many times, interrupts it, and compares the results.

The recipe is small, but has everything a resume can get wrong: two stages (one on cached features),
dropout and augmentation (seed generators), a schedule (step count), Adam (moments), batch norm in
update mode (moving statistics), early stopping (counters).
"""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine import home as homes
from engine.jobs import executors, jobs
from engine.recipe import load_preset
from engine.runs import queue

LONG = os.environ.get("GRAFT_FAULTS_FORM") == "long"
long_form = pytest.mark.skipif(
    not LONG, reason="part of make faults; what it shows of decisions has tests without a run"
)
INJECT = Path(__file__).parent / "inject"
RECIPE = [
    "name=interrupted",
    "dataset.images=160",
    "batch_size=16",
    "augmentation={flip: horizontal, rotation: 10}",
    "cached_views=2",
    "head.dropout=0.3",
    "stages.0.epochs=3",
    "stages.0.early_stopping=5",
    "stages.1.epochs=3",
    "stages.1.batch_norm=update",
    "stages.1.schedule=cosine",
    "stages.1.optimizer=adamw",
    "stages.1.early_stopping=5",
]


def recipe():
    """The recipe that is interrupted."""
    return load_preset("sample", RECIPE)


@contextlib.contextmanager
def faults(home, **wanted):
    """Environment for workers that do themselves harm; see inject/sitecustomize.py."""
    end_all(home)  # a supervisor of before would hand on its own environment
    path = Path(home) / "faults.json"
    homes.write_json(path, wanted)
    changed = {
        "GRAFT_FAULTS": str(path),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(INJECT), os.environ.get("PYTHONPATH")])),
        "GRAFT_CHECKPOINT_SECONDS": "0.05",
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield lambda **now: homes.write_json(path, now)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        end_all(home)


def end_all(home) -> None:
    """Ends supervisor and workers of a home: the next one gets this process' environment."""
    for process in supervisors(home):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(10)
    for slot in queue.slots(home):
        executors.end(slot["handle"])
    release_dead(home)


def release_dead(home) -> None:
    """Frees the places of workers that have ended."""
    for slot in queue.slots(home):
        if not executors.alive(slot["handle"]):
            queue.release(home, slot["run"], slot["handle"])


def supervisors(home) -> list:
    """Living supervisors of a home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "engine.jobs.supervisor" in line and str(home) in line:
            found.append(process)
    return found


def workers(home) -> list:
    """Living workers of a home's runs, zombies left out."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        inside = any(part.startswith(str(Path(home) / "runs")) for part in line)
        if (
            "engine.jobs.worker" in line
            and inside
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ):
            found.append(process)
    return found


def until(condition, seconds=120, every=0.02):
    """Waits for a condition; AssertionError if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(every)


def kill_worker(run) -> None:
    """kill -9 of the whole session of a run's worker."""
    holder = queue.holder(run.home, run.id)
    if holder and executors.alive(holder):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(holder.token["pid"], signal.SIGKILL)


def weights(run) -> list[np.ndarray]:
    """The weights of a finished run's model, read without TensorFlow: final.keras holds HDF5."""
    import io
    import zipfile

    import h5py

    with zipfile.ZipFile(run.path / "final.keras") as archive:
        content = archive.read("model.weights.h5")
    found = []
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(
            lambda name, item: found.append((name, item[()])) if hasattr(item, "shape") else None
        )
    return [value for _, value in sorted(found, key=lambda pair: pair[0])]


def same_weights(one, other) -> bool:
    """Whether two runs ended with the same weights, bit for bit."""
    pairs = list(zip(weights(one), weights(other), strict=True))
    return bool(pairs) and all(np.array_equal(a, b) for a, b in pairs)


def epochs(run) -> list[tuple]:
    """What counts of a run's epochs: (stage, epoch, step, losses and accuracies)."""
    from engine.runs import events

    return [
        tuple(
            e[k] for k in ("stage", "epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy")
        )
        for e in events.effective(run.events()[0])
        if e["event"] == "epoch"
    ]


def whole_lines(run) -> list[bytes]:
    """The lines of a run's log that are whole."""
    path = run.path / "events.jsonl"
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1].splitlines()


def broken_run(home, tell, kills: int, seed: int, in_write: float = 0.25) -> dict:
    """Runs the recipe and kills its worker `kills` times at random moments.

    Args:
        home: of the runs, inside `faults`.
        tell: what `faults` gave.
        kills: how many.
        in_write: share of kills inside the write of a checkpoint.

    Returns:
        A dict: run; kills; in_write, how many of them inside a write; lost, lines that a kill took
        from the log although they were whole.
    """
    dice, done, inside, lost = random.Random(seed), 0, 0, 0
    run = jobs.start(recipe(), home)
    while True:
        writing = done < kills and dice.random() < in_write
        tell(**({"in_write": dice.randint(1, 40)} if writing else {}))
        lines = whole_lines(run)
        if done < kills and not writing:
            lines = _kill_at_random(run, dice)
        jobs.wait(run)
        after = whole_lines(run)
        lost += after[: len(lines)] != lines
        if run.status == "finished":
            break
        assert run.status == "interrupted", f"{run.status}: {run.error}\n{run.log_tail()}"
        done += 1
        inside += writing
        if done >= kills:
            tell()
        jobs.resume(run)
    return {"run": run, "kills": done, "in_write": inside, "lost": lost}


def _kill_at_random(run, dice) -> list[bytes]:
    """Kills a worker while it starts (one time in six) or in its first 5 seconds of training.

    Returns the complete lines of its log just before.
    """
    begun = len(run.events()[0])

    def trains():
        news = run.events()[0][begun:]
        trains = any(e["event"] == "phase" and e["phase"] == "training" for e in news)
        return trains or run.status not in ("queued", "starting", "running")

    if dice.random() > 1 / 6:
        until(trains)
    time.sleep(dice.uniform(0, 5))
    lines = whole_lines(run)
    kill_worker(run)
    return lines


def observed(fault: str, **facts) -> None:
    """Prints what was observed, and appends it to the file that GRAFT_FAULTS_REPORT names."""
    line = json.dumps({"fault": fault} | facts)
    print(line)
    if path := os.environ.get("GRAFT_FAULTS_REPORT"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
