"""A run's reference: its classifier's outputs on its training, validation and test images.

It is written to the run's folder when the run finishes. So confidence, explanations and drift also
work on another machine, without the dataset:

    reference.npz   one row for each image: part, label, name, probabilities, features, measures
    thumbs.bin      thumbnails of the training images, one after another

`engine.predict.confidence`, `engine.predict.explanation` and `engine.predict.drift` read it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from engine import home as homes
from engine.data.splits import PARTS
from engine.errors import DamagedFile, RunError
from engine.host import manifest
from engine.images import measures, thumbnails
from engine.predict import calibration, embedding
from engine.runs import files

if TYPE_CHECKING:
    from engine.data.prepared import Dataset
    from engine.runs.runs import Run

FILE, THUMBS = files.REFERENCE, "thumbs.bin"
MOST = {"train": 3000, "validation": 1000, "test": 1000}
"""Most images of each part, the same share of each class. They are enough for distances and
intervals, and limit the time for a large dataset (3,000 photos with MobileNetV2 0.35 take 7 s on 2
cores)."""
MEASURES = ("brightness", "contrast", "sharpness", "width", "height")


@dataclass(frozen=True)
class Reference:
    """A run's reference; arrays have one row for each image.

    Attributes:
        run: the Run.
        classes: names.
        part: uint8 array (m,), place in `engine.data.splits.PARTS`.
        labels: int64 array (m,), true classes.
        names: str array (m,).
        probabilities: float32 array (m, classes), before temperature scaling.
        features: float32 array (m, width), pooled, normalised (`embedding.normalised`).
        measures: {name of MEASURES: float32 array (m,)}; brightness and contrast 0 to 255,
            sharpness as `measures.sharpness`, width and height in pixels.
        places: int64 array (m + 1,), where each thumbnail begins in thumbs.bin; an image without
            one has length 0.
    """

    run: Run
    classes: list[str]
    part: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    measures: dict[str, np.ndarray]
    places: np.ndarray

    def rows(self, part: str) -> np.ndarray:
        """int64 array, the rows of a part."""
        return np.flatnonzero(self.part == PARTS.index(part))

    def thumbnail(self, row: int) -> bytes:
        """A training image's thumbnail, an encoded JPEG; b"" of other images."""
        begin, end = self.places[row : row + 2].tolist()
        with open(self.run.checked(THUMBS), "rb") as file:
            file.seek(begin)
            return file.read(end - begin)


def of(run: Run) -> Reference:
    """Reads a run's reference.

    Raises:
        RunError: if it has none, or the file is damaged.
    """
    try:
        status = run.checked(FILE).stat()
    except DamagedFile as error:
        raise calibration.damaged(run, error.path, error.why) from None
    except FileNotFoundError:
        raise RunError(
            f"run {run.id} has no {FILE}, like imported models and runs of earlier versions of "
            "Graft; if its dataset is on this host, create it with: "
            f"python -m engine calibrate {run.id}"
        ) from None
    return _read(run, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read(run, _time, _size) -> Reference:
    path = run.path / FILE
    try:
        with np.load(path, allow_pickle=False) as found:
            stored = {name: found[name] for name in found.files}
        for name in ("probabilities", "features"):
            if not np.isfinite(stored[name]).all():
                raise ValueError(f"its {name} are not all numbers")
        return Reference(
            run=run,
            classes=stored["classes"].tolist(),
            part=stored["part"],
            labels=stored["labels"].astype(np.int64),
            names=stored["names"],
            probabilities=stored["probabilities"],
            features=stored["features"].astype(np.float32),
            measures={name: stored[name] for name in MEASURES},
            places=stored["places"],
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise calibration.damaged(run, path, error) from None


class Collector:
    """Gathers a run's reference while the run is evaluated.

    Args:
        dataset: the open Dataset.
        split: {part: indices}.
        labels: int array over the whole dataset.
        seed: of the draw where a part has more than `MOST` images.

    Attributes:
        drawn: {part: int array, the images to look at}.
    """

    def __init__(
        self, dataset: Dataset, split: dict[str, np.ndarray], labels: np.ndarray, seed: int = 0
    ):
        self.dataset, self.labels = dataset, labels
        self.drawn = {
            part: drawn(split[part], labels, MOST[part], seed + number)
            for number, part in enumerate(PARTS)
        }
        self._wanted = {int(i): number for number, p in enumerate(PARTS) for i in self.drawn[p]}
        self._rows: dict[int, tuple] = {}

    def look(self, index: int, picture: Image.Image, outputs: Sequence[np.ndarray]) -> None:
        """Adds one image, if it was drawn; the `also` of `evaluation.answers`."""
        number = self._wanted.get(index)
        if number is None:
            return
        thumb = thumbnails.encode(picture) if PARTS[number] == "train" else b""
        features = embedding.normalised(outputs[1][None])[0].astype(np.float16)
        self._rows[index] = (number, outputs[0], features, measures_of(picture), thumb)

    def write(self, run: Run, classes: Sequence[str]) -> None:
        """Writes reference.npz and thumbs.bin; each replaces an earlier file in one step."""
        order = sorted(self._rows, key=lambda i: (self._wanted[i], i))
        rows = [self._rows[i] for i in order]
        thumbs = [row[4] for row in rows]
        measured = np.array([row[3] for row in rows], np.float32).reshape(-1, len(MEASURES))
        arrays: dict[str, Any] = {
            "classes": np.array(classes, str),
            "part": np.array([row[0] for row in rows], np.uint8),
            "labels": self.labels[order].astype(np.int32),
            "names": np.array([self.dataset.names[i] for i in order], str),
            "probabilities": np.array([row[1] for row in rows], np.float32),
            "features": np.array([row[2] for row in rows], np.float16),
            "places": np.cumsum([0, *map(len, thumbs)], dtype=np.int64),
        } | dict(zip(MEASURES, measured.T, strict=True))
        with manifest.rewriting(run.path / files.MANIFEST, THUMBS, FILE):
            with homes.replacing(run.path / THUMBS, "wb") as file:
                file.write(b"".join(thumbs))
            with homes.replacing(run.path / FILE, "wb") as file:
                np.savez(file, **arrays)


def measures_of(picture: Image.Image) -> tuple[float, ...]:
    """The `MEASURES` of a PIL image of mode RGB."""
    luma = picture.convert("L")
    brightness, contrast, _ = measures.tone(luma)
    sharp = measures.sharpness(measures.fitted(luma, measures.SHARPNESS_SIDE))
    return brightness, contrast, sharp, *picture.size


def drawn(indices: np.ndarray, labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most `most` of the indices, the same share of each class, sorted.

    Args:
        indices: int array (n,) of images.
        labels: int array over the whole dataset.
        most: number of images.
        seed: of the draw.
    """
    if len(indices) <= most:
        return np.sort(indices)
    shuffled = indices[np.random.default_rng(seed).permutation(len(indices))]
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Every n-th of a list sorted by class is an even draw of each.
    places = np.linspace(0, len(shuffled) - 1, most).round().astype(int)
    return np.sort(shuffled[places])
