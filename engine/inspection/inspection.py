"""The inspection of a dataset: what its pixels and a backbone say of each image, and how far it is.

Light. A process of its own (`engine.inspection.worker`) does the work; its results are kept by the dataset's
content, so that opening them again is instant and a copy of the dataset elsewhere has them too:

    GRAFT_HOME/inspections/FINGERPRINT/
        pixels.npz          brightness, contrast, sharpness, entropy, phash, groups; one row an image
        features-KEY.npz    what a backbone's features say (`engine.inspection.suspects`); KEY: which backbone
        thumbs.sqlite       thumbnails by content (`engine.images.thumbnails`)
        report.json         times, counts, versions
        progress.json       the inspection under way, or the sentence it ended with

Decisions about single images (overlays) change nothing here: rows are those of the dataset without.
"""

import contextlib
import json
import time
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import filelock
import numpy as np

from engine import home as homes
from engine.data import datasets
from engine.data.unreadable import READING
from engine.errors import DamagedFile, DatasetError
from engine.host import processes
from engine.images import thumbnails
from engine.jobs import jobs

LOG = "inspection.log"
STAGES = {
    "pixels": "Looking at the images",
    "duplicates": "Looking for copies",
    "features": "Asking the backbone",
    "suspects": "Looking for wrong labels and outliers",
}
"""The stages of an inspection, in order; the last two only with a recipe."""
PIXELS = ("brightness", "contrast", "sharpness", "entropy", "phash", "groups")


@dataclass(frozen=True)
class Inspection:
    """What is known of a dataset's images; each array has a row for each image of the dataset without
    overlay (`Dataset.rows` leads there), and must not be changed.

    Attributes:
        source_fingerprint: of the dataset.
        pixels: dict of arrays (n,): brightness (mean luma, 0 to 255), contrast (its standard
            deviation), sharpness (variance of the Laplacian), entropy (bits), each not a number for an
            image that could not be read any more; phash (uint64); groups (int32, the number of the
            group of copies that an image belongs to, or -1).
        labels: int64 array (n,), indices into the classes without overlay.
        features: dict of what `engine.inspection.suspects.analyse` found with the recipe's backbone, or None.
        report: times, counts and versions.
        key: changes when any of it does.
    """

    source_fingerprint: str
    pixels: dict
    labels: np.ndarray
    features: dict | None
    report: dict = field(default_factory=dict)
    key: str = ""


def state(spec, home, recipe=None) -> dict:
    """How far an inspection is.

    Args:
        spec: a DatasetSpec; its overlay does not matter.
        home: Graft's home.
        recipe: whose backbone is asked for suspects; None: the pixels alone matter.

    Returns:
        A dict: state "missing", "running", "done" or "failed"; stage, one of `STAGES`, or None; done
        and total (None while unknown) of the stage; eta_seconds of the stage (or None); text, one line;
        error, one sentence or None. While one runs for another recipe it is "running" too: there is
        one at a time for a dataset.
    """
    _reap()
    answer = {"state": "missing", "stage": None, "done": 0, "total": None, "eta_seconds": None}
    answer |= {"text": "Not inspected yet", "error": None}
    folder = _folder(spec, home)
    if folder is None:
        return answer
    progress = homes.read_json(folder / "progress.json", {})
    if _running(progress):
        done, total = progress.get("done", 0), progress.get("total")
        eta = None
        if total and done > progress.get("begun_at", 0) and progress.get("started_counting"):
            made = done - progress.get("begun_at", 0)
            eta = (time.time() - progress["started_counting"]) / made * (total - done)
        return answer | {
            "state": "running",
            "stage": progress.get("stage"),
            "done": done,
            "total": total,
            "eta_seconds": eta,
            "text": progress.get("text", "Starting"),
        }
    if _found(folder, recipe):
        return answer | {"state": "done", "text": "Inspected"}
    if progress and progress.get("recipe_key") == recipe_key(recipe):
        broken = "the inspection broke off; start it again, it goes on where it was"
        return answer | {
            "state": "failed",
            "stage": progress.get("stage"),
            "text": "Failed",
            "error": progress.get("error") or broken,
        }
    return answer


