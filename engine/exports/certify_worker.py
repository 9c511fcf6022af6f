"""The process that runs an export: `python -I certify_worker.py ZIP FOLDER COUNT NETWORK`.

It is isolated (-I), so it cannot import Graft's package, and this file imports nothing of Graft at
the top. It unpacks the zip, imports the classify.py inside, collects its answers and measures its
speed. `engine.exports.certify` compares the answers.
"""

import json
import os
import platform
import sys
import time
import zipfile
from collections import deque
from importlib import import_module
from pathlib import Path

import numpy as np

BATCH = 32
"""Images per call of an export; LiteRT takes them one by one."""
ROUNDS, LONGEST = 20, 15
"""Speeds are medians over 20 batches, or fewer if they take longer than 15 seconds."""


def main(path: str, folder: str, count: str, network: str) -> None:
    """Collects an export's answers and measures its speed.

    Writes answers.npy, measured.json and, for a SavedModel, encoded_answers.npy.

    Args:
        path: of the zip.
        folder: `engine.exports.certify.Pictures.folder`.
        count: number of images in it.
        network: path of the run's own network.
    """
    work, unpacked = Path(folder), Path(folder, "unpacked")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)  # safe: Graft has just made it
    sys.path.insert(0, str(unpacked))
    classify = import_module("classify")
    pixels = np.load(work / "pixels.npy", "r")[: int(count)]
    answers = _answers(classify.probabilities, pixels)
    np.save(work / "answers.npy", answers)
    files = sorted((work / "encoded").iterdir())[: len(pixels)]
    if hasattr(getattr(classify, "model", None), "signatures"):
        np.save(work / "encoded_answers.npy", _from_bytes(classify, files, answers.shape[1]))
    cores = len(os.sched_getaffinity(0))
    measured = {
        "read_difference": max(
            int(np.abs(classify.read(file).astype(int) - own).max())
            for file, own in zip(files, pixels, strict=True)
        ),
        "batch": 1 if "ai_edge_litert" in sys.modules else BATCH,
        "imported": {name: name in sys.modules for name in ("tensorflow", "keras", "engine")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {cores} cores, {platform.system()}",
    }
    # Not earlier: "imported" must show only what the export needs.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    measured |= _speeds(classify.probabilities, Path(network), pixels[:BATCH])
    (work / "measured.json").write_text(json.dumps(measured), encoding="utf-8")


def _answers(probabilities, pixels) -> np.ndarray:
    """All answers; prints their number as they come."""
    rows = []
    for start in range(0, len(pixels), BATCH):
        rows.append(probabilities(pixels[start : start + BATCH]))
        print(f"answered {min(start + BATCH, len(pixels))}", flush=True)
    return np.concatenate(rows)


def _from_bytes(classify, files, classes) -> np.ndarray:
    """A SavedModel's answers to encoded files, one by one; NaN for a file it cannot decode."""
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
    """Images per second of the export and of Graft's own network when it predicts many images.

    The two take turns, so that other work on the host slows both down equally.
    """
    from engine.host.parallel import ordered_map
    from engine.models.litert import Network

    own = Network(network)
    subjects = {
        "images_per_second": lambda: probabilities(pixels),
        "graft_images_per_second": lambda: deque(ordered_map(own, pixels, own.threads), 0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
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
