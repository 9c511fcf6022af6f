"""The work of `engine.inspection.inspection`, run by `engine.host.background_worker`.

Heavy, in its functions. Images are streamed once, so memory does not grow with their number or
size. Results are written as they come, so an inspection that stopped continues where it was.
"""

from __future__ import annotations

import os
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from engine import home as homes
from engine.data import datasets
from engine.data.prepared import Dataset
from engine.data.unreadable import READING
from engine.errors import DatasetError
from engine.host.background import Report, silent
from engine.host.parallel import cores, ordered_map
from engine.images import measures
from engine.images.thumbnails import Thumbnails
from engine.inspection import inspection, judge
from engine.recipe import DatasetSpec, Recipe

BATCH = 256
"""Images whose records are written to the disk at once, with 1.5 MB of thumbnails."""
PACKAGES = ("pillow", "numpy", "scikit-learn")
LOOKING = "Looking at the images"


def inspect(
    spec: DatasetSpec,
    home: Path,
    recipe: Recipe | None = None,
    report: Report = silent,
) -> None:
    """Inspects a prepared dataset in this process; existing results are not computed again.

    Args:
        spec: a DatasetSpec; its overlay does not matter.
        home: Graft's home.
        recipe: its backbone, or a better one (`engine.inspection.judge`), finds wrong labels and
            outliers; None leaves that out.
        report: see `Report`; may raise to stop.

    Raises:
        DatasetError: if the dataset is not prepared, or none of its images can be read any more.
        BackboneError: if the recipe's backbone is not available. The results of the pixels stay.
    """
    plain = spec.model_copy(update={"overlay": ""})
    dataset = datasets.open_dataset(plain, home)
    thumbs = Thumbnails(home, dataset.source_fingerprint)
    folder = thumbs.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / "inspection.lock"):
        if not (folder / "pixels.npz").exists():
            _pixels(dataset, folder, thumbs, report)
        if recipe is not None and inspection.state(plain, home, recipe)["state"] != "done":
            _features(dataset, judge.of(recipe, plain, home), home, folder, report)


def _pixels(dataset: Dataset, folder: Path, thumbs: Thumbnails, report: Report) -> None:
    """Measures every image, and writes pixels.npz."""
    begun = time.time()
    path = folder / "measured.bin"  # records.bin of earlier versions has other records
    before = _records_done(path)
    _measure(dataset, path, before, thumbs, report)
    records = np.memmap(path, measures.RECORD, "r", shape=(len(dataset),))
    lost = int(np.isnan(records["brightness"]).sum())
    if lost == len(dataset):
        path.unlink()
        raise DatasetError(
            f"no image of {dataset.title} can be read any more; put the files back or prepare the "
            "dataset again"
        )
    arrays = {name: np.array(records[name]) for name in inspection.PIXELS}
    inspection.save(folder / "pixels.npz", dataset, arrays)
    facts = {
        "images": len(dataset),
        "lost": lost,
        "taken_up_at": before,
        "measure_seconds": round(time.time() - begun, 2),
    }
    _note(folder, pixels=facts)
    path.unlink()


def _records_done(path: Path) -> int:
    """How many images have a complete record in the file that an earlier inspection left; the file
    is cut off after them."""
    if not path.exists():
        return 0
    whole = path.stat().st_size // measures.RECORD.itemsize
    done = 0
    if whole:
        places = np.memmap(path, measures.RECORD, "r", shape=(whole,))["place"]
        # After a power failure the end of a file may be zeros.
        wrong = np.flatnonzero(places != np.arange(1, whole + 1))
        done = int(wrong[0]) if len(wrong) else whole
    os.truncate(path, done * measures.RECORD.itemsize)
    return done


def _measure(dataset: Dataset, path: Path, before: int, thumbs: Thumbnails, report: Report) -> None:
    """Appends the record of every image from `before` on, and saves the thumbnails."""
    total = len(dataset)
    batch: list[tuple[str, np.ndarray, bytes | None]] = []

    def measure(row: int) -> tuple[np.ndarray, bytes | None]:
        try:
            return measures.measure(dataset.image_bytes(row), row)
        except READING:  # missing or changed since it was prepared: findings leave it out
            return measures.lost(row), None

    report(LOOKING, before, total)
    with open(path, "ab") as file:

        def keep() -> None:
            # Thumbnails first: an image with a record is not read again.
            thumbs.put_many([(c, thumb) for c, _, thumb in batch if thumb is not None])
            file.write(b"".join(record.tobytes() for _, record, _ in batch))
            file.flush()
            os.fsync(file.fileno())
            batch.clear()

        for row, (record, thumb) in enumerate(
            ordered_map(measure, range(before, total), cores()), before
        ):
            batch.append((str(dataset.contents[row]), record, thumb))
            if len(batch) == BATCH:
                keep()
            report(LOOKING, row + 1, total)
        keep()


def _features(dataset: Dataset, recipe: Recipe, home: Path, folder: Path, report: Report) -> None:
    """Writes judged-KEY.npz with the recipe's backbone."""
    report("Starting TensorFlow")
    from engine.features import of_dataset
    from engine.inspection import suspects

    begun = time.time()
    with of_dataset.open_features(
        dataset, recipe, home, lambda phase, *now: report(*now)
    ) as features:
        key, looked = features.key, time.time()
        path = folder / f"judged-{key}.npz"
        if not path.exists():
            found = suspects.analyse(
                features, dataset.labels, dataset.classes, report, contents=dataset.contents
            )
            found["backbone"] = np.array(recipe.backbone.title)
            inspection.save(path, dataset, found)
    report_ = homes.read_json(folder / "report.json", {})
    facts = {
        "backbone": recipe.backbone.title,
        "image_size": recipe.image_size,
        "features_seconds": round(looked - begun, 2),
        "suspects_seconds": round(time.time() - looked, 2),
    }
    _note(
        folder,
        features=report_.get("features", {}) | {key: facts},
        recipes=report_.get("recipes", {}) | {inspection.recipe_key(recipe): key},
    )


def _note(folder: Path, **facts: Any) -> None:
    """Adds to report.json."""
    path = folder / "report.json"
    versions = {name: metadata.version(name) for name in PACKAGES}
    known = homes.read_json(path, {})
    homes.write_json(path, known | {"versions": versions, "finished": time.time()} | facts)
