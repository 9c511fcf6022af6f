"""Batches: many images, classified in the background and kept until they are deleted.

Light. A batch is a folder `GRAFT_HOME/batches/KEY`:

    batch.json        the request of the job (`engine.host.background`): run, title, time; then
                      progress and figures
    upload.zip        the images
    part-00000.npz …  answers, 64 images each, written as they come
    thumbs.bin        thumbnails, one after another
    folders.json      {folder: class or ""}, where a person decided

Memory does not grow with the number of images, a batch that is stopped keeps its answers, and a
page that is opened again finds everything.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from engine import home as homes
from engine.accounts.roles import LOCAL
from engine.data.sources import reading, tree
from engine.errors import DamagedFile, DatasetError, RunError
from engine.host.background import Job, JobState
from engine.host.words import shown
from engine.images.decode import EXTENSIONS
from engine.predict import batch_upload, confidence
from engine.predict.batch_upload import Upload
from engine.predict.rows import COLUMNS, Rows, joined
from engine.runs import trash
from engine.runs.runs import Run

REQUEST, UPLOAD, THUMBS, CHOSEN = "batch.json", "upload.zip", "thumbs.bin", "folders.json"
PART = 64
"""Images whose answers are written at once: a page that looks every second sees them come."""
AT_ONCE = 8
"""At most this many batches run or wait. One works at a time (`lock`); the others need memory."""
DAYS = 7
"""Batches are deleted after this many days: their images are a guest's."""


