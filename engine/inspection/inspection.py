"""The inspection of a dataset: what pixels and a backbone show about each image.

Light. `engine.inspection.worker` does the work in the background. The results are kept by the
dataset's content, so that opening them again is instant and a copy of the dataset has them too:

    GRAFT_HOME/inspections/FINGERPRINT/
        pixels.npz          brightness, contrast, sharpness, entropy, span; a row per image
        judged-KEY.npz      results of the backbone KEY (`engine.inspection.suspects`)
        thumbs.sqlite       thumbnails by content (`engine.images.thumbnails`)
        report.json         times, counts, versions
        progress.json       the request of the job (`engine.host.background`)

The backbone is that of a recipe, or a better one (`engine.inspection.judge`). Decisions about
single images (overlays) change nothing here: rows are those of the dataset without them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from engine import home as homes
from engine import roots
from engine.data import datasets
from engine.data.prepared import Dataset
from engine.data.unreadable import READING
from engine.errors import DamagedFile, DatasetError
from engine.host import manifest
from engine.host.background import Job, JobState, wait_for
from engine.images import thumbnails
from engine.inspection import judge
from engine.jobs import jobs
from engine.recipe import DatasetSpec, Recipe

PIXELS = ("brightness", "contrast", "sharpness", "entropy", "span")
NO_STATE = JobState(
    kind="inspection", state="missing", phase="", text="", done=0, total=None, eta_seconds=None,
    error=None, result=None,
)  # fmt: skip


@dataclass(frozen=True)
class Inspection:
    """The results of an inspection. Each array has a row for each image of the dataset without
    overlay (`Dataset.rows` leads there), and must not be changed.

    Attributes:
        source_fingerprint: of the dataset.
        pixels: dict of arrays (n,): brightness (mean luma, 0 to 255), contrast (its standard
            deviation), sharpness (variance of the Laplacian), entropy (bits), each not a number for
            an image that could no longer be read; span (largest difference of the luma of its 64 x
            64 blocks; absent in results of earlier versions).
        labels: int64 array (n,), indices into the classes without overlay.
        features: result of `engine.inspection.suspects.analyse` and backbone (shape (), the title
            of the one that computed it), or None.
        report: times, counts and versions.
        key: changes when any of the results does.
    """

    source_fingerprint: str
    pixels: dict[str, np.ndarray]
    labels: np.ndarray
    features: dict[str, np.ndarray] | None
    report: dict[str, Any] = field(default_factory=dict)
    key: str = ""

    @property
    def backbone(self) -> str:
        """The title of the backbone of `features`; "" if there are none."""
        return str(self.features["backbone"]) if self.features else ""


def state(spec: DatasetSpec, home: Path, recipe: Recipe | None = None) -> JobState:
    """How far an inspection is.

    Args:
        spec: a DatasetSpec; its overlay does not matter.
        home: Graft's home.
        recipe: the suspects are found with its backbone; None: only the pixels matter.

    Returns:
        A JobState. While an inspection for another recipe runs, it is "running" too: there is one
        at a time for a dataset.
    """
    folder, recipe = _folder(spec, home), recipe and judge.of(recipe, spec, home)
    if folder is None:
        return NO_STATE
    job = _job(folder)
    now = job.state()
    if now["state"] == "running":
        return now
    if _found(folder, recipe):
        return {**now, "state": "done", "error": None}
    if now["state"] == "failed":
        asked = job.request().get("parameters", {}).get("recipe")
        if recipe_key(Recipe.from_dict(asked) if asked else None) == recipe_key(recipe):
            return now
    return NO_STATE


def start(spec: DatasetSpec, home: Path, recipe: Recipe | None = None) -> None:
    """Starts an inspection in the background, or resumes one that stopped; does nothing while one
    is running, or if all results are there. It has low priority, so it hardly slows down a run.

    Raises:
        DatasetError: if the dataset is not prepared.
    """
    plain = spec.model_copy(update={"overlay": ""})
    datasets.open_dataset(plain, home)
    folder, recipe = _folder(plain, home), recipe and judge.of(recipe, spec, home)
    if folder is not None and not _found(folder, recipe):
        # A run that is in progress has the GPU's memory.
        environment = {"CUDA_VISIBLE_DEVICES": "-1"} if jobs.active(home) else {}
        asked = recipe.to_dict() if recipe else None
        _job(folder).start(home, environment, spec=plain.model_dump(), recipe=asked)


def cancel(spec: DatasetSpec, home: Path, recipe: Recipe | None = None) -> None:
    """Stops an inspection; the next one continues where it stopped."""
    if folder := _folder(spec, home):
        _job(folder).cancel()


def again(spec: DatasetSpec, home: Path, recipe: Recipe | None = None) -> None:
    """Deletes the results and inspects again, for images that could not be read then but can be
    now. Thumbnails and cached features stay. Raises as `start` does."""
    folder = _folder(spec, home)
    if folder is not None and state(spec, home, recipe)["state"] != "running":
        for file in [folder / "pixels.npz", *folder.glob("judged-*.npz")]:
            file.unlink(missing_ok=True)
    start(spec, home, recipe)


def wait(
    spec: DatasetSpec,
    home: Path,
    recipe: Recipe | None = None,
    progress: Callable[[JobState], object] | None = None,
) -> JobState:
    """Waits for the end of an inspection and returns its last state.

    Args:
        spec, home, recipe: as for `state`.
        progress: called with the state several times a second.
    """
    return wait_for(lambda: state(spec, home, recipe), progress)


def pid(spec: DatasetSpec, home: Path) -> int | None:
    """The process that inspects a dataset now, or None."""
    folder = _folder(spec, home)
    return _job(folder).pid() if folder else None


def open_inspection(
    spec: DatasetSpec, home: Path, recipe: Recipe | None = None
) -> Inspection | None:
    """The results for a prepared dataset, at once; None if it was not inspected.

    Args:
        spec, home: as for `state`.
        recipe: whose backbone's results are wanted; None for the latest ones.

    Returns:
        An Inspection; its features are None if there are no results of that recipe's backbone.
    """
    folder, recipe = _folder(spec, home), recipe and judge.of(recipe, spec, home)
    if folder is None or not (folder / "pixels.npz").exists():
        return None
    prepared = Path(home) / homes.DATASETS / datasets.key(spec)
    manifest.check(prepared / manifest.FILE, "manifest.json", "index.npz")
    features = _features_file(folder, recipe)
    try:
        files = [prepared / "index.npz", folder / "pixels.npz", *([features] if features else [])]
        stamps = tuple((file, file.stat().st_mtime_ns) for file in files)
    except FileNotFoundError:  # deleted at this moment
        return None
    classes = homes.read_json(prepared / "manifest.json")["classes"]
    labels, pixels, found = _opened(stamps, tuple(classes))
    key = sha256(repr(stamps).encode()).hexdigest()[:16]
    report = homes.read_json(folder / "report.json", {})
    fingerprint = datasets.fingerprint(spec.model_copy(update={"overlay": ""}), home)
    return Inspection(fingerprint or "", pixels, labels, found, report, key)


def recovered(found: Inspection, dataset: Dataset) -> bool:
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


def recipe_key(recipe: Recipe | None) -> str:
    """Identifies the parts of a recipe that decide its backbone's features; "" for no recipe."""
    if recipe is None:
        return ""
    backbone = recipe.backbone.model_dump()
    identity: list[Any] = [backbone, recipe.head.pooling, recipe.image_size, recipe.resize]
    weights = recipe.backbone.weights_file
    if weights and roots.allows(weights) and os.path.isfile(path := os.path.expanduser(weights)):
        stamp = os.stat(path)
        identity.append([stamp.st_size, stamp.st_mtime_ns])
    if backbone["weights"] == "none":
        identity.append(recipe.seed)
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