def start(spec, home, recipe=None) -> None:
    """Begins an inspection in the background, or takes up one that broke off; does nothing while one is
    under way, or if all is known. It runs at low priority, so a run in progress is hardly slowed down.

    Raises:
        DatasetError: if the dataset is not prepared.
    """
    plain = spec.model_copy(update={"overlay": ""})
    datasets.open_dataset(plain, home)
    folder = _folder(plain, home)
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / "start.lock"):
        if state(plain, home, recipe)["state"] in ("running", "done"):
            return
        path = folder / "progress.json"
        request = {
            "spec": plain.model_dump(),
            "recipe": recipe.to_dict() if recipe else None,
            "recipe_key": recipe_key(recipe),
            "text": "Starting",
            "started": time.time(),
        }
        environment = processes.environment()
        if jobs.active(home):
            environment["CUDA_VISIBLE_DEVICES"] = "-1"  # the run has the GPU's memory
        homes.write_json(path, request)
        log = folder / LOG
        child = processes.spawn("engine.inspection.worker", path, home, log=log, **environment)
        # The child waits for this before it writes.
        homes.write_json(path, request | processes.identity(child.pid))
        _children.append(child)


_children = []  # so that an ended child is reaped, and is no zombie


def cancel(spec, home, recipe=None) -> None:
    """Ends an inspection that is under way; what it has done so far is kept for the next one."""
    folder = _folder(spec, home)
    if folder is None:
        return
    path = folder / "progress.json"
    processes.end(homes.read_json(path, {}))
    path.unlink(missing_ok=True)


def again(spec, home, recipe=None) -> None:
    """Forgets what the pixels and features said, and begins anew: for images that could not be read then
    and can be now. Thumbnails and cached features stay. Raises as `start` does."""
    folder = _folder(spec, home)
    if folder is not None and state(spec, home, recipe)["state"] != "running":
        for file in [folder / "pixels.npz", *folder.glob("features-*.npz")]:
            file.unlink(missing_ok=True)
    start(spec, home, recipe)


def wait(spec, home, recipe=None, progress=None) -> dict:
    """Waits for the end of an inspection and returns its last `state`.

    Args:
        progress: called with `state`'s dict now and then.
    """
    while (now := state(spec, home, recipe))["state"] == "running":
        if progress:
            progress(now)
        time.sleep(0.2)
    return now


def pid(spec, home) -> int | None:
    """The process that inspects a dataset now, or None."""
    folder = _folder(spec, home)
    progress = homes.read_json(folder / "progress.json", {}) if folder else {}
    return progress.get("pid") if _running(progress) else None


def open_inspection(spec, home, recipe=None) -> Inspection | None:
    """What is known of a prepared dataset, in a moment; None if it was not inspected.

    Args:
        spec, home: as for `state`.
        recipe: whose backbone's findings are wanted; None for those that were made last.

    Returns:
        An Inspection; its features are None if there are none of that recipe's backbone.
    """
    folder = _folder(spec, home)
    if folder is None or not (folder / "pixels.npz").exists():
        return None
    prepared = Path(home) / "datasets" / datasets.key(spec)
    features = _features_file(folder, recipe)
    try:
        files = [prepared / "index.npz", folder / "pixels.npz", *([features] if features else [])]
        stamps = tuple((str(file), file.stat().st_mtime_ns) for file in files)
    except FileNotFoundError:  # deleted this moment
        return None
    classes = homes.read_json(prepared / "manifest.json")["classes"]
    labels, pixels, found = _opened(stamps, tuple(classes))
    key = sha256(repr(stamps).encode()).hexdigest()[:16]
    report = homes.read_json(folder / "report.json", {})
    fingerprint = datasets.fingerprint(spec.model_copy(update={"overlay": ""}), home)
    return Inspection(fingerprint, pixels, labels, found, report, key)


def recovered(found: Inspection, dataset) -> bool:
    """Whether an image that could not be read during an inspection can be read now (see `again`).

    Args:
        found: of `open_inspection`.
        dataset: the open Dataset, with or without overlay.
    """
    lost = np.isnan(found.pixels["brightness"])[dataset.rows]
    for index in np.flatnonzero(lost).tolist():
        with contextlib.suppress(*READING):
            dataset.image_bytes(index)
            return True
    return False


