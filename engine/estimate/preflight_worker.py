"""What a run of a recipe takes on this host: time, memory and speed, measured in a short probe.

Heavy: imports TensorFlow; `engine.host.background_worker` runs it in a separate process. It does
what `engine.train.training` does, with the real dataset and the real model, and times a little of
each part. A prepared dataset, a converted network and computed features are kept for the launch.
`engine.estimate.preflight` is the light side, for pages and the CLI.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import psutil

from engine.data import datasets, prepare_worker
from engine.estimate import memory, trial_steps
from engine.estimate.preflight import sentence
from engine.features import cache, compute
from engine.features import store as features
from engine.features.pixels import Pixels
from engine.host import device
from engine.host.background import Report
from engine.host.log import Silent
from engine.host.parallel import ordered_map
from engine.images import decode as images
from engine.models import boundary, convert, litert, modeling, session
from engine.predict import reference
from engine.recipe import Recipe
from engine.train import keep

VERSION = 1
IMAGES = 32
"""Real images that are decoded and classified for a measurement."""
PASS_SECONDS = 2
"""About how long the trial of the feature pass takes."""
KERAS_AGAINST_LITERT = 5
"""How many times as long a forward pass takes in TensorFlow as in LiteRT on a CPU, measured on
MobileNetV2 0.35."""


@dataclass
class Setting:
    """What all stages of a recipe share: see `engine.train.training.train` for the names.

    Attributes:
        room: MiB that a run may take of the memory that holds batches.
        decode: seconds to decode and resize an image, with all cores.
        used: number of images in the training and validation parts.
    """

    recipe: Recipe
    home: Path
    dataset: datasets.Dataset
    split: dict[str, np.ndarray]
    bundle: modeling.Bundle
    pixels: Pixels
    room: float
    decode: float
    used: int


class Progress:
    """Counts finished parts; how long they take differs too much to predict the rest from them.

    Args:
        report: shows progress.
        total: number of parts.
    """

    def __init__(self, report: Report, total: int):
        self.report, self._total, self._done = report, total, 0

    def __call__(self, text: str) -> None:
        """A part starts, so the one before it is done."""
        self.report(text, self._done, self._total)
        self._done = min(self._done + 1, self._total)

    def features(
        self, phase: str, text: str, done: int, total: int | None, always: bool = False
    ) -> None:
        """Shows the feature pass, within a part."""
        self.report(text, self._done, self._total)


def measure(
    recipe: Recipe, home: Path, stage: int, report: Report, available_mb: float | None = None
) -> dict:
    """Measures a recipe on this host.

    Args:
        recipe: a Recipe.
        home: Graft's home.
        stage: not used; other kinds of probes measure one stage.
        report: shows progress.
        available_mb: MiB that a run may take; None asks the system.

    Returns:
        Plain data: version; device, a line for people; startup_seconds (TensorFlow, opening the
        dataset, building the model); stages, dicts of name, path ("cached features" or "whole
        network"), feature_seconds, conversion_seconds, decode_seconds, check_seconds,
        records_missing, setup_seconds, step_seconds, epoch_seconds, seconds (all epochs with
        validation, and everything before but check_seconds), images_per_second, peak_memory_mb (the
        most until this stage's end) and host_memory_mb (the same for the host's memory, which
        differs if there is a GPU); finish, seconds of each part after training
        (`engine.runs.remaining.FINISHING`), and their sum finish_seconds; seconds in total;
        peak_memory_mb and host_memory_mb of the whole; available_memory_mb; proposed_batch_size, an
        int if the recipe's own needs too much memory, else None; others_share, the share of the
        processor's time that other processes took meanwhile, 0 to 1; text, one sentence. Seconds
        are those of a launch after this probe.

    Raises:
        GraftError: what a launch would fail with: an unreadable dataset, missing weights.
    """
    home, begun = Path(home), psutil.Process().create_time()
    others = _Others()
    progress = Progress(report, 3 + 2 * len(recipe.stages))
    progress("Opening the dataset")
    session.prepare_device(recipe, Silent())
    ready = datasets.state(recipe.dataset, home)["state"] == "ready"
    opening = time.time()
    dataset = prepare_worker.ingest(recipe.dataset, home, report)
    extra = 0 if ready else time.time() - opening
    split = dataset.split(recipe.split)
    progress(f"Building {recipe.backbone.title}")
    bundle = modeling.build(recipe, list(dataset.classes), home)
    startup = time.time() - begun - extra

    used = np.concatenate([split["train"], split["validation"]])
    pixels = Pixels(dataset, used, recipe.image_size, recipe.resize, 0)
    few = used[:: max(1, len(used) // IMAGES)][:IMAGES]
    decode = _seconds(lambda: pixels.get(few)) / len(few)
    room = memory.available_mb() if available_mb is None else available_mb
    setting = Setting(recipe, home, dataset, split, bundle, pixels, room, decode, len(used))
    found, proposals = _stages(setting, progress)
    progress("Trying the export")
    finish = _finish(setting, found)
    finished = sum(finish.values())
    peak = max(row["peak_memory_mb"] for row in found)
    answer = {
        "version": VERSION,
        "device": device.describe()["text"],
        "startup_seconds": startup,
        "stages": found,
        "finish_seconds": finished,
        "finish": finish,
        "seconds": startup + finished + sum(s["seconds"] + s["check_seconds"] for s in found),
        "peak_memory_mb": peak,
        "host_memory_mb": max(row["host_memory_mb"] for row in found),
        "available_memory_mb": room,
        "proposed_batch_size": min(proposals, default=None),
        "others_share": others.share(),
    }
    for row in found:
        row.pop("trial", None)
    return answer | {"text": sentence(answer, recipe)}


class _Others:
    """The share of the processor that other processes take from now on."""

    def __init__(self):
        self._begun = self._now()

    @staticmethod
    def _now() -> np.ndarray:
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        idle = times.idle + getattr(times, "iowait", 0)
        return np.array([sum(times[:8]), idle, own.user + own.system])

    def share(self) -> float:
        whole, idle, own = self._now() - self._begun
        return float(np.clip((whole - idle - own) / max(whole, 1e-9), 0, 1))


def _seconds(function: Callable[[], object]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def _stages(setting: Setting, progress: Progress) -> tuple[list[dict], list[int]]:
    """(a dict for each stage, the batch sizes proposed by those that need too much memory)."""
    recipe, bundle = setting.recipe, setting.bundle
    weights = bundle.model.get_weights()
    trained: set[int] = set()  # variables that earlier stages change
    whole = [bool(features.why_not(recipe, s.trainable)) for s in recipe.stages]
    decoded_bytes = setting.used * recipe.image_size**2 * 3
    keeps = decoded_bytes <= recipe.memory_budget * 2**20
    undecoded = setting.used
    found: list[dict] = []
    proposals = []
    for number, stage in enumerate(recipe.stages):
        progress(f"Stage {stage.name}: its frozen part")
        modeling.apply_stage(bundle, stage)
        cached, row = None, _no_features()
        if not whole[number]:
            cached, row = _features(setting, number, trained, progress.features)
        if cached and keeps and any(whole[number + 1 :]):
            undecoded = max(0, undecoded - math.ceil(row["records_missing"] / row["slots"]))
        elif not cached and keeps:
            row["decode_seconds"], undecoded = undecoded * setting.decode, 0
        progress(f"Stage {stage.name}: trying steps")
        # What a run holds beside the probe's own memory: decoded pixels, and the best weights so
        # far. Encoded images and features are mapped from files, and count as resident.
        held = 4 * bundle.model.count_params()
        held += decoded_bytes * (keeps and undecoded < setting.used)
        mapped = row.pop("bytes", 0) + _mapped_bytes(setting)
        steps = trial_steps.Trial(
            bundle, recipe, number, setting.split, setting.dataset.labels, cached
        )
        row |= trial_steps.measure(steps, setting.room, held / 2**20)
        if cached:
            cached.close()
        trained |= {id(v) for v in bundle.model.trainable_variables}
        trained |= {id(v) for v in bundle.model.non_trainable_variables if _moves(v, bundle)}
        bundle.model.set_weights(weights)
        if not keeps and not cached:
            # Decoding runs beside a GPU's steps, and shares a CPU's cores with them.
            beside = row["epoch_seconds"] if memory.on_gpu() else 0
            row["epoch_seconds"] += max(0, setting.used * setting.decode - beside)
        row |= {
            "name": stage.name,
            "path": "cached features" if cached else "whole network",
            "seconds": _stage_seconds(row, stage.epochs),
        }
        row["host_memory_mb"] += (held + mapped) / 2**20
        if not memory.on_gpu():
            row["peak_memory_mb"] = row["host_memory_mb"]
        for name in ("peak_memory_mb", "host_memory_mb"):
            # A process' peak never falls, and a run reports it at the end of each stage.
            row[name] = max([row[name], *(before[name] for before in found)])
        proposed = row.pop("proposed_batch_size")
        proposals += [proposed] * (proposed is not None)
        found.append(row)
    return found, proposals


def _stage_seconds(row: dict, epochs: int) -> float:
    """Seconds of a stage, with all epochs and everything before them."""
    before = ("feature_seconds", "conversion_seconds", "decode_seconds", "setup_seconds")
    return sum(row[name] for name in before) + epochs * row["epoch_seconds"]


def _mapped_bytes(setting: Setting) -> int:
    """Bytes of the encoded images of the training and validation parts that are mapped."""
    packed = setting.dataset.path / "images.bin"
    share = setting.used / max(1, len(setting.dataset))
    return int(packed.stat().st_size * share) if packed.exists() else 0


def _moves(variable: keras.Variable, bundle: modeling.Bundle) -> bool:
    """Whether a variable that is not trained changes in the current stage: a moving statistic of
    updating batch normalization."""
    return any(
        variable is v
        for layer in modeling.leaf_layers(bundle.model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        for v in layer.non_trainable_variables
    )


# -- the frozen part ----------------------------------------------------------------------------


def _no_features() -> dict:
    names = ("feature_seconds", "conversion_seconds", "decode_seconds", "check_seconds")
    return dict.fromkeys(names, 0.0) | {"records_missing": 0}


def _features(
    setting: Setting, number: int, trained: set[int], report: Callable
) -> tuple[compute.Cached | None, dict]:
    """Tries the feature pass of a stage on images whose features are not known yet.

    Returns:
        (features to take steps on, their part of the stage's row), or (None, the row of a stage
        without features) where the run will use the whole network after all.
    """
    recipe, dataset, split, home = setting.recipe, setting.dataset, setting.split, setting.home

    def prepare(chosen):
        part = {"train": np.asarray(chosen, np.int64), "validation": np.zeros(0, np.int64)}
        images = compute.Images(dataset, setting.pixels, part, keep=False)
        return compute.prepare(setting.bundle, recipe, number, images, home, report)[0]

    cached = prepare(split["train"][: compute.PROBE_IMAGES])  # converts, if nobody has yet
    if cached is None:
        return None, _no_features()
    store, first = cached.store, cached.facts
    rows = compute.rows_needed(dataset, split, store.views)
    if 4 * store.width * len(rows) > cache.limit(home):
        cached.close()
        return None, _no_features()
    store.borrow(rows)
    missing = rows[~store.known(rows)]
    lacking = np.unique(missing // store.views)
    place = store.rows(dataset.contents) // store.views
    wanted = split["train"][np.isin(place[split["train"]], lacking)]
    # Where the first were known and nothing was timed, 20 a second is a guess to choose how many.
    pace = first["seconds"] / first["computed"] if first["computed"] else 0.05
    count = int(np.clip(PASS_SECONDS / (pace * store.views), 8, 256))
    cached.close()
    begun = time.perf_counter()
    # The same again: its conversion is kept now, so this is what a launch finds.
    cached = prepare(wanted[:count] if len(wanted) else split["train"][: compute.PROBE_IMAGES])
    if cached is None:
        return None, _no_features()
    facts = cached.facts
    spent = time.perf_counter() - begun
    rest = len(missing) - facts["computed"]
    each = facts["seconds"] / facts["computed"] if facts["computed"] else pace
    # Without a measured pace, nothing is known about what an eviction costs in seconds.
    name = store.path.name if facts["computed"] else None
    conversion = facts["conversion_seconds"]
    made = first["conversion_seconds"] - conversion
    part = boundary.cut(setting.bundle)
    assert part is not None  # its features were just computed
    if trained & {id(v) for v in part.prefix.weights}:
        # An earlier stage changes what is frozen here, so no known features can be used.
        rest, name = len(rows), None
        if facts["runtime"].startswith("LiteRT"):
            conversion += made if made > 1 else _conversion(part.prefix)
    row = _no_features() | {
        "feature_seconds": rest * each,
        "conversion_seconds": conversion,
        "check_seconds": max(0.0, spent - facts["seconds"] - facts["conversion_seconds"]),
        "records_missing": int(rest),
        # For `engine.estimate.preflight.updated`, which counts again.
        "store": name,
        "slots": store.views,
        "records": len(rows),
        "record_seconds": each,
        "bytes": 4 * store.width * len(rows),
    }
    if recipe.stages[number].trainable == "none" and facts["runtime"].startswith("LiteRT"):
        row["trial"] = {"made": made, "each": each * bool(facts["computed"])}  # see `_finish`
    return cached, row


def _conversion(model: keras.Model) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return _seconds(lambda: convert.to_litert(model, Path(folder) / "network.tflite"))


# -- the end of a run ---------------------------------------------------------------------------


def _finish(setting: Setting, found: list[dict]) -> dict[str, float]:
    """Seconds of the parts after training (`engine.runs.remaining.FINISHING`).

    Export is one conversion and a saved file. Evaluation sends the test and validation images
    through LiteRT, the reference some of the training images. The check sends 64 validation images
    through LiteRT and through two Keras models that are traced first. If the probe converted and
    ran the whole backbone for features, the estimate follows from that; otherwise a real export is
    made and tried on a few images.
    """
    bundle, recipe, dataset, split = (
        setting.bundle, setting.recipe, setting.dataset, setting.split,
    )  # fmt: skip
    trial: dict = next((row["trial"] for row in found if "trial" in row), {})
    each, exporting = trial.get("each", 0), trial.get("made", 0)
    if not each or exporting < 1:
        modeling.restore_dropout(bundle)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            exporting = _seconds(lambda: keep.write(keep.in_float32(bundle, recipe.head), path))
            network = litert.Network(path / "inference.tflite")
            size, resize = recipe.image_size, recipe.resize
            few = split["train"][:IMAGES].tolist()

            def answer(index):
                return network(images.load(dataset.image_bytes(index), size, resize))

            begun = time.perf_counter()
            count = len(list(ordered_map(answer, few, network.threads)))
            each = (time.perf_counter() - begun) / count
    checked = min(64, len(split["validation"]))
    whole = [row for row in found if row["path"] == "whole network"]
    forward = min((row["validation_image_seconds"] for row in whole), default=0)
    tracing = max(row["validation_setup_seconds"] for row in found)
    check = checked * each + 2 * (tracing + checked * (forward or KERAS_AGAINST_LITERT * each))
    return {
        "export": exporting,
        "evaluation": (len(split["test"]) + len(split["validation"])) * each,
        "reference": min(len(split["train"]), reference.MOST["train"]) * each,
        "check": check,
    }
