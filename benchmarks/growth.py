"""Time and memory of a run with more and more images, beyond what the memory budget holds.

The preset `sample` with one epoch in each stage. Drawing 44,000 pictures would take longer than
everything else. So 1,000 drawings are mirrored, moved and lit in 30 ways, and placed where the
worker looks for the prepared sample.
"""

import io
import subprocess
import sys
import time

import psutil

from benchmarks import common
from engine.home import PROJECT
from engine.jobs import jobs
from engine.recipe import load_preset
from engine.runs import runs

SIZES = (1_000, 3_000, 10_000, 30_000)
QUICK_SIZES = (100, 300)
BUDGET = 192
"""MiB for decoded images: 80% of 3,000 (training and validation) at 96 x 96 x 3 bytes take 63, of
10,000 they take 211, so from there on they are decoded again in every epoch."""
DRAWINGS = 1_000
EVERY = 0.5  # seconds between two readings of the memory


def run(home, quick) -> dict:
    sizes, budget = (QUICK_SIZES, 1) if quick else (SIZES, BUDGET)
    found = []
    for count in sizes:
        common.say(f"{count:,} images: preparing")
        command = [sys.executable, "-m", "benchmarks.growth", str(home), str(count)]
        begun = time.time()
        child = subprocess.Popen(command, cwd=PROJECT, stdout=sys.stderr.fileno())
        preparing = watched(child.pid, lambda child=child: child.poll() is None)
        if child.wait():
            raise RuntimeError(f"{count} images could not be prepared")
        prepared = time.time() - begun
        common.say(f"{count:,} images: training")
        job = jobs.start(recipe(count, budget), home)
        while job.status == "queued":
            time.sleep(0.02)
        pid = job.state["pid"]
        worker = watched(pid, lambda job=job: job.status in runs.ACTIVE)
        found.append(
            common.figures(job)
            | {"images": count, "prepare_seconds": prepared, "preparing": preparing}
            | {"memory": worker}
        )
    return {"rows": rows(found, budget), "figures": {"budget": budget, "runs": found}}


def recipe(count, budget):
    """The preset with this many images, one epoch per stage, and a small budget."""
    sets = [f"dataset.images={count}", f"memory_budget={budget}"]
    return load_preset("sample", [*sets, "stages.0.epochs=1", "stages.1.epochs=1"])


def watched(pid, going) -> dict:
    """The most memory of a process while it is running, in MiB.

    Returns:
        A dict: rss, the system's own high-water mark; uss, what would be free if the process ended,
        with mapped files that no other process maps; anonymous, without files, which the system
        frees when it needs memory.
    """
    peak = {"rss": 0.0, "uss": 0.0, "anonymous": 0.0}
    process = psutil.Process(pid)
    while going():
        try:
            memory = process.memory_full_info()
            now = {
                "rss": status(pid, "VmHWM"),
                "uss": memory.uss,
                "anonymous": status(pid, "RssAnon"),
            }
        except (psutil.NoSuchProcess, psutil.ZombieProcess, FileNotFoundError, ProcessLookupError):
            break  # it ended between two readings
        peak = {kind: max(peak[kind], now[kind] / 2**20) for kind in peak}
        time.sleep(EVERY)
    while going():  # it still writes files after its memory was freed
        time.sleep(0.1)
    return peak


def status(pid, field) -> int:
    """Bytes of a field of /proc/PID/status; 0 once the process has freed its memory."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        line = next((line for line in file if line.startswith(f"{field}:")), f"{field}: 0 kB")
    return int(line.split()[1]) * 1024


def rows(found, budget) -> list:
    least, made = found[0], []
    for each in found:
        memory = each["memory"]
        grown = memory["anonymous"] - least["memory"]["anonymous"]
        fits = each["images"] * 0.8 * 96 * 96 * 3 <= budget * 2**20
        made.append(
            common.row(
                f"run on {each['images']:,} images: peak memory of the worker",
                [least["memory"]["anonymous"]],
                [memory["anonymous"]],
                "MiB",
                f"grows by at most {budget} MiB",
                f"grown by {grown:.0f} MiB (baseline: {least['images']:,} images); with mapped "
                f"files {memory['uss']:,.0f} (USS), {memory['rss']:,.0f} (RSS); the "
                f"{budget} MiB for decoded images {'are enough' if fits else 'are exceeded'}",
            )
        )
    last = found[-1]
    per_image = [1000 * each["seconds"] / each["images"] for each in found]
    made.append(
        common.row(
            f"time of that run per image, {least['images']:,} against {last['images']:,} images",
            [per_image[0]],
            [per_image[-1]],
            "ms",
            note="worker's start to end, 1 epoch per stage: "
            + ", ".join(f"{each['images']:,} in {each['seconds']:.0f} s" for each in found),
        )
    )
    made.append(
        common.row(
            f"preparing them: peak memory, {least['images']:,} against {last['images']:,} images",
            [least["preparing"]["anonymous"]],
            [last["preparing"]["anonymous"]],
            "MiB",
            note=f"{last['images']:,} in {last['prepare_seconds']:.0f} s, with drawing them",
        )
    )
    return made


# -- in a separate process: the dataset -----------------------------------------------------


def prepare(home, count) -> None:
    """Prepares `dataset.images=count` from varied drawings, with Graft's own ingest."""
    from engine.data import prepare_worker
    from engine.data.sources import sample

    def source(spec, home, report):
        total = spec.images
        return prepare_worker.Source(
            "sample", "", list(sample.CLASSES), total, pictures(home, total)
        )

    prepare_worker.SOURCES["sample"] = source
    prepare_worker.ingest(recipe(count, BUDGET).dataset, home)


def pictures(home, count):
    """Yields pictures as a source does, one at a time."""
    import numpy as np
    from PIL import Image

    from engine.data.sources import sample

    for number in range(count):
        label, base, way = number % len(sample.CLASSES), number % DRAWINGS, number // DRAWINGS
        path = home / "drawings" / f"{base}.png"  # drawn once for all sizes
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            sample.render(label, base).save(path, compress_level=1)
        content = path.read_bytes()
        if way:
            values = np.asarray(Image.open(path)).astype(np.int16)
            values = np.roll(values[:, :: -1 if way % 2 else 1], way % 7 - 3, axis=1) + way - 15
            file = io.BytesIO()
            Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(
                file, "PNG", compress_level=1
            )
            content = file.getvalue()
        name = sample.CLASSES[label]
        yield f"{name}/{number:05d}.png", label, "train", 0, lambda content=content: content


if __name__ == "__main__":
    from engine import home as homes

    prepare(homes.home(sys.argv[1]), int(sys.argv[2]))
