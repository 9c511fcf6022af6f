"""The preflight: what a run will take, told before it starts, and compared with what it took.

Light: no TensorFlow. `engine.estimate.preflight_worker` does the measuring, in a process of its own that
`engine.estimate.probes` starts and watches:

    probes.start("preflight", recipe, home)
    result = probes.wait("preflight", recipe, home)
    print(preflight.estimate(recipe, home)["text"])
"""

from pathlib import Path
from statistics import median

import numpy as np

from engine import home as homes
from engine.data import datasets
from engine.errors import GraftError
from engine.estimate import probes
from engine.runs.events import effective

KIND = "preflight"
BUSY = 0.15
"""Share of the processor from which on other work is named."""
FILE = "preflight.json"
"""In a run's folder: what was predicted for it."""


def estimate(recipe, home) -> dict | None:
    """What a probe predicted for a recipe on this host.

    Features that have been computed since the probe are no longer counted.

    Args:
        recipe: a Recipe.
        home: Graft's home.

    Returns:
        See `engine.estimate.preflight_worker.measure`; None if there was no probe.
    """
    found = probes.state(KIND, recipe, home)["result"]
    return found and updated(found, recipe, home)


def updated(found: dict, recipe, home) -> dict:
    """A prediction with the features that are known by now left out of it."""
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


def _missing(row, recipe, home) -> int | None:
    """Records that a stage's store lacks now; None if it cannot be told."""
    folder = Path(home) / "cache" / "features" / row["store"]
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


def attach(run, home) -> None:
    """Copies the prediction for a run's recipe, if there is one, into the run's folder."""
    found = estimate(run.recipe, home) if (Path(home) / "probes").is_dir() else None
    if found:
        homes.write_json(run.path / FILE, found)


def compare(run) -> list[dict]:
    """What was predicted for a run beside what it took.

    Args:
        run: a Run, perhaps still going on.

    Returns:
        Rows for the stages in order and one for the whole, empty if nothing was predicted: stage
        (a name; "total" for the whole), path, actual_path, epochs, actual_epochs, and for each of
        seconds, images_per_second and peak_memory_mb the prediction, under that name, and the
        actual figure, under actual_…; None where there is none (yet).
    """
    found = homes.read_json(run.path / FILE)
    if not found:
        return []
    events = effective(run.events()[0])
    rows = []
    for number, (row, stage) in enumerate(zip(found["stages"], run.recipe.stages, strict=False)):
        own = [e for e in events if e.get("stage") == number]
        begun = next((e for e in own if e["event"] == "stage_start"), {})
        ended = next((e for e in own if e["event"] == "stage_end"), {})
        epochs = [e for e in own if e["event"] == "epoch"]
        # The first epoch also traces the graph, and decodes.
        speeds = [e["images_per_second"] for e in epochs if e.get("images_per_second")]
        seconds = None
        if ended:
            before = (begun.get("seconds") or 0) + (begun.get("conversion_seconds") or 0)
            seconds = ended["seconds"] + before
        rows.append(
            {
                "stage": row["name"],
                "path": row["path"],
                "actual_path": begun.get("path"),
                "epochs": stage.epochs,
                "actual_epochs": len(epochs),
                "seconds": row["seconds"],
                "actual_seconds": seconds,
                "images_per_second": row["images_per_second"],
                "actual_images_per_second": median(speeds[1:] or speeds) if speeds else None,
                "peak_memory_mb": row["host_memory_mb"],
                "actual_peak_memory_mb": ended.get("peak_memory_mb"),
            }
        )
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


# -- words --------------------------------------------------------------------------------------


def sentence(answer: dict, recipe) -> str:
    """A prediction in one sentence."""
    room, peak = memory(answer["available_memory_mb"]), memory(answer["peak_memory_mb"])
    proposed = answer["proposed_batch_size"]
    if proposed is not None:
        text = f"Batches of {recipe.batch_size} would take about {peak}, and {room} are free here; "
        if proposed > 1:
            return f"{text}batches of {proposed} fit."
        return f"{text}take one image at a time, a smaller image_size or a smaller memory_budget."
    # A figure measured beside other work is honest only with these words.
    busy = ""
    if answer["others_share"] > BUSY:
        busy = f" (measured while other work took {answer['others_share']:.0%} of the processor)"
    longest = max(answer["stages"], key=lambda row: row["seconds"])
    return (
        f"About {duration(answer['seconds'])} in all on {answer['device']}{busy}, of which stage "
        f"{longest['name']} takes {duration(longest['seconds'])}; at most about {peak} of the {room} "
        "that are free."
    )


def table(found: dict) -> tuple[list[str], list[list[str]]]:
    """A prediction as (column names, rows of text): the stages, what is around them, the total."""
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
    """What `compare` found as (column names, rows of text), each cell "predicted / actual"."""

    def both(row, name, text):
        if row[name] is None and row["actual_" + name] is None:
            return ""
        return f"{text(row[name])} / {text(row['actual_' + name])}"

    def speed(value):
        return "-" if value is None else f"{value:,.0f}"

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


def duration(seconds: float | None) -> str:
    """Seconds for people: "0.4 s", "8 s", "2 min 05 s", "1 h 12 min"."""
    if seconds is None:
        return "-"
    if seconds < 9.5:
        return f"{seconds:.1f} s" if seconds < 2 else f"{seconds:.0f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def memory(mb: float | None) -> str:
    """MiB for people: "812 MiB", "2.4 GiB"."""
    if mb is None:
        return "-"
    return f"{mb:.0f} MiB" if mb < 1000 else f"{mb / 1024:.1f} GiB"
