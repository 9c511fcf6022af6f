"""Many images at once: a batch is classified by a process of its own, streamed, and kept until it is cleared.

Light. A batch is a folder `GRAFT_HOME/batches/KEY`:

    batch.json        what was asked: run, title, time; then progress and figures (see `background.state`)
    upload.zip        the images, if they came through the browser
    part-00000.npz …  answers, 64 images each, appended as they come
    thumbs.bin        thumbnails, one after another

Memory does not grow with the number of images, a stop keeps what is done, and a page that is opened again
finds everything.
"""

import contextlib
import csv
import io
import re
import secrets
import shutil
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np

from engine import home as homes
from engine.data.sources import archive, folders, zip_names
from engine.errors import DamagedFile, DatasetError, RunError
from engine.host import background, processes
from engine.images.decode import EXTENSIONS
from engine.predict import confidence
from engine.runs import trash

REQUEST, UPLOAD, THUMBS = "batch.json", "upload.zip", "thumbs.bin"
PART = 64
"""Images whose answers are written at once: a page that looks every second sees them come."""
AT_ONCE = 8
"""Batches that may be under way or waiting; one works at a time (`lock`), the others take memory alone."""
DAYS = 7
"""A batch that came through the browser is deleted after so long: its images are a guest's."""
SURE = {
    "sure": "sure",
    "likely": "likely",
    "far": "far from training",
    "unsure": "not sure",
    "unlike": "not like training",
}
"""Words for `confidence.Verdict.kind`."""
COLUMNS = (
    "names",
    "labels",
    "errors",
    "seconds",
    "probabilities",
    "distances",
    "measures",
    "thumbs",
)


