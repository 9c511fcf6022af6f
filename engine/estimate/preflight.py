"""The preflight: time and memory of a run, predicted before it starts and compared afterwards.

Light: no TensorFlow. `engine.estimate.preflight_worker` measures, in a separate process that
`engine.estimate.probes` starts and watches:

    probes.start("preflight", recipe, home)
    result = probes.wait("preflight", recipe, home)
    print(preflight.estimate(recipe, home)["text"])
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from engine import home as homes
from engine.data import datasets
from engine.errors import GraftError
from engine.estimate import probes
from engine.host.words import duration, memory, percent
from engine.recipe import Recipe
from engine.runs import files
from engine.runs.events import effective
from engine.runs.runs import Run

KIND = "preflight"
BUSY = 0.15
"""Share of the processor from which other work is mentioned."""


def estimate(recipe: Recipe, home: Path) -> dict | None:
    """The prediction of a probe for a recipe on this host.

    Features that have been computed since the probe are no longer counted.

    Args:
        recipe: the recipe.
        home: Graft's home.

    Returns:
        See `engine.estimate.preflight_worker.measure`; None if there was no probe.
    """
    found = probes.state(KIND, recipe, home)["result"]
    return found and updated(found, recipe, home)


def updated(found: dict, recipe: Recipe, home: Path) -> dict:
    """A prediction without the time for features that have been computed since."""
    stages = []
    for row in found["stages"]:
        missing = _missing(row, recipe, home) if row.get("store") else None
        if missing is not None and missing != row["records_missing"]:
            seconds = missing * row["record_seconds"]
            row = row | {
                "records_missing": missing,
                "feature_seconds": seconds,
                "seconds": row["seconds"] - row["feature_seconds"] + seconds,
            }
        stages.append(row)
    saved = sum(s["seconds"] for s in found["stages"]) - sum(s["seconds"] for s in stages)
    answer = found | {"stages": stages, "seconds": found["seconds"] - saved}
    return answer | {"text": sentence(answer, recipe)}


def _missing(row: dict, recipe: Recipe, home: Path) -> int | None:
    """Records that a stage's store lacks now; None if that is unknown."""
    folder = Path(home) / homes.CACHE / "features" / row["store"]
    try:
        dataset = datasets.open_dataset(recipe.dataset, home)
        split = dataset.split(recipe.split)
        known = np.fromfile(folder / "sums.u32", np.uint32) != 0
        contents = np.load(folder / "contents.npy")
    except FileNotFoundError:  # evicted: all of it will be computed
        return row["records"]
    except GraftError:
        return None
    place = np.searchsorted(contents, np.asarray(dataset.contents, "S64")) * row["slots"]
    train = place[split["train"]][:, None] + np.arange(row["slots"])
    rows = np.unique(np.concatenate([train.ravel(), place[split["validation"]]]))
    return int((~known[rows]).sum()) if rows.max() < len(known) else None


def attach(run: Run, home: Path) -> None:
    """Copies the prediction for a run's recipe, if there is one, into the run's folder."""
    found = estimate(run.recipe, home) if (Path(home) / homes.PROBES).is_dir() else None
    if found:
        homes.write_json(run.path / files.PREFLIGHT, found)


def compare(run: Run) -> list[dict]:
    """What was predicted for a run, and what it took.

    Args:
        run: may still be in progress.

    Returns:
        Rows for the stages in order and one for the whole run, empty if nothing was predicted:
        stage (a name; "total" for the whole), path, actual_path, epochs, actual_epochs, and for
        each of seconds, images_per_second and peak_memory_mb the prediction, under that name, and
        the actual figure, under actual_…; None where there is none (yet).
    """
    found = homes.read_json(run.checked(files.PREFLIGHT))
    if not found:
        return []
    events = effective(run.events()[0])
    pairs = zip(found["stages"], run.recipe.stages, strict=False)
    rows = [
        _compared(row, stage.epochs, [e for e in events if e.get("stage") == number])
        for number, (row, stage) in enumerate(pairs)
    ]
    over = any(e["event"] == "end" for e in events)
    peaks = [r["actual_peak_memory_mb"] for r in rows if r["actual_peak_memory_mb"]]
    total = {
        "stage": "total",
        "path": None,
        "actual_path": None,
        "epochs": sum(r["epochs"] for r in rows),
        "actual_epochs": sum(r["actual_epochs"] for r in rows),
        "seconds": found["seconds"],
        "actual_seconds": run.seconds if over else None,
        "images_per_second": None,
        "actual_images_per_second": None,
        "peak_memory_mb": found["host_memory_mb"],
        "actual_peak_memory_mb": max(peaks) if peaks and over else None,
    }
    return [*rows, total]