class Batch:
    """A batch; its methods read the disk.

    Attributes:
        path: its folder.
        key: its name, 16 hexadecimal digits.
        run_id: of the run that classifies it.
        title: for people.
        owner: who started it; `roles.LOCAL` for one of before accounts.
        created: unix seconds.
        source: path of the images' folder or zip.
        classes: of the run, which folders of the images may be named after.
        left_out: [[name, why]] of files that are no images (`tree.told`).
        calibration: (temperature, distance threshold) of the run when they were classified.

    Raises:
        DatasetError: if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.key = Path(path), Path(path).name
        self._job = Job(self.path / REQUEST, "batch")
        try:
            asked = self._job.request()
            # Earlier versions of Graft called the parameters so.
            about = asked["parameters"]["about"] if "parameters" in asked else asked["stage"]
            self.run_id, self.title, self.created = about["run"], about["title"], about["created"]
            self.source = Path(about["source"])
            self.owner: str = about.get("owner", LOCAL)
            self.calibration = tuple(about.get("calibration", ()))
            self.left_out = about.get("left_out", [])
            self.classes = about.get("classes", [])
        except (TypeError, KeyError, DamagedFile):  # deleted, or not of this version of Graft
            raise DatasetError("this batch no longer exists; choose the images again") from None

    def state(self) -> JobState:
        """How far it is. The result holds seconds, images, drift (see `engine.predict.drift`) and
        stopped."""
        return self._job.state()

    def stop(self) -> None:
        """Stops it; the answers so far stay."""
        self._job.cancel({"stopped": True})

    def clear(self) -> None:
        """Deletes it, with its images and answers."""
        self._job.cancel()
        shutil.rmtree(self.path, ignore_errors=True)

    def rows(self) -> Rows | None:
        """The answers so far; None before the first."""
        loaded = []
        for part in sorted(self.path.glob("part-*.npz")):
            with homes.reading(part), np.load(part, allow_pickle=False) as found:
                loaded.append(Rows(**{name: found[name] for name in COLUMNS}))
            if not np.isfinite(loaded[-1].probabilities).all():
                raise DatasetError(
                    f"{part} has answers that are not probabilities; delete this batch and "
                    "classify its images again"
                )
        if not loaded:
            return None
        return joined(loaded)

    @property
    def chosen(self) -> dict[str, str]:
        """{folder: class, or "" for none}, where a person decided (`class_folders.match`)."""
        return homes.read_json(self.path / CHOSEN) or {}

    def choose(self, folder: str, label: str) -> None:
        """Lets a folder count as a class; as none for ""."""
        homes.write_json(self.path / CHOSEN, self.chosen | {folder: label})

    def thumbnail(self, row: int) -> bytes:
        """The thumbnail of an image, an encoded JPEG; b"" if the image could not be read."""
        begin, end = self._value("thumbs", row).tolist()
        with open(self.path / THUMBS, "rb") as file:
            file.seek(begin)
            return file.read(end - begin)

    def _value(self, column: str, row: int) -> Any:
        part = self.path / f"part-{row // PART:05d}.npz"
        with homes.reading(part), np.load(part, allow_pickle=False) as found:
            return found[column][row % PART]

    def image(self, row: int) -> bytes | Path:
        """The encoded image of a row. Raises DatasetError or ImageError if it cannot be read."""
        name = str(self._value("names", row))
        with reading.opened(self.source, self.classes) as (found, read):
            for image in found.images:
                if shown(image.name) == name:
                    return read(image)
        raise DatasetError(f"{name} is no longer in the images of this batch")


def start(
    home: Path,
    run: Run,
    source: Upload,
    title: str,
    progress: Callable[[int, int], object] | None = None,
    owner: str = LOCAL,
) -> Batch:
    """Starts to classify many images in the background.

    Args:
        home: Graft's home.
        run: a finished Run.
        source: list of (name, open binary file or bytes), or one open zip file.
        title: for people.
        progress: called with (done, total) while the images are copied.
        owner: of the batch.

    Raises:
        RunError: if the run has no model, or its calibration is damaged.
        DatasetError: if a zip cannot be used (`archive.check`), it has no image, or the disk is
            full; nothing is left then.
    """
    if not run.finished:
        raise RunError(f"run {run.id} has no model to predict with; choose a finished run")
    calibration = confidence.deciding(run)
    homes.writable(home)
    sweep(home)
    if sum(b.state()["state"] == "running" for b in listed(home)) >= AT_ONCE:
        raise DatasetError(
            f"{AT_ONCE} batches are already running or waiting on this host, which is the most "
            "allowed; wait until one ends, or stop one"
        )
    path = Path(home) / "batches" / secrets.token_hex(8)
    try:
        path.mkdir(parents=True)
        batch_upload.store(home, path / UPLOAD, source, title, progress)
        with reading.opened(path / UPLOAD, run.classes, title) as (found, _):
            left_out = tree.told(found)
            if not found.images:
                raise DatasetError(
                    f"{shown(title)} has no image that Graft can use; file names must "
                    f"end in {', '.join(EXTENSIONS[:8])} or similar"
                )
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise DatasetError(
            f"the images could not be stored in {path.parent} ({error.strerror}); free some space, "
            "or set GRAFT_HOME to another disk"
        ) from None
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    about = {"run": run.id, "title": title, "created": time.time(), "source": str(path / UPLOAD)}
    about |= {"owner": owner, "calibration": calibration, "left_out": left_out}
    about["classes"] = run.classes
    Job(path / REQUEST, "batch").start(home, {"CUDA_VISIBLE_DEVICES": "-1"}, about=about)
    return Batch(path)


def open_(home: Path, key: str) -> Batch:
    """A batch by its key. Raises DatasetError if it does not exist."""
    if not re.fullmatch(r"[0-9a-f]{16}", str(key)):
        raise DatasetError("there is no such batch of images; choose the images again")
    return Batch(Path(home) / "batches" / key)


def listed(home: Path, run: Run | None = None) -> list[Batch]:
    """All batches, or those of a run, newest first."""
    found = []
    for path in (Path(home) / "batches").glob(f"*/{REQUEST}"):
        with contextlib.suppress(DatasetError):  # deleted this moment
            batch = Batch(path.parent)
            if run is None or batch.run_id == run.id:
                found.append(batch)
    return sorted(found, key=lambda batch: -batch.created)


def sweep(home: Path) -> None:
    """Deletes batches older than `DAYS`, and those of runs that were deleted."""
    for batch in listed(home):
        gone = not (Path(home) / "runs" / batch.run_id).exists() and not trash.find(
            home, batch.run_id
        )
        if gone or batch.created < time.time() - 86_400 * DAYS:
            batch.clear()
    known = {batch.path for batch in listed(home)}
    for path in (Path(home) / "batches").glob("*/"):
        if path not in known and path.stat().st_mtime < time.time() - 86_400:
            shutil.rmtree(path, ignore_errors=True)  # its start was killed, or it is damaged


def lock(home: Path) -> filelock.FileLock:
    """Held while a batch is classified: two at once would only slow each other down."""
    return filelock.FileLock(Path(home) / "batches" / ".lock")
