"""The process that inspects a dataset: `python -m engine.inspection.worker PROGRESS_JSON HOME`.

Heavy, in its functions. Images stream through once: neither their number nor their size decides the
memory it takes. What is done is on the disk, so an inspection that was ended goes on where it was.
"""

import os
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path

import filelock
import numpy as np

from engine import home as homes
from engine.data import datasets
from engine.data.unreadable import READING
from engine.errors import DatasetError, GraftError, unexpected
from engine.host.parallel import cores, ordered_map
from engine.images import measures
from engine.images.thumbnails import Thumbnails
from engine.inspection import duplicates, inspection
from engine.recipe import DatasetSpec

NICE = 10
"""A run that trains at the same time gets nine tenths of a core that both want (sched(7): each step is
worth a factor of 1.25)."""
BATCH = 256
"""Images whose records are brought to the disk at once: 1.1 MB of records, 1.5 MB of thumbnails."""
PACKAGES = ("pillow", "numpy", "ImageHash", "scikit-learn")


def inspect(spec, home, recipe=None, report=None) -> None:
    """Inspects a prepared dataset in the foreground; what is known already is not done again.

    Args:
        spec: a DatasetSpec; its overlay does not matter.
        home: Graft's home.
        recipe: whose backbone is asked for wrong labels and outliers; None leaves that out.
        report: called with (stage, text, done, total) now and then; may raise to stop.

    Raises:
        DatasetError: if the dataset is not prepared, or none of its images can be read any more.
        BackboneError: if the recipe's backbone cannot be had. What the pixels say is kept then.
    """
    report = report or (lambda stage, text, done, total: None)
    plain = spec.model_copy(update={"overlay": ""})
    dataset = datasets.open_dataset(plain, home)
    thumbs = Thumbnails(home, dataset.source_fingerprint)
    folder = thumbs.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / "inspection.lock"):
        if not (folder / "pixels.npz").exists():
            _pixels(dataset, folder, thumbs, report)
        if recipe is not None and inspection.state(plain, home, recipe)["state"] != "done":
            _features(dataset, recipe, home, folder, report)


def _pixels(dataset, folder, thumbs, report) -> None:
    """Measures every image, finds copies, and writes pixels.npz."""
    begun = time.time()
    path = folder / "records.bin"
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
    measured = time.time()

    def tell(done, total):
        report("duplicates", inspection.STAGES["duplicates"], done, total)

    arrays = {name: np.array(records[name]) for name in inspection.PIXELS if name != "groups"}
    arrays["groups"] = duplicates.groups(records["grey"], arrays["phash"], dataset.contents, tell)
    inspection.save(folder / "pixels.npz", dataset, arrays)
    facts = {
        "images": len(dataset),
        "lost": lost,
        "taken_up_at": before,
        "measure_seconds": round(measured - begun, 2),
        "duplicates_seconds": round(time.time() - measured, 2),
    }
    _note(folder, pixels=facts)
    path.unlink()


def _records_done(path) -> int:
    """How many images have their record in a file that an earlier inspection left; it is cut off behind
    them."""
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


def _measure(dataset, path, before, thumbs, report) -> None:
    """Appends the record of every image from `before` on, and keeps the thumbnails."""
    total, text, batch = len(dataset), inspection.STAGES["pixels"], []

    def measure(row):
        try:
            return measures.measure(dataset.image_bytes(row), row)
        except READING:  # gone or changed since it was prepared: findings pass over it
            return measures.lost(row), None

    report("pixels", text, before, total)
    with open(path, "ab") as file:

        def keep():
            # Thumbnails first: an image with a record is not looked at again.
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
            report("pixels", text, row + 1, total)
        keep()


def _features(dataset, recipe, home, folder, report) -> None:
    """Asks the recipe's backbone, and writes features-KEY.npz."""
    report("features", "Starting TensorFlow", 0, None)
    from engine.features import of_dataset
    from engine.inspection import suspects

    begun = time.time()

    def looking(phase, text, done, total):
        report("features", text, done, total)

    def judging(text, done, total):
        report("suspects", text, done, total)

    with of_dataset.open_features(dataset, recipe, home, looking) as features:
        key, looked = features.key, time.time()
        path = folder / f"features-{key}.npz"
        if not path.exists():
            found = suspects.analyse(
                features, dataset.labels, dataset.classes, judging, contents=dataset.contents
            )
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


def _note(folder, **facts) -> None:
    """Adds to report.json."""
    path = folder / "report.json"
    versions = {name: metadata.version(name) for name in PACKAGES}
    known = homes.read_json(path, {})
    homes.write_json(path, known | {"versions": versions, "finished": time.time()} | facts)


def main(request: str, home: str) -> int:
    """Entry of the background process: keeps the progress file, which ends with done_at or with one
    sentence in `error`, whatever happens."""
    path, home = Path(request), Path(home)
    os.nice(NICE)
    until = time.monotonic() + 30
    while homes.read_json(path, {}).get("pid") != os.getpid() and time.monotonic() < until:
        time.sleep(0.02)
    asked, last = homes.read_json(path), [0.0, None]
    now = {}

    def report(stage, text, done, total):
        """At most five writes a second: a page looks once a second."""
        if (stage, text) == last[1] and time.time() - last[0] < 0.2 and done != total:
            return
        if (stage, text) != last[1]:
            # What an earlier inspection did says nothing of this one's speed.
            now.update(started_counting=time.time(), begun_at=done)
        last[:] = time.time(), (stage, text)
        now.update(stage=stage, text=text, done=done, total=total)
        homes.write_json(path, asked | now)

    try:
        from engine.recipe import Recipe

        recipe = Recipe.from_dict(asked["recipe"]) if asked["recipe"] else None
        inspect(DatasetSpec.model_validate(asked["spec"]), home, recipe, report)
        answer = {"done_at": time.time()}
    except GraftError as error:
        answer = {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        log = path.parent / inspection.LOG
        answer = {"error": unexpected(error, "the inspection", log)}
    homes.write_json(path, asked | now | answer)
    return 0 if "done_at" in answer else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
