"""Batches: many images, classified in the background and kept until they are deleted.

Light. A batch is a folder `GRAFT_HOME/batches/KEY`:

    batch.json        the request of the job (`engine.host.background`): run, title, time; then
                      progress and figures
    upload.zip        the images
    part-00000.npz …  answers, 64 images each, written as they come
    thumbs.bin        thumbnails, one after another

Memory does not grow with the number of images, a batch that is stopped keeps its answers, and a
page that is opened again finds everything.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from engine.data.sources import archive, folders, zip_names
from engine.errors import DamagedFile, DatasetError, RunError
from engine.host.background import Job, JobState
from engine.images.decode import EXTENSIONS
from engine.predict import batch_upload, confidence
from engine.predict.batch_upload import Upload
from engine.runs import trash
from engine.runs.runs import Run

if TYPE_CHECKING:
    from engine.predict.classifier import Answer

Item = tuple[str, str, Callable[[], "bytes | Path"]]
"""An image of a source: name, class folder or "", and a function that returns its bytes or path."""

REQUEST, UPLOAD, THUMBS = "batch.json", "upload.zip", "thumbs.bin"
PART = 64
"""Images whose answers are written at once: a page that looks every second sees them come."""
AT_ONCE = 8
"""At most this many batches run or wait. One works at a time (`lock`); the others need memory."""
DAYS = 7
"""Batches are deleted after this many days: their images are a guest's."""


@dataclass
class Rows:
    """Answers, one row per image, in the order of their names.

    Attributes:
        names: str array (n,).
        labels: str array (n,), the class folder an image lay in, "" for none.
        errors: str array (n,), why an image could not be read, "" if it could.
        seconds: float32 array (n,), from bytes to probabilities.
        probabilities: float32 array (n, classes), after temperature scaling; 0 on error.
        distances: float32 array (n,), to the training images (`confidence.Confidence.distances`);
            not a number on error, and if the run has no confidence data.
        measures: float32 array (n, 5), of `reference.MEASURES`; 0 on error.
        thumbs: int64 array (n, 2), where a thumbnail begins and ends in thumbs.bin.
    """

    names: np.ndarray
    labels: np.ndarray
    errors: np.ndarray
    seconds: np.ndarray
    probabilities: np.ndarray
    distances: np.ndarray
    measures: np.ndarray
    thumbs: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def read(self) -> np.ndarray:
        """bool array (n,), the images that could be read."""
        return self.errors == ""


COLUMNS = tuple(Rows.__annotations__)