# -- files, written by engine.inspection.worker ---------------------------------------------------


def save(path: Path, dataset: Dataset, arrays: dict[str, np.ndarray]) -> None:
    """Saves arrays of rows with what identifies the rows: two datasets of one fingerprint may have
    the same images in another order (a folder whose files were renamed, a zip of it)."""
    with homes.replacing(path, "wb") as file:
        np.savez(
            file,
            _contents=dataset.contents.astype("S64"),
            _labels=dataset.labels,
            _classes=np.array(dataset.classes),
            **arrays,  # type: ignore[arg-type]
        )


@lru_cache(maxsize=4)
def _opened(
    stamps: tuple[tuple[Path, int], ...], classes: tuple[str, ...]
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """(labels, pixels, features or None) of files, in the order of a prepared dataset."""
    with homes.reading(stamps[0][0]), np.load(stamps[0][0]) as index:
        contents, labels = index["contents"].astype("S64"), index["labels"].astype(np.int64)
    labels.flags.writeable = False
    names = np.array(classes)[labels]
    loaded = [_load(path, contents, names, classes) for path, _ in stamps[1:]]
    return labels, loaded[0], loaded[1] if len(loaded) > 1 else None


def _load(
    path: Path, contents: np.ndarray, names: np.ndarray, classes: tuple[str, ...]
) -> dict[str, np.ndarray]:
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
        if "nearest" in arrays:  # it holds rows; -1 stays
            arrays["nearest"] = np.append(np.argsort(order), -1)[arrays["nearest"]].astype(np.int32)
    if tuple(theirs.tolist()) != classes and "suggested" in arrays:
        place = np.array([classes.index(name) for name in theirs.tolist()])
        suggested = arrays["suggested"]
        arrays["suggested"] = np.where(suggested < 0, -1, place[suggested]).astype(suggested.dtype)
    for values in arrays.values():
        values.flags.writeable = False
    return arrays


def _folder(spec: DatasetSpec, home: Path) -> Path | None:
    """The folder of a prepared dataset's results; None if the dataset is not prepared."""
    fingerprint = datasets.fingerprint(spec.model_copy(update={"overlay": ""}), home)
    return thumbnails.folder(home, fingerprint) if fingerprint else None


def _job(folder: Path) -> Job:
    return Job(folder / "progress.json", "inspection")


def _found(folder: Path, recipe: Recipe | None) -> bool:
    """Whether all results that are asked for exist."""
    return (folder / "pixels.npz").exists() and (
        recipe is None or _features_file(folder, recipe) is not None
    )


def _features_file(folder: Path, recipe: Recipe | None) -> Path | None:
    if recipe is None:
        made = sorted(folder.glob("judged-*.npz"), key=lambda file: file.stat().st_mtime_ns)
        return made[-1] if made else None
    known = homes.read_json(folder / "report.json", {}).get("recipes", {})
    file = folder / f"judged-{known.get(recipe_key(recipe))}.npz"
    return file if file.exists() else None
