"""Does an export agree with its run?

`prepare` chooses and decodes the images to compare on. `certify` lets the export answer them in a
process that cannot import Graft (`engine.exports.certify_worker`) and compares the answers.

A certificate is plain data:

- run, format, precision, temperature;
- images (their number) and images_from;
- equal_labels (share with the same most probable class) and different_labels (number);
- largest_difference in any probability, and difference: its median and percentile_99 over
  images; both None if the answers are not probabilities;
- bounds, and agrees: whether the export keeps to them;
- unseen: n and equal_labels of the images that the precision was not fitted on; None for float32;
- images_per_second of the export and graft_images_per_second of the run's own network, both
  from prepared pixels and in the same process; batch, the batch size;
- runtime (versions), and imported: which of tensorflow, keras and engine were loaded by the
  time the export had answered;
- encoded: a SavedModel's answers to encoded bytes (n, refused, equal_labels,
  largest_difference); None for other formats;
- read_difference: the maximum difference, in levels of 255, between the pixels that
  classify.py reads from the files and Graft's;
- python, machine, date.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from engine import home as homes
from engine.data import datasets
from engine.data.unreadable import READING
from engine.errors import DatasetError, GraftError, RunError
from engine.exports import certify_worker, convert, formats
from engine.host import processes
from engine.host.background import Report
from engine.host.parallel import cores, ordered_map
from engine.images import decode
from engine.predict.classifier import Classifier
from engine.runs import files
from engine.runs.runs import Run

IMAGES = 500
"""At most 500 validation images are compared."""
ENCODED = 0.97
"""Minimum share of equal labels of a SavedModel that decodes files itself: its decoder differs from
Pillow's by up to one level of 255 (docs/export.md)."""
LEVELS = 1
"""Maximum difference, in levels of 255, between the pixels that classify.py reads from a file and
Graft's."""


@dataclass(frozen=True)
class Pictures:
    """Images on which an export is compared with its run.

    Attributes:
        folder: holds pixels.npy, and the files in its subfolder `encoded`.
        pixels: uint8 array (n, size, size, 3), prepared as Graft prepares images; mapped from
            pixels.npy.
        source: where the images come from, in words.
    """

    folder: Path
    pixels: np.ndarray
    source: str

    @property
    def zip(self) -> Path:
        """Where the export is expected."""
        return self.folder / "export.zip"


def prepare(run: Run, home: Path, work: Path, report: Report) -> Pictures:
    """Decodes the images to compare on, in the same way as all images in Graft.

    They are spread evenly over the validation part. If the run's dataset is not on this host, they
    are the run's examples. The test part is not used.

    Args:
        run: a finished run.
        home: Graft's home.
        work: an empty folder, `Pictures.folder`.
        report: called with (text, done, total).

    Raises:
        RunError: if there is no image that can be read.
    """
    readers, source = _validation(run, home) or _examples(run)
    architecture = run.architecture or {}  # a finished run has one
    size, resize = architecture["image_size"], run.recipe.resize

    def one(read):
        try:
            data = read()
            return data, decode.load(data, size, resize)
        except READING:
            return None  # counted after the loop

    (work / "encoded").mkdir()
    shape = (len(readers), size, size, 3)
    pixels = np.lib.format.open_memmap(work / "pixels.npy", "w+", np.uint8, shape)
    count = 0
    for done, found in enumerate(ordered_map(one, readers, cores()), 1):
        if found is not None:
            data, pixels[count] = found
            (work / "encoded" / f"{count:04d}").write_bytes(data)
            count += 1
        report("Preparing images to compare on", done, len(readers))
    if not count:
        raise RunError(
            f"run {run.id} cannot be exported: neither its dataset nor example images are on this "
            "host to check the export with; prepare its dataset, or choose a run that has one"
        )
    if count < len(readers):
        source += f", {len(readers) - count} of which can no longer be read"
    pixels.flush()
    return Pictures(work, pixels[:count], source)


def _validation(run, home):
    """Readers of validation images, and their source; None if the dataset is not on this host."""
    contents = set((homes.read_json(run.checked(files.SPLIT)) or {}).get("validation", ()))
    try:
        dataset = datasets.open_dataset(run.recipe.dataset, home)
    except DatasetError:
        return None  # `_examples` are used, and the certificate says so
    place = {c: i for i, c in enumerate(dataset.contents.tolist()) if c in contents}
    rows = sorted(place.values())
    if not rows:
        return None
    chosen = [rows[i] for i in convert.spread(len(rows), IMAGES)]
    readers = [lambda row=row: dataset.image_bytes(row) for row in chosen]
    return readers, f"{len(chosen)} of the {len(contents)} images of the validation part"