def _compared(row: dict, epochs: int, events: list[dict]) -> dict:
    """A row of `compare` for one stage: its prediction and its events."""
    begun = next((e for e in events if e["event"] == "stage_start"), {})
    ended = next((e for e in events if e["event"] == "stage_end"), {})
    done = [e for e in events if e["event"] == "epoch"]
    # The first epoch also includes tracing the graph, and decoding.
    speeds = [e["images_per_second"] for e in done if e.get("images_per_second")]
    seconds = None
    if ended:
        before = (begun.get("seconds") or 0) + (begun.get("conversion_seconds") or 0)
        seconds = ended["seconds"] + before
    return {
        "stage": row["name"],
        "path": row["path"],
        "actual_path": begun.get("path"),
        "epochs": epochs,
        "actual_epochs": len(done),
        "seconds": row["seconds"],
        "actual_seconds": seconds,
        "images_per_second": row["images_per_second"],
        "actual_images_per_second": median(speeds[1:] or speeds) if speeds else None,
        "peak_memory_mb": row["host_memory_mb"],
        "actual_peak_memory_mb": ended.get("peak_memory_mb"),
    }


# -- words --------------------------------------------------------------------------------------


def sentence(answer: dict, recipe: Recipe) -> str:
    """A prediction in one sentence."""
    room, peak = memory(answer["available_memory_mb"]), memory(answer["peak_memory_mb"])
    proposed = answer["proposed_batch_size"]
    if proposed is not None:
        text = f"Batches of {recipe.batch_size} would take about {peak}, and {room} is free here; "
        if proposed > 1:
            return f"{text}batches of {proposed} fit."
        return f"{text}set batch_size to 1, or use a smaller image_size or memory_budget."
    # A figure measured beside other work is misleading without this.
    busy = ""
    if answer["others_share"] > BUSY:
        share = percent(answer["others_share"], 0)
        busy = f" (measured while other work used {share} of the processor)"
    longest = max(answer["stages"], key=lambda row: row["seconds"])
    return (
        f"About {duration(answer['seconds'])} in total on {answer['device']}{busy}; stage "
        f"{longest['name']} takes {duration(longest['seconds'])} of it; peak memory is about "
        f"{peak} of the {room} that is free."
    )


def table(found: dict) -> tuple[list[str], list[list[str]]]:
    """A prediction as (column names, rows of text): the stages, start and finish, the total."""
    rows = [
        [
            row["name"],
            row["path"],
            duration(row["seconds"]),
            f"{row['images_per_second']:,.0f}",
            memory(row["peak_memory_mb"]),
        ]
        for row in found["stages"]
    ]
    around = found["seconds"] - sum(row["seconds"] for row in found["stages"])
    rows.append(["start and finish", "data, model, checks, export", duration(around), "", ""])
    rows.append(["total", "", duration(found["seconds"]), "", memory(found["peak_memory_mb"])])
    return ["stage", "how it runs", "time", "images/s", "peak memory"], rows


def comparison(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Rows of `compare` as (column names, rows of text), each cell "predicted / actual"."""

    def both(row: dict, name: str, text: Callable[[Any], str]) -> str:
        if row[name] is None and row["actual_" + name] is None:
            return ""
        return f"{text(row[name])} / {text(row['actual_' + name])}"

    def speed(value: float | None) -> str:
        return "–" if value is None else f"{value:,.0f}"

    columns = ["predicted / actual", "epochs", "time", "images/s", "peak memory"]
    return columns, [
        [
            row["stage"],
            both(row, "epochs", str),
            both(row, "seconds", duration),
            both(row, "images_per_second", speed),
            both(row, "peak_memory_mb", memory),
        ]
        for row in rows
    ]
