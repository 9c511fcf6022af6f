"""Does an export answer as the run does? It is asked in a process that knows nothing of Graft.

Two halves. `prepare` and `certify` belong to the process that exports. `main` is the other process,
`python -I export_check.py ZIP FOLDER COUNT NETWORK`: isolated, so that not even Graft's package can be imported,
it unpacks the zip, imports the classify.py inside and lets it answer. So this file imports nothing of
Graft at its top.
"""

import json
import os
import platform
import subprocess
import sys
import time
import zipfile
from collections import deque
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

import numpy as np

IMAGES = 500
"""At most so many validation images are compared."""
BATCH = 32
"""Images put to an export at a time; LiteRT takes them one by one."""
ROUNDS, LONGEST = 20, 15
"""Speeds are medians over so many batches, fewer if they take longer than so many seconds."""
ENCODED = 0.97
"""Least share of equal labels of a SavedModel that decodes files by itself: its decoder differs from Pillow's by
one level of 255 (docs/export.md)."""
LEVELS = 1
"""Most levels of 255 by which the pixels that classify.py reads from files may differ from Graft's."""


@dataclass(frozen=True)
class Pictures:
    """Images that an export is compared on.

    Attributes:
        pixels: uint8 array (n, size, size, 3), mapped from a file, prepared as Graft prepares.
        source: where they came from, in words.
    """

    pixels: np.ndarray
    source: str


# -- in the process that exports --------------------------------------------------------------


def prepare(run, home, work, report) -> Pictures:
    """Decodes the images to compare on, through the path that all of Graft's images take.

    They are the validation part's, evenly spread, or the run's own examples where its dataset is not on
    this host. The test part is left alone.

    Args:
        run: a finished Run.
        home: Graft's home.
        work: a folder that takes pixels.npy, and the files themselves under `encoded`.
        report: called with (text, done, total).

    Raises:
        RunError: if none can be read.
    """
    from engine.data.unreadable import READING
    from engine.errors import RunError
    from engine.host.parallel import cores, ordered_map
    from engine.images import decode

    readers, source = _validation(run, home) or _examples(run)
    size, resize = run.architecture["image_size"], run.recipe.resize

    def one(read):
        try:
            data = read()
            return data, decode.load(data, size, resize)
        except READING:
            return None  # counted below

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
            f"there is no image of run {run.id} on this host, neither of its dataset nor an example, so an "
            "export could not be checked; prepare its dataset, or export a run that has one"
        )
    if count < len(readers):
        source += f", {len(readers) - count} of which can no longer be read"
    pixels.flush()
    return Pictures(pixels[:count], source)


def _validation(run, home):
    """Readers of validation images and where they came from; None if the dataset is not here."""
    from engine import home as homes
    from engine.data import datasets
    from engine.errors import DatasetError
    from engine.exports import convert

    contents = set((homes.read_json(run.path / "split.json") or {}).get("validation", ()))
    try:
        dataset = datasets.open_dataset(run.recipe.dataset, home)
    except DatasetError:
        return None  # the certificate says that examples stood in
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


def certify(run, format, precision, path, pictures, looked_at, report) -> dict:
    """Lets an export answer in a clean process and compares it with the run's Classifier.

    Args:
        run: the Run.
        format, precision: of the export.
        path: of the zip.
        pictures: of `prepare`, whose files lie beside the zip.
        looked_at: places of the images that int8 was calibrated on, or float16 chosen on.
        report: called with (text, done, total).

    Returns:
        Plain data: run, format, precision, temperature; images (n) and images_from; equal_labels (share
        with the same most probable class), different_labels (n); largest_difference in probability,
        with its median and 99th percentile over images; bounds; agrees; unseen (n and equal_labels of
        images that were not looked at; None for float32); images_per_second of the export and
        graft_images_per_second of the run's own network, both from prepared pixels and in that one
        process; batch; runtime (versions); imported (which of tensorflow, keras and engine the
        process had loaded when the export had answered); encoded (a SavedModel's answers to encoded
        bytes: n, refused, equal_labels, largest_difference; None elsewhere); read_difference (most levels
        of 255 by which the pixels that classify.py reads from files differ from Graft's); python, machine,
        date.

    Raises:
        GraftError: if the export cannot be loaded or does not answer.
    """
    from PIL import Image

    from engine.exports import formats
    from engine.predict import classifier

    model = classifier.Classifier(run)
    truth = model.probabilities(Image.fromarray(x) for x in pictures.pixels)
    measured = _in_clean_process(run, path, len(truth), report)
    given = np.load(path.parent / "answers.npy")
    found = compare(given, truth)
    bounds = formats.BOUNDS[precision]
    encoded = _encoded(path.parent, truth) if format == "saved_model" else None
    alike = encoded is None or encoded.get("equal_labels", 0.0) >= ENCODED
    alike = alike and measured["read_difference"] <= LEVELS
    unseen = np.setdiff1d(np.arange(len(truth)), looked_at)
    return {
        "run": run.id,
        "format": format,
        "precision": precision,
        "agrees": alike and agrees(found, bounds),
        "bounds": bounds,
        "images": len(truth),
        "images_from": pictures.source,
        **found,
        "unseen": _share(given, truth, unseen) if looked_at else None,
        "temperature": model.temperature,
        "encoded": encoded,
        **measured,
        "runtime": {name: metadata.version(name) for name in formats.FORMATS[format].runtime},
        "date": time.strftime("%Y-%m-%d"),
    }