@dataclass
class Rows:
    """Answers, one row an image, in the order of their names.

    Attributes:
        names: str array (n,).
        labels: str array (n,), the class folder an image lay in, "" for none.
        errors: str array (n,), why an image could not be read, "" if it could.
        seconds: float32 array (n,), from bytes to probabilities.
        probabilities: float32 array (n, classes), after temperature scaling; 0 on error.
        distances: float32 array (n,), to the training images (`confidence.Confidence.distances`); not a
            number on error, and where the run knows nothing of its certainty.
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

    def __len__(self):
        return len(self.names)

    @property
    def read(self) -> np.ndarray:
        """bool array (n,), the images that could be read."""
        return self.errors == ""


class Batch:
    """A batch, seen from outside; every attribute reads the disk.

    Attributes:
        path: its folder.
        key: its name, 16 hexadecimal digits.
        title: for people.
        created: unix seconds.
        source: path of the images' folder or zip.
        calibration: (temperature, threshold of distance) of the run when they were answered.
    """

    def __init__(self, path):
        self.path, self.key = Path(path), Path(path).name
        try:
            about = homes.read_json(self.path / REQUEST)["stage"]
            self.run_id, self.title, self.created = about["run"], about["title"], about["created"]
            self.source = Path(about["source"])
            self.calibration = tuple(about.get("calibration", ()))
        except (TypeError, KeyError, DamagedFile):  # deleted, or not of this version of Graft
            raise DatasetError("there is no such batch any more; give the images again") from None

    def state(self) -> dict:
        """How far it is: `background.state`; result holds seconds, images, skipped, figures (None unless
        images lie in class folders, see `evaluation.measure`), drift (see `engine.predict.drift`) and stopped."""
        now = background.state(self.path / REQUEST)
        if now["state"] == "failed" and not homes.read_json(self.path / REQUEST, {}).get("error"):
            now["error"] = (
                "classifying broke off; what was answered is here, so give the images again for the rest"
            )
        return now

    def stop(self) -> None:
        """Ends it; what is answered stays."""
        path = self.path / REQUEST
        asked = homes.read_json(path, {})
        processes.end(asked)
        asked = homes.read_json(path, {})  # it may have ended by itself
        if not asked.get("result"):
            homes.write_json(path, asked | {"result": {"stopped": True}})

    def clear(self) -> None:
        """Deletes it, with the images if they came through the browser."""
        processes.end(homes.read_json(self.path / REQUEST, {}))
        shutil.rmtree(self.path, ignore_errors=True)

    def rows(self) -> Rows | None:
        """The answers so far; None before the first."""
        parts = sorted(self.path.glob("part-*.npz"))
        loaded = []
        for part in parts:
            with np.load(part, allow_pickle=False) as found:
                loaded.append({name: found[name] for name in COLUMNS})
        if not loaded:
            return None
        return Rows(**{name: np.concatenate([part[name] for part in loaded]) for name in COLUMNS})

    def thumbnail(self, row: int) -> bytes:
        """The thumbnail of an image, an encoded JPEG; b"" if it could not be read."""
        part = self.path / f"part-{row // PART:05d}.npz"
        with np.load(part, allow_pickle=False) as found:
            begin, end = found["thumbs"][row % PART].tolist()
        with open(self.path / THUMBS, "rb") as file:
            file.seek(begin)
            return file.read(end - begin)

    def image(self, row: int) -> bytes:
        """The encoded image of a row. Raises DatasetError or ImageError if it can no longer be read."""
        with items(self.source) as found:
            return found[row][2]()


def start(home, run, source, title: str, progress=None) -> Batch:
    """Begins to classify many images in the background.

    Args:
        home: Graft's home.
        run: a finished Run.
        source: list of (name, open binary file or bytes), or one open file that is a zip.
        title: for people.
        progress: called with (done, total) while the images are taken in.

    Raises:
        RunError: if the run has no model, or its calibration is damaged.
        DatasetError: if a zip cannot be used (`archive.check`), nothing in it is an image, or the disk is
            full; nothing is left then.
    """
    if not run.finished:
        raise RunError(f"run {run.id} has no model to predict with; choose a finished run")
    calibration = confidence.deciding(run)
    sweep(home)
    if sum(b.state()["state"] == "running" for b in listed(home)) >= AT_ONCE:
        raise DatasetError(
            f"{AT_ONCE} batches are under way or waiting on this host; wait until one is done, or stop one"
        )
    path = Path(home) / "batches" / secrets.token_hex(8)
    try:
        path.mkdir(parents=True)
        if isinstance(source, list):
            _pack(path / UPLOAD, source, progress)
        else:
            with archive.passing_upload(home, source) as taken:
                archive.Archive(taken, 0, zip_names.shown(title), loose=True).close()
                shutil.move(taken, path / UPLOAD)
        with items(path / UPLOAD, title) as found:
            if not found:
                raise DatasetError(
                    f"{zip_names.shown(title)} holds no image that Graft can use; files must end in "
                    f"{', '.join(EXTENSIONS[:8])} or the like"
                )
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise DatasetError(
            f"the images could not be kept in {path.parent} ({error.strerror}); free some space or set "
            "GRAFT_HOME to another disk"
        ) from None
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    about = {"run": run.id, "title": title, "created": time.time(), "source": str(path / UPLOAD)}
    about["calibration"] = calibration
    background.begin(path / REQUEST, "batch", run.recipe, home, about, CUDA_VISIBLE_DEVICES="-1")
    return Batch(path)


def _pack(path, files, progress) -> None:
    """Loose files as a zip of their own, stored as they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for done, (name, data) in enumerate(files, 1):
            if hasattr(data, "read"):
                data.seek(0)
                data = data.read()
            clean = "/".join(
                part for part in _plain(name).split("/") if part not in ("", ".", "..")
            )
            stem, dot, extension = clean.rpartition(".")
            number = 1
            while clean in packed.NameToInfo:  # the same name twice: both are answered
                number += 1
                clean = f"{stem or extension} ({number}){dot}{extension if stem else ''}"
            packed.writestr(clean, data)
            if progress:
                progress(done, len(files))


def _plain(name: str) -> str:
    """A file's name with nothing that an archive would refuse: this zip is ours, its names are a user's."""
    name = zip_names.shown(str(name).replace("\\", "/")).replace("\\", "_")
    name = re.sub(r"^[A-Za-z]:", "", name).lstrip("/.")
    return re.sub(r"(^|/)\.+", r"\1_", name) or "image"


