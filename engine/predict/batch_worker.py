"""The work behind `engine.predict.batches`: a batch's process, and the same stream for the command
line.

No TensorFlow: LiteRT predicts, Pillow decodes, several images at a time.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine import home as homes
from engine.data.sources import reading
from engine.data.sources.tree import Image
from engine.errors import DamagedModel, DatasetError, ImageError
from engine.host.background import Report
from engine.host.parallel import ordered_map
from engine.host.words import shown
from engine.images import decode, memory, thumbnails
from engine.predict import batches, confidence, drift, embedding, reference
from engine.predict.classifier import Classifier
from engine.predict.confidence import Confidence
from engine.predict.rows import COLUMNS, Rows
from engine.runs import runs
from engine.runs.runs import Run


def measure(about: dict[str, Any], home: Path, report: Report) -> dict[str, Any]:
    """Classifies a batch; `engine.host.background_worker` calls it.

    Args:
        about: run, title and source of the batch.
        home: Graft's home.
        report: see `Report`.

    Returns:
        See `Batch.state`.
    """
    memory.separate_memory()  # before any thread allocates
    report("Waiting for another batch")
    with batches.lock(home):
        return _measured(home, about, report)


def _measured(home: Path, about: dict[str, Any], report: Report) -> dict[str, Any]:
    folder = Path(about["source"]).parent
    run, begun = runs.get_run(home, about["run"]), time.time()
    model = Classifier(run)
    with reading.opened(about["source"], model.classes, about["title"]) as (found, read):
        total = len(found.images)
        report("Classifying", 0, total)
        blocks = parts(
            model,
            found.images,
            read,
            folder / batches.THUMBS,
            lambda done: report("Classifying", done, total),
        )
        for number, rows in enumerate(blocks):
            with homes.replacing(folder / f"part-{number:05d}.npz", "wb") as file:
                np.savez(file, **vars(rows))
    answered = batches.Batch(folder).rows()
    assert answered is not None  # a batch without images is not started
    report("Comparing with the validation images", len(answered), len(answered))
    return {
        "images": len(answered),
        "seconds": time.time() - begun,
        "drift": judged(run, answered),
        "stopped": False,
    }


def parts(
    model: Classifier,
    images: Sequence[Image],
    read: Callable[[Image], bytes | Path],
    thumbs: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Rows]:
    """Yields the answers of some images at a time until all are classified, so that memory does not
    grow with their number.

    Args:
        model: a Classifier.
        images: of a source (`engine.data.sources.reading.opened`).
        read: returns the bytes of an image, or the path of its file.
        thumbs: path of the file for the thumbnails; None for none.
        progress: called with the number of images done.
    """
    place, waiting, done = 0, [], 0
    certainty = confidence.known(model.run)

    def answer(image: Image) -> dict[str, Any]:
        row = {"names": shown(image.name), "labels": image.label}
        return row | _answer(model, lambda: read(image), thumbs is not None)

    for row in ordered_map(answer, images, model.threads):
        thumb = row.pop("thumb")
        if thumbs and thumb:
            with open(thumbs, "ab") as file:
                file.write(thumb)
        row["thumbs"] = (place, place + len(thumb))
        place, done = place + len(thumb), done + 1
        waiting.append(row)
        if progress:
            progress(done)
        if len(waiting) == batches.PART:
            yield _stacked(waiting, certainty)
            waiting = []
    if waiting:
        yield _stacked(waiting, certainty)


def _answer(
    model: Classifier, read: Callable[[], bytes | Path], wants_thumb: bool
) -> dict[str, Any]:
    """Everything that is kept of one image but its name and folder."""
    row: dict[str, Any] = {
        "errors": "",
        "probabilities": np.zeros(len(model.classes), np.float32),
        "features": None,
        "measures": np.zeros(len(reference.MEASURES), np.float32),
        "thumb": b"",
    }
    begun = time.perf_counter()
    try:
        picture = decode.read(read())
        answer = model.predict([picture], keep_images=False)[0]
        row["measures"] = np.array(reference.measures_of(picture), np.float32)
        row["thumb"] = thumbnails.encode(picture) if wants_thumb else b""
    except (ImageError, DatasetError, OSError) as error:
        row["errors"] = str(error)
    except DamagedModel:  # it cannot classify any other image either
        raise
    except Exception as error:  # one image of thousands must not end a batch
        traceback.print_exc()
        row["errors"] = f"it could not be classified ({type(error).__name__}); see the log"
    else:
        row["probabilities"] = answer.probabilities
        row["features"] = embedding.normalised(answer.features[None])[0]
    row["seconds"] = time.perf_counter() - begun
    return row


def _stacked(rows: list[dict[str, Any]], certainty: Confidence | None) -> Rows:
    """Answers as arrays; their features become distances."""
    features = [row.pop("features") for row in rows]
    read = [i for i, own in enumerate(features) if own is not None]
    far = np.full(len(rows), np.nan, np.float32)
    if certainty and read:
        far[read] = certainty.distances(np.stack([features[i] for i in read]))
    for row, distance in zip(rows, far, strict=True):
        row["distances"] = distance
    kinds: dict[str, type] = {"names": str, "labels": str, "errors": str}
    kinds |= {"seconds": np.float32, "thumbs": np.int64}
    return Rows(**{n: np.array([row[n] for row in rows], kinds.get(n)) for n in COLUMNS})


def judged(run: Run, rows: Rows) -> dict[str, Any] | None:
    """`drift.judge` of a whole batch; None if it, or the run's validation part, is too small, or
    if the run is not calibrated."""
    known = confidence.known(run)
    own = rows.read & np.isfinite(rows.distances)
    if known is None or min(own.sum(), len(known.reference.rows("validation"))) < drift.LEAST:
        return None
    measured = dict(zip(reference.MEASURES, rows.measures[own].T, strict=True))
    return drift.judge(known, rows.distances[own], rows.probabilities[own], measured)