def recipe_key(recipe) -> str:
    """A name for what of a recipe decides its backbone's features; "" for no recipe."""
    if recipe is None:
        return ""
    backbone = recipe.backbone.model_dump()
    identity = [backbone, recipe.head.pooling, recipe.image_size, recipe.resize]
    weights = Path(str(backbone["weights"])).expanduser()
    if weights.is_file():
        stamp = weights.stat()
        identity.append([stamp.st_size, stamp.st_mtime_ns])
    if backbone["weights"] == "none":
        identity.append(recipe.seed)
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


# -- files, written by engine.inspection.worker ------------------------------------------------------


def save(path: Path, dataset, arrays: dict) -> None:
    """Keeps arrays of rows with what tells the rows: two datasets of one fingerprint may have the same
    images in another order (a folder whose files were renamed, a zip of it)."""
    with homes.replacing(path, "wb") as file:
        np.savez(
            file,
            _contents=dataset.contents.astype("S64"),
            _labels=dataset.labels,
            _classes=np.array(dataset.classes),
            **arrays,
        )


@lru_cache(maxsize=4)
def _opened(stamps, classes):
    """(labels, pixels, features or None) of files, in the order of a prepared dataset."""
    with homes.reading(stamps[0][0]), np.load(stamps[0][0]) as index:
        contents, labels = index["contents"].astype("S64"), index["labels"].astype(np.int64)
    labels.flags.writeable = False
    names = np.array(classes)[labels]
    loaded = [_load(path, contents, names, classes) for path, _ in stamps[1:]]
    return labels, loaded[0], loaded[1] if len(loaded) > 1 else None


def _load(path, contents, names, classes) -> dict:
    try:
        with homes.reading(path), np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
            theirs, own = arrays.pop("_classes"), arrays.pop("_labels")
            before, known = arrays.pop("_contents"), theirs[own]
    except DamagedFile as error:
        raise DatasetError(
            f"{path} is damaged ({error.why}); delete it and inspect again"
        ) from None
    if not (np.array_equal(before, contents) and np.array_equal(known, names)):
        order = np.empty(len(contents), np.int64)
        order[np.lexsort((names, contents))] = np.lexsort((known, before))
        arrays = {k: v[order] if v.shape[:1] == contents.shape else v for k, v in arrays.items()}
        if "nearest" in arrays:  # which names rows itself; -1 stays
            arrays["nearest"] = np.append(np.argsort(order), -1)[arrays["nearest"]].astype(np.int32)
    if tuple(theirs.tolist()) != classes and "suggested" in arrays:
        place = np.array([classes.index(name) for name in theirs.tolist()])
        suggested = arrays["suggested"]
        arrays["suggested"] = np.where(suggested < 0, -1, place[suggested]).astype(suggested.dtype)
    for values in arrays.values():
        values.flags.writeable = False
    return arrays


def _folder(spec, home) -> Path | None:
    """Where a prepared dataset's results lie; None if it is not prepared."""
    fingerprint = datasets.fingerprint(spec.model_copy(update={"overlay": ""}), home)
    return thumbnails.folder(home, fingerprint) if fingerprint else None


def _running(progress) -> bool:
    if progress.get("error") or progress.get("done_at"):
        return False
    if progress and "pid" not in progress:  # about to be spawned
        return time.time() - progress["started"] < 30
    return processes.alive(progress)


def _found(folder, recipe) -> bool:
    """Whether all that is asked for is there."""
    return (folder / "pixels.npz").exists() and (
        recipe is None or _features_file(folder, recipe) is not None
    )


def _features_file(folder, recipe) -> Path | None:
    if recipe is None:
        made = sorted(folder.glob("features-*.npz"), key=lambda file: file.stat().st_mtime_ns)
        return made[-1] if made else None
    known = homes.read_json(folder / "report.json", {}).get("recipes", {})
    file = folder / f"features-{known.get(recipe_key(recipe))}.npz"
    return file if file.exists() else None


def _reap():
    _children[:] = [child for child in _children if child.poll() is None]