def open_(home, key: str) -> Batch:
    """A batch by its key. Raises DatasetError if there is none."""
    if not re.fullmatch(r"[0-9a-f]{16}", str(key)):
        raise DatasetError("that is no batch of images; give the images again")
    return Batch(Path(home) / "batches" / key)


def listed(home, run=None) -> list[Batch]:
    """All batches, or those of a run, newest first."""
    found = []
    for path in (Path(home) / "batches").glob(f"*/{REQUEST}"):
        with contextlib.suppress(DatasetError):  # deleted this moment
            batch = Batch(path.parent)
            if run is None or batch.run_id == run.id:
                found.append(batch)
    return sorted(found, key=lambda batch: -batch.created)


def sweep(home) -> None:
    """Deletes batches older than `DAYS`, and those of runs that are gone for good."""
    for batch in listed(home):
        gone = not (Path(home) / "runs" / batch.run_id).exists() and not trash.find(
            home, batch.run_id
        )
        if gone or batch.created < time.time() - 86_400 * DAYS:
            batch.clear()
    known = {batch.path for batch in listed(home)}
    for path in (Path(home) / "batches").glob("*/"):
        if path not in known and path.stat().st_mtime < time.time() - 86_400:
            shutil.rmtree(path, ignore_errors=True)  # of a start that was killed, or a damaged one


def lock(home) -> filelock.FileLock:
    """Whoever classifies a batch holds this: two at once would only slow each other down."""
    return filelock.FileLock(Path(home) / "batches" / ".lock")


def rows_of(names, answers, distances, labels=None) -> Rows:
    """Answers that came one by one as `Rows`, for `table`.

    Args:
        names: list of n names.
        answers: list of n `classifier.Answer`.
        distances: float array (n,), not a number where nothing is known.
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
def items(source, title: str | None = None):
    """The images of a source; valid inside the `with`.

    Args:
        source: path of an image file, a folder (with all folders below it), or a zip.
        title: what messages call it.

    Yields:
        List of (name, class folder or "", a function that reads: bytes or a path), sorted by name.

    Raises:
        DatasetError: for a zip or a folder that cannot be used.
    """
    source = Path(source)
    if source.suffix.lower() == ".zip" and not source.is_dir():
        with archive.Archive(source, 0, title, loose=True) as found:
            yield [(e.name, e.label, lambda e=e: found.read(e)) for e in found.entries]
    elif source.is_dir():
        folders.check(source)
        paths = sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower().lstrip(".") in EXTENSIONS and not path.name.startswith(".")
        )
        yield [
            (str(p.relative_to(source)), p.parent.name if p.parent != source else "", lambda p=p: p)
            for p in paths
        ]
    else:
        yield [(str(source), "", lambda: source)]


def table(run, rows: Rows, verdicts=None) -> list[dict]:
    """Answers as plain rows for a table, JSON or CSV.

    Args:
        run: the Run that answered.
        rows: of a Batch.
        verdicts: list of `confidence.Verdict` or None, of `confidence.Confidence.judge`; None where
            the run knows nothing of its certainty.

    Returns:
        Dicts of image, answer, probability (0 to 1), second, second_probability, sure (of `confidence.WORDS`,
        or ""), likely (classes, separated by a bar), distance, seconds, true_class
        and error; None where there is nothing to say.
    """
    classes = run.classes
    order = np.argsort(-rows.probabilities, axis=1, kind="stable")[:, :2]
    found = []
    for i in range(len(rows)):
        error, verdict = str(rows.errors[i]), verdicts and verdicts[i]
        first, second = order[i].tolist()
        row = {"image": str(rows.names[i])}
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


def to_csv(table_rows) -> str:
    """`table` as CSV (RFC 4180), with names in its first line.

    A spreadsheet would run a cell that begins like a formula, and names are a stranger's: such cells get
    an apostrophe before them (OWASP, CSV Injection).
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