def compare(given, truth) -> dict:
    """Two float arrays (n, classes) of probabilities: see `certify`."""
    if given.shape != truth.shape or not np.isfinite(given).all():
        return {
            "equal_labels": 0.0,
            "different_labels": len(truth),
            "largest_difference": None,  # JSON has no word for "not a number"
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
    """Whether `compare`'s figures keep to the bounds."""
    largest = found["largest_difference"]
    if largest is None or found["equal_labels"] < bounds["equal_labels"]:
        return False
    return bounds["largest_difference"] is None or largest <= bounds["largest_difference"]


def _share(given, truth, rows) -> dict:
    equal = given[rows].argmax(1) == truth[rows].argmax(1)
    return {"n": len(rows), "equal_labels": float(equal.mean()) if len(rows) else None}


def _encoded(work, truth) -> dict:
    """How a SavedModel answered encoded bytes; what it cannot decode is counted, not compared."""
    given = np.load(work / "encoded_answers.npy")
    read = np.isfinite(given).all(axis=1)
    found = {"n": int(read.sum()), "refused": int((~read).sum())}
    return found | compare(given[read], truth[read]) if read.any() else found


def _in_clean_process(run, path, n, report) -> dict:
    """Runs `main` and passes its progress on; returns what it measured."""
    from engine.errors import GraftError
    from engine.host import processes

    command = [sys.executable, "-I", __file__, path, path.parent, n, run.path / "inference.tflite"]
    environment = os.environ | processes.environment() | {"CUDA_VISIBLE_DEVICES": "-1"}
    log = path.parent / "check.log"
    with (
        open(log, "w") as errors,
        subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
        ) as child,
    ):
        try:
            for line in child.stdout:
                if line.startswith("answered "):
                    report("Checking the export in a process of its own", int(line.split()[1]), n)
        except BaseException:  # such as the user's wish to stop
            child.kill()
            raise
    if child.returncode:
        last = deque(log.read_text(errors="replace").strip().splitlines() or ["no word why"], 1)[0]
        raise GraftError(
            f"the export could not be loaded and run by itself ({last[:200]}); choose another format"
        )
    return json.loads((path.parent / "measured.json").read_text())


# -- in the clean process ---------------------------------------------------------------------


def main(path: str, work: str, count: str, network: str) -> None:
    """Lets the export answer the first `count` images in `work`; writes answers.npy, encoded_answers.npy for a
    SavedModel, and measured.json there."""
    work, unpacked = Path(work), Path(work) / "unpacked"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)  # made by ourselves a moment ago
    sys.path.insert(0, str(unpacked))
    classify = import_module("classify")
    pixels = np.load(work / "pixels.npy", "r")[: int(count)]
    answers = _answers(classify.probabilities, pixels)
    np.save(work / "answers.npy", answers)
    files = sorted((work / "encoded").iterdir())[: len(pixels)]
    if hasattr(getattr(classify, "model", None), "signatures"):
        np.save(work / "encoded_answers.npy", _from_bytes(classify, files, answers.shape[1]))
    measured = {
        "read_difference": max(
            int(np.abs(classify.read(file).astype(int) - own).max())
            for file, own in zip(files, pixels, strict=True)
        ),
        "batch": 1 if "ai_edge_litert" in sys.modules else BATCH,
        "imported": {name: name in sys.modules for name in ("tensorflow", "keras", "engine")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}",
    }
    # Only now: what the export needs has been noted.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    measured |= _speeds(classify.probabilities, Path(network), pixels[:BATCH])
    (work / "measured.json").write_text(json.dumps(measured))


def _answers(probabilities, pixels):
    """All answers, telling on standard output how many there are so far."""
    rows = []
    for start in range(0, len(pixels), BATCH):
        rows.append(probabilities(pixels[start : start + BATCH]))
        print(f"answered {min(start + BATCH, len(pixels))}", flush=True)
    return np.concatenate(rows)


def _from_bytes(classify, files, classes):
    """A SavedModel's answers to encoded bytes, one by one; not a number where it cannot decode."""
    import tensorflow as tf

    rows = []
    for file in files:
        try:
            answer = classify.model.signatures["serving_default"](tf.constant([file.read_bytes()]))
            rows.append(answer["probabilities"].numpy()[0])
        except tf.errors.InvalidArgumentError:
            rows.append(np.full(classes, np.nan, np.float32))
    return np.array(rows)


def _speeds(probabilities, network, pixels) -> dict:
    """Images a second of the export and of Graft's own network as it predicts many: medians over
    rounds in turn, so that what else the host does falls on both alike."""
    from engine.host.parallel import ordered_map
    from engine.models.litert import Network

    own = Network(network)
    subjects = {
        "images_per_second": lambda: probabilities(pixels),
        "graft_images_per_second": lambda: deque(ordered_map(own, pixels, own.threads), 0),
    }
    seconds = {name: [] for name in subjects}
    until = time.monotonic() + LONGEST
    for done in range(ROUNDS + 1):
        for name, run in subjects.items():
            begun = time.perf_counter()
            run()
            if done:  # the first round warms up
                seconds[name].append(time.perf_counter() - begun)
        if done and time.monotonic() > until:
            break
    return {name: len(pixels) / float(np.median(taken)) for name, taken in seconds.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
