"""The work behind `engine.predict.batches`: the process of a batch, and the same stream for the command line.

No TensorFlow: LiteRT answers, Pillow decodes, some images at a time.
"""

import time
import traceback
from pathlib import Path

import numpy as np

from engine import home as homes
from engine.data.sources import zip_names
from engine.errors import DamagedModel, DatasetError, ImageError, RunError
from engine.host.parallel import ordered_map
from engine.images import decode, thumbnails
from engine.predict import batches, confidence, drift, embedding, evaluation, reference
from engine.predict.classifier import Classifier
from engine.runs import runs

DRIFT = 2000
"""Most images that drift is judged by: the same share all along the batch."""


def measure(_recipe, home, about, report) -> dict:
    """Answers a batch; see `engine.host.background_worker`, which calls it.

    Args:
        home: Graft's home.
        about: run, title and source of the batch.
        report: called with (text, done, total, seconds left).

    Returns:
        See `Batch.state`.
    """
    decode.separate_memory()  # before any thread allocates
    report("Waiting for another batch")
    with batches.lock(home):
        return _measured(home, about, report)


def _measured(home, about, report) -> dict:
    folder = Path(about["source"]).parent
    run, begun = runs.get_run(home, about["run"]), time.time()
    model = Classifier(run)
    first, kept = time.time(), {}
    with batches.items(about["source"], about["title"]) as found:

        def tell(done):
            left = (time.time() - first) / done * (len(found) - done)
            report("Classifying", done, len(found), left)

        thumbs = folder / batches.THUMBS
        for number, rows in enumerate(parts(model, found, thumbs, tell, kept)):
            with homes.replacing(folder / f"part-{number:05d}.npz", "wb") as file:
                np.savez(file, **vars(rows))
    rows = batches.Batch(folder).rows()
    report("Comparing with the validation images", len(rows), len(rows))
    return {
        "images": len(rows),
        "seconds": time.time() - begun,
        "figures": figures(model.classes, rows),
        "drift": judged(run, rows, kept),
        "stopped": False,
    }


def parts(model, found, thumbs=None, progress=None, kept=None):
    """Yields `batches.Rows` of some images each, until all are answered; memory does not grow with them.

    Args:
        model: a Classifier.
        found: list of `batches.items`.
        thumbs: path of the file that takes the thumbnails; None for none.
        progress: called with the images done so far.
        kept: a dict that takes the features by which drift is judged, of at most `DRIFT` images drawn
            evenly, {place: float16 array (width,)}.
    """
    known, place, waiting, done = set(model.classes), 0, [], 0
    drawn = set(np.linspace(0, len(found) - 1, min(DRIFT, len(found))).astype(int).tolist())
    certainty = confidence.known(model.run)

    def answer(item):
        return _answer(model, known, item, thumbs is not None)

    for row in ordered_map(answer, found, model.threads):
        thumb = row.pop("thumb")
        if thumb:
            with open(thumbs, "ab") as file:
                file.write(thumb)
        row["thumbs"] = (place, place + len(thumb))
        if kept is not None and done in drawn and row["features"] is not None:
            kept[done] = row["features"].astype(np.float16)
        place, done = place + len(thumb), done + 1
        waiting.append(row)
        if progress:
            progress(done)
        if len(waiting) == batches.PART:
            yield _stacked(waiting, certainty)
            waiting = []
    if waiting:
        yield _stacked(waiting, certainty)


def _answer(model, known, item, wants_thumb) -> dict:
    """One image: everything that is kept of it."""
    name, label, read = item
    row = {
        "names": zip_names.shown(name),
        "labels": label if label in known else "",
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
    except DamagedModel:  # which no other image will be answered by
        raise
    except Exception as error:  # one image of thousands must not end a batch; the log has more
        traceback.print_exc()
        row["errors"] = f"it could not be worked on ({type(error).__name__}); the log says more"
    else:
        row["probabilities"] = answer.probabilities
        row["features"] = embedding.normalised(answer.features[None])[0]
    row["seconds"] = time.perf_counter() - begun
    return row


def _stacked(rows, certainty) -> batches.Rows:
    """Rows of an array each; their features become distances."""
    features = [row.pop("features") for row in rows]
    read = [i for i, own in enumerate(features) if own is not None]
    far = np.full(len(rows), np.nan, np.float32)
    if certainty and read:
        far[read] = certainty.distances(np.stack([features[i] for i in read]))
    for row, distance in zip(rows, far, strict=True):
        row["distances"] = distance
    kinds = {"names": str, "labels": str, "errors": str, "seconds": np.float32, "thumbs": np.int64}
    return batches.Rows(
        **{n: np.array([row[n] for row in rows], kinds.get(n)) for n in batches.COLUMNS}
    )


def figures(classes, rows) -> dict | None:
    """`evaluation.measure` of the images that lay in a folder named like a class; None without any."""
    own = rows.read & (rows.labels != "")
    if not own.any():
        return None
    place = {name: number for number, name in enumerate(classes)}
    labels = [place[str(label)] for label in rows.labels[own]]
    return evaluation.measure(rows.probabilities[own], labels, classes)


def judged(run, rows, kept) -> dict | None:
    """`drift.judge` of a batch; None where it is too small, or the run remembers too little.

    Args:
        run: the Run that answered.
        rows: of the whole batch.
        kept: of `parts`.
    """
    if len(kept) < drift.LEAST:
        return None
    try:
        known = reference.of(run)
    except RunError:
        return None
    if len(known.rows("validation")) < drift.LEAST:
        return None
    own = np.array(list(kept))
    measured = dict(zip(reference.MEASURES, rows.measures[own].T, strict=True))
    return drift.judge(known, np.stack(list(kept.values())), rows.probabilities[own], measured)