def _examples(run):
    rows = run.examples()
    source = f"the run's own {len(rows)} example images, since its dataset is not on this host"
    return [row["path"].read_bytes for row in rows], source


def certify(
    run: Run,
    format: str,
    precision: str,
    pictures: Pictures,
    fitted_on: list[int],
    report: Report,
) -> dict:
    """Runs an export in a clean process and compares its answers with the run's.

    Args:
        run: the run.
        format, precision: of the export.
        pictures: from `prepare`; the export is `pictures.zip`.
        fitted_on: indices of the images used to calibrate int8 or to choose weights for float16.
        report: called with (text, done, total).

    Returns:
        The certificate, as described at the top.

    Raises:
        GraftError: if the export cannot be loaded or does not answer.
    """
    model = Classifier(run)
    truth = model.probabilities(Image.fromarray(x) for x in pictures.pixels)
    measured = _in_clean_process(run, pictures, report)
    given = np.load(pictures.folder / "answers.npy")
    found = compare(given, truth)
    bounds = formats.BOUNDS[precision]
    encoded = _encoded(pictures.folder, truth) if format == "saved_model" else None
    reads_alike = measured["read_difference"] <= LEVELS and (
        encoded is None or encoded.get("equal_labels", 0.0) >= ENCODED
    )
    unseen = np.setdiff1d(np.arange(len(truth)), fitted_on)
    return {
        "run": run.id,
        "format": format,
        "precision": precision,
        "agrees": reads_alike and agrees(found, bounds),
        "bounds": bounds,
        "images": len(truth),
        "images_from": pictures.source,
        **found,
        "unseen": _share(given, truth, unseen) if fitted_on else None,
        "temperature": model.temperature,
        "encoded": encoded,
        **measured,
        "runtime": {name: metadata.version(name) for name in formats.FORMATS[format].runtime},
        "date": time.strftime("%Y-%m-%d"),
    }


def compare(given: np.ndarray, truth: np.ndarray) -> dict:
    """Compares answers.

    Args:
        given: float array (n, classes), the export's probabilities.
        truth: float array (n, classes), the run's.

    Returns:
        equal_labels, different_labels, largest_difference and difference, as in `certify`.
    """
    if given.shape != truth.shape or not np.isfinite(given).all():
        return {
            "equal_labels": 0.0,
            "different_labels": len(truth),
            "largest_difference": None,  # JSON has no NaN
            "difference": None,
        }
    equal, apart = given.argmax(1) == truth.argmax(1), np.abs(given - truth).max(axis=1)
    return {
        "equal_labels": float(equal.mean()),
        "different_labels": int((~equal).sum()),
        "largest_difference": float(apart.max()),
        "difference": {
            "median": float(np.median(apart)),
            "percentile_99": float(np.quantile(apart, 0.99)),
        },
    }


def agrees(found: dict, bounds: dict) -> bool:
    """Whether the result of `compare` keeps to bounds (of `formats.BOUNDS`)."""
    largest = found["largest_difference"]
    if largest is None or found["equal_labels"] < bounds["equal_labels"]:
        return False
    return bounds["largest_difference"] is None or largest <= bounds["largest_difference"]


def _share(given, truth, rows) -> dict:
    equal = given[rows].argmax(1) == truth[rows].argmax(1)
    return {"n": len(rows), "equal_labels": float(equal.mean()) if len(rows) else None}


def _encoded(work, truth) -> dict:
    """How a SavedModel answered encoded bytes; files it cannot decode are counted as refused."""
    given = np.load(work / "encoded_answers.npy")
    read = np.isfinite(given).all(axis=1)
    found = {"n": int(read.sum()), "refused": int((~read).sum())}
    return found | compare(given[read], truth[read]) if read.any() else found


def _in_clean_process(run, pictures, report) -> dict:
    """Runs the worker and reports its progress; returns what it measured."""
    n, folder = len(pictures.pixels), pictures.folder
    command = [
        sys.executable,
        "-I",
        certify_worker.__file__,
        pictures.zip,
        folder,
        n,
        run.checked(files.LITERT),
    ]
    log = folder / "check.log"
    with (
        open(log, "w", encoding="utf-8") as errors,
        subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | processes.environment() | {"CUDA_VISIBLE_DEVICES": "-1"},
            text=True,
        ) as child,
    ):
        assert child.stdout  # a pipe, as asked for
        try:
            for line in child.stdout:
                if line.startswith("answered "):
                    report("Checking the export in a separate process", int(line.split()[1]), n)
        except BaseException:  # `report` may raise to stop
            child.kill()
            raise
    if child.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")
        lines = said.strip().splitlines() or ["no reason given"]
        raise GraftError(
            f"the export could not be loaded and run by itself ({lines[-1][:200]}); choose another "
            "format"
        )
    return json.loads((folder / "measured.json").read_bytes())
