"""What opening the page of a long run costs: reading its log, collecting and drawing four charts.

The baseline reads the same log with `json.loads` line by line; everything else is equal. The log is
artificial: four batch events per second and an epoch per minute, as in a real run.
"""

import json
import math
import statistics
import time

from benchmarks import common
from engine.charts import training
from engine.host.words import plural
from engine.runs import events
from engine.runs.history import History

HOURS = (1, 10)
ROUNDS = 5
A_SECOND, AN_EPOCH = 4, 60
WANTED = "below 2 s"


def run(home, quick) -> dict:
    rows, figures = [], {}
    for hours in HOURS:
        path = home / f"{hours}.jsonl"
        common.say(f"a log of {plural(hours, 'hour')}")
        count = write_log(path, hours / 100 if quick else hours)
        plain, graft = [], []
        for _ in range(ROUNDS):
            plain.append(seconds(path, by_line))
            graft.append(seconds(path, events.read))
        figures[hours] = {"events": count, "bytes": path.stat().st_size}
        figures[hours] |= {"plain": plain, "graft": graft}
        note = f"{count:,} events, {path.stat().st_size / 1e6:.0f} MB"
        whole = [[sum(parts) for parts in each] for each in (plain, graft)]
        rows.append(common.row(f"page data of a {hours}-hour run", *whole, "s", WANTED, note))
    parts = zip(*figures[HOURS[-1]]["graft"], strict=True)
    shares = ", ".join(
        f"{name} {statistics.median(values):.2f} s"
        for name, values in zip(("read", "collect", "draw"), parts, strict=True)
    )
    rows[-1]["note"] += f"; {shares}"
    return {"rows": rows, "figures": figures}


def seconds(path, read) -> tuple[float, float, float]:
    """Seconds of reading, collecting and drawing."""
    ends = [time.perf_counter()]
    found, _ = read(path)
    ends.append(time.perf_counter())
    history = History(found)
    ends.append(time.perf_counter())
    for make in (training.accuracy, training.loss, training.learning_rate, training.throughput):
        make(history).to_json()
    ends.append(time.perf_counter())
    return tuple(after - before for before, after in zip(ends, ends[1:], strict=False))


def by_line(path):
    """The plain way."""
    return [json.loads(line) for line in path.read_bytes().splitlines()], 0


def write_log(path, hours: float) -> int:
    """Writes the log of a run of two stages; returns the number of its events."""
    epochs, each = max(2, round(hours * 3600 / AN_EPOCH)), A_SECOND * AN_EPOCH
    total, count, begun = epochs * each, 0, 1.7e9
    with open(path, "w", encoding="utf-8") as file:

        def write(event, step, **fields):
            nonlocal count
            count += 1
            now = begun + step / A_SECOND
            file.write(json.dumps({"t": now, "event": event, "step": step} | fields) + "\n")

        write("start", 0, steps_per_epoch=each, total_steps=total, stages=[{}, {}])
        for epoch in range(epochs):
            stage = int(epoch >= epochs // 2)
            if epoch in (0, epochs // 2):
                name = ("frozen", "unfrozen")[stage]
                write("stage_start", epoch * each, stage=stage, name=name)
            for step in range(epoch * each + 1, (epoch + 1) * each + 1):
                loss = math.exp(-3 * step / total) + 0.05 * math.sin(step)
                numbers = {"loss": loss, "accuracy": 1 - loss / 3, "learning_rate": 3e-4}
                numbers = {k: float(f"{v:.7g}") for k, v in numbers.items()}
                numbers |= {"images_per_second": 128.0 + step % 7, "stage": stage, "epoch": epoch}
                left = {"seconds": (total - step) / A_SECOND, "later": 20.0, "finish": 20.0}
                left |= {"share": step / total, "at_most": False}
                write("batch", step, **numbers, left=left)
            numbers |= {"val_loss": loss + 0.1, "val_accuracy": 0.9 - loss / 3, "seconds": 60.0}
            write("epoch", step, **numbers)
            if epoch in (epochs // 2 - 1, epochs - 1):
                write("stage_end", step, stage=stage, name=name, reason="completed", text="")
        write("end", total, status="finished", text="")
    return count
