"""Measures how far a run's confidence can be trusted: when it ends, or later on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine import home as homes
from engine.data import datasets
from engine.data.splits import PARTS
from engine.data.unreadable import Unreadable
from engine.errors import DatasetError
from engine.host import manifest
from engine.predict import calibration, confidence, evaluation, reference
from engine.predict.classifier import Classifier
from engine.runs import files

if TYPE_CHECKING:
    from engine.runs.runs import Run


def calibrate(run: Run) -> dict:
    """Writes the result of `measured` to the run's confidence.json, and returns it."""
    kept = measured(run)
    with manifest.rewriting(run.path / files.MANIFEST, calibration.FILE):
        homes.write_json(run.path / calibration.FILE, kept)
    return kept


def measured(run: Run) -> dict:
    """Fits temperature and distance on the validation images of a run's reference.

    Returns:
        Plain data: temperature; threshold and usual, distances (`Confidence`); validation and
        test (number of images); reliability before and after, both on the test images;
        false_alarms, the share of test images that count as unlike the training images; coverage
        (`Confidence.achieved` at `COVERAGE`).

    Raises:
        RunError: if the run has no reference, or it is damaged.
    """
    found = reference.of(run)
    of = {part: found.rows(part) for part in PARTS}
    truth = {part: found.labels[rows] for part, rows in of.items()}
    raw = {part: found.probabilities[rows] for part, rows in of.items()}
    temperature = calibration.fit_temperature(raw["validation"], truth["validation"])
    training = found.features[of["train"]]
    far = {p: confidence.distances(found.features[of[p]], training) for p in ("validation", "test")}
    threshold, usual = confidence.thresholds(far["validation"])
    scaled = calibration.scaled(raw["test"], temperature)
    kept = {
        "temperature": temperature,
        "threshold": threshold,
        "usual": usual,
        "validation": len(of["validation"]),
        "test": len(of["test"]),
        "before": calibration.reliability(raw["test"], truth["test"]),
        "after": calibration.reliability(scaled, truth["test"]),
        "false_alarms": float((far["test"] > threshold).mean()),
    }
    return kept | {"coverage": confidence.Confidence(run, kept).achieved(confidence.COVERAGE)}


def remember(run: Run, home: Path, progress: Callable[[int, int], object] | None = None) -> None:
    """Classifies a run's images again and writes its reference, as training does at its end.

    Args:
        run: a finished Run.
        home: Graft's home, with the run's dataset prepared.
        progress: called with (images done, images in total).

    Raises:
        DatasetError: if the dataset is not prepared, or is not the one the run was trained on.
        RunError: if the run has no model.
    """
    homes.writable(home)
    model, dataset = Classifier(run), datasets.open_dataset(run.recipe.dataset, home)
    split = dataset.split(run.recipe.split)
    known = homes.read_json(run.checked(files.SPLIT)) or {}
    if tuple(run.classes) != dataset.classes or any(
        set(dataset.contents[split[part]]) != set(known.get(part, ())) for part in PARTS
    ):
        raise DatasetError(
            f"the dataset {dataset.title} differs from the one that run {run.id} was trained on; "
            "start a new run on the current images"
        )
    kept = reference.Collector(dataset, split, dataset.labels, run.recipe.seed)
    lost = Unreadable(dataset, split, lambda text: None)
    wanted = np.concatenate([kept.drawn[part] for part in PARTS])
    seen = evaluation.answers(model, dataset, wanted, lost, kept.look)
    for done, _ in enumerate(seen, 1):
        if progress:
            progress(done, len(wanted))
    kept.write(run, run.classes)