class Batch:
    """A batch; its methods read the disk.

    Attributes:
        path: its folder.
        key: its name, 16 hexadecimal digits.
        run_id: of the run that classifies it.
        title: for people.
        created: unix seconds.
        source: path of the images' folder or zip.
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
            self.calibration = tuple(about.get("calibration", ()))
        except (TypeError, KeyError, DamagedFile):  # deleted, or not of this version of Graft
            raise DatasetError("this batch no longer exists; choose the images again") from None

    def state(self) -> JobState:
        """How far it is. The result holds seconds, images, figures (None unless images are in class
        folders, see `evaluation.measure`), drift (see `engine.predict.drift`) and stopped."""
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
            with np.load(part, allow_pickle=False) as found:
                loaded.append({name: found[name] for name in COLUMNS})
        if not loaded:
            return None
        return Rows(**{name: np.concatenate([part[name] for part in loaded]) for name in COLUMNS})

    def thumbnail(self, row: int) -> bytes:
        """The thumbnail of an image, an encoded JPEG; b"" if the image could not be read."""
        part = self.path / f"part-{row // PART:05d}.npz"
        with np.load(part, allow_pickle=False) as found:
            begin, end = found["thumbs"][row % PART].tolist()
        with open(self.path / THUMBS, "rb") as file:
            file.seek(begin)
            return file.read(end - begin)

    def image(self, row: int) -> bytes | Path:
        """The encoded image of a row. Raises DatasetError or ImageError if it cannot be read."""
        with items(self.source) as found:
            return found[row][2]()


def start(
    home: Path,
    run: Run,
    source: Upload,
    title: str,
    progress: Callable[[int, int], object] | None = None,
) -> Batch:
    """Starts to classify many images in the background.

    Args:
        home: Graft's home.
        run: a finished Run.
        source: list of (name, open binary file or bytes), or one open zip file.
        title: for people.
        progress: called with (done, total) while the images are copied.

    Raises:
        RunError: if the run has no model, or its calibration is damaged.
        DatasetError: if a zip cannot be used (`archive.check`), it has no image, or the disk is
            full; nothing is left then.
    """
    if not run.finished:
        raise RunError(f"run {run.id} has no model to predict with; choose a finished run")
    calibration = confidence.deciding(run)
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
        with items(path / UPLOAD, title) as found:
            if not found:
                raise DatasetError(
                    f"{zip_names.shown(title)} has no image that Graft can use; file names must "
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
    about["calibration"] = calibration
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


def rows_of(
    names: list[str],
    answers: list[Answer],
    distances: np.ndarray,
    labels: list[str] | None = None,
) -> Rows:
    """Answers that came one by one as `Rows`, for `table`.

    Args:
        names: list of n names.
        answers: list of n `classifier.Answer`.
        distances: float array (n,), not a number where unknown.
        labels: list of n true classes, "" for none.
    """
    count = len(answers)
    classes = len(answers[0].classes) if count else 0
    empty = np.zeros(classes, np.float32)
    return Rows(
        names=np.array(names, str),
        labels=np.array(labels or [""] * count, str),
        errors=np.array([answer.error or "" for answer in answers], str),
        seconds=np.array([answer.seconds for answer in answers], np.float32),
        probabilities=np.array([empty if a.error else a.probabilities for a in answers]),
        distances=np.asarray(distances, np.float32),
        measures=np.zeros((count, 5), np.float32),
        thumbs=np.zeros((count, 2), np.int64),
    )


@contextlib.contextmanager
def items(source: Path | str, title: str | None = None) -> Iterator[list[Item]]:
    """The images of a source; valid inside the `with`.

    Args:
        source: path of an image file, a folder (with all folders below it), or a zip.
        title: its name in messages.

    Yields:
        List of `Item`, sorted by name.

    Raises:
        DatasetError: for a zip or a folder that cannot be used.
    """
    source = Path(source)
    if source.suffix.lower() == ".zip" and not source.is_dir():
        with archive.Archive(source, 0, title, loose=True) as found:
            yield [(e.name, e.label, partial(found.read, e)) for e in found.entries]
    elif source.is_dir():
        folders.check(source)
        paths = sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower().lstrip(".") in EXTENSIONS and not path.name.startswith(".")
        )
        yield [
            (
                str(p.relative_to(source)),
                p.parent.name if p.parent != source else "",
                partial(Path, p),
            )
            for p in paths
        ]
    else:
        yield [(str(source), "", lambda: source)]


def table(
    run: Run, rows: Rows, verdicts: Sequence[confidence.Verdict | None] | None = None
) -> list[dict[str, Any]]:
    """Answers as plain rows for a table, JSON or CSV.

    Args:
        run: the Run that classified them.
        rows: of a Batch.
        verdicts: list of `confidence.Verdict` or None, of `confidence.Confidence.judge`; None if
            the run has no confidence data.

    Returns:
        Dicts of image, answer, probability (0 to 1), second, second_probability, sure (of
        `confidence.WORDS`, or ""), likely (classes, separated by a bar), distance, seconds,
        true_class and error; None where unknown.
    """
    classes = run.classes
    order = np.argsort(-rows.probabilities, axis=1, kind="stable")[:, :2]
    found = []
    for i in range(len(rows)):
        error, verdict = str(rows.errors[i]), verdicts and verdicts[i]
        first, second = order[i].tolist()
        row: dict[str, Any] = {"image": str(rows.names[i])}
        row |= {
            "answer": None if error else classes[first],
            "probability": None if error else float(rows.probabilities[i, first]),
            "second": None if error else classes[second],
            "second_probability": None if error else float(rows.probabilities[i, second]),
            "sure": confidence.WORDS[verdict.kind] if verdict else "",
            "likely": " | ".join(verdict.likely) if verdict else "",
            "distance": verdict.distance if verdict else None,
            "seconds": float(rows.seconds[i]),
            "true_class": str(rows.labels[i]) or None,
            "error": error or None,
        }
        found.append(row)
    return found


def to_csv(table_rows: list[dict[str, Any]]) -> str:
    """`table` as CSV (RFC 4180), with names in its first line.

    A spreadsheet would run a cell that starts like a formula, and file names come from strangers:
    such cells get a leading apostrophe (OWASP, CSV Injection).
    """
    file = io.StringIO()
    names = list(table_rows[0]) if table_rows else ["image"]
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    for row in table_rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return file.getvalue()


def _cell(value):
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
