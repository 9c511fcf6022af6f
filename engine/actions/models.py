"""What people do with models: classify, mark answers, calibrate, export and import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.accounts import roles
from engine.accounts.store import AccountError
from engine.actions.log import LOCAL, logged
from engine.errors import DamagedFile, GraftError
from engine.host import manifest
from engine.runs import files
from engine.runs.runs import Run

if TYPE_CHECKING:
    from engine.imports.imports import Imported
    from engine.predict.batch_upload import Upload
    from engine.predict.batches import Batch
    from engine.recipe import DatasetSpec


# -- batches: only their owner and admins see them -------------------------------------------------


def classify(
    home: Path,
    run: Run,
    source: Upload,
    title: str,
    progress: Callable[[int, int], object] | None = None,
    *,
    who: str = LOCAL,
) -> Batch:
    """`engine.predict.batches.start`; the batch belongs to who asks."""
    from engine.predict import batches

    with logged(home, who, "classify images", run=run.id, title=title) as line:
        made = batches.start(home, run, source, title, progress, who)
        line["batch"] = made.key
    return made


def batches(home: Path, run: Run | None = None, who: str = LOCAL) -> list[Batch]:
    """`engine.predict.batches.listed`, of those that somebody may see."""
    from engine.predict import batches

    found = batches.listed(home, run)
    return [each for each in found if roles.sees(home, who, each.owner)]


def batch(home: Path, key: str, who: str = LOCAL) -> Batch:
    """`engine.predict.batches.open_`. Raises AccountError if it is not theirs to see."""
    from engine.predict import batches

    found = batches.open_(home, key)
    if not roles.sees(home, who, found.owner):
        raise AccountError("this batch belongs to another user; only they and admins can see it")
    return found


def stop_batch(found: Batch, home: Path, who: str = LOCAL) -> None:
    """`engine.predict.batches.Batch.stop`."""
    with logged(home, who, "change a batch", found.owner, batch=found.key, stopped=True):
        found.stop()


def count_folder(found: Batch, home: Path, folder: str, label: str, who: str = LOCAL) -> None:
    """`engine.predict.batches.Batch.choose`."""
    what = {"batch": found.key, "folder": folder, "label": label}
    with logged(home, who, "change a batch", found.owner, **what):
        found.choose(folder, label)


def delete_batch(found: Batch, home: Path, who: str = LOCAL) -> None:
    """`engine.predict.batches.Batch.clear`."""
    with logged(home, who, "delete a batch", found.owner, batch=found.key):
        found.clear()


# -- marks: only their owner and admins see them ---------------------------------------------------


def mark(run: Run, name: str, data: bytes, answer: str, label: str, *, who: str = LOCAL) -> None:
    """`engine.predict.feedback.mark`; the mark belongs to who asks."""
    from engine.predict import feedback

    with logged(run.home, who, "mark images", run=run.id, label=label):
        feedback.mark(run, name, data, answer, label, who)


def marks(run: Run, who: str = LOCAL) -> list[dict[str, Any]]:
    """`engine.predict.feedback.marks`, of those that somebody may see."""
    from engine.predict import feedback

    return [row for row in feedback.marks(run) if roles.sees(run.home, who, row["owner"])]


def unmark(run: Run, content: str, owner: str = LOCAL, who: str = LOCAL) -> None:
    """`engine.predict.feedback.unmark`."""
    from engine.predict import feedback

    with logged(run.home, who, "delete marks", owner, run=run.id, image=content):
        feedback.unmark(run, content, owner)


def collect(
    run: Run, home: Path, name: str, who: str = LOCAL
) -> tuple[DatasetSpec, int, list[tuple[str, str]]]:
    """`engine.predict.feedback.collect`, of the marks that somebody may see."""
    from engine.data.sources import collection
    from engine.predict import feedback

    owner = collection.owner(home, name) if name in collection.names(home) else None
    with logged(home, who, "add images", owner, run=run.id, name=name) as line:
        found = feedback.collect(run, home, name, marks(run, who), who)
        line["images"] = found[1]
    return found


# -- calibration, exports, imports -----------------------------------------------------------------


def calibrate(
    run: Run, progress: Callable[[int, int], object] | None = None, who: str = LOCAL
) -> dict[str, Any]:
    """`engine.predict.calibrate.remember` and `calibrate`."""
    from engine.predict import calibrate as measuring
    from engine.predict import calibration

    with logged(run.home, who, "calibrate a run", run.owner, run=run.id):
        try:
            calibration.summary(run)
        except DamagedFile:  # it is created again, and nothing of it is needed for that
            with manifest.rewriting(run.path / files.MANIFEST, calibration.FILE):
                (run.path / calibration.FILE).unlink(missing_ok=True)
        measuring.remember(run, run.home, progress)
        return measuring.calibrate(run)


def export(
    run: Run, format: str, precision: str = "float32", again: bool = False, who: str = LOCAL
) -> None:
    """`engine.exports.background.begin`."""
    from engine.exports import background

    what = {"run": run.id, "format": format, "precision": precision}
    with logged(run.home, who, "export a run", run.owner, **what):
        background.begin(run, format, run.home, precision, again)


def cancel_export(run: Run, format: str, precision: str = "float32", who: str = LOCAL) -> None:
    """`engine.exports.background.cancel`."""
    from engine.exports import background

    what = {"run": run.id, "format": format, "precision": precision}
    with logged(run.home, who, "cancel an export", run.owner, **what):
        background.cancel(run, format, run.home, precision)


def download(run: Run, path: Path, who: str = LOCAL) -> bytes:
    """The bytes of an export of a run, anybody's.

    Args:
        run: the Run.
        path: of the zip (`engine.exports.exports.kept`).
        who: as everywhere.
    """
    with logged(run.home, who, "download an export", run=run.id, file=path.name):
        return path.read_bytes()


def import_run(
    path: str | Path, home: Path, name: str | None = None, *, who: str = LOCAL, **options: Any
) -> Imported:
    """`engine.imports.imports.add`, which takes the options; the run belongs to who asks."""
    from engine.imports import imports

    with logged(home, who, "import a run", path=str(path)) as line:
        made = imports.add(path, home, name, **options)
        made.run.update(owner=who)  # its status may name somebody in another home
        line["run"] = made.run.id
    return made


def import_upload(
    file: str, data: bytes | memoryview, home: Path, *, who: str = LOCAL, **options: Any
) -> Imported:
    """`import_run`, of an uploaded zip or .keras file.

    Args:
        file: the name of the upload, never used as a path.
        data: its bytes.
        home: Graft's home.
        who: as everywhere.
        options: of `engine.imports.imports.add`.
    """
    from engine.imports import imports

    keras = file.lower().endswith(".keras")
    with logged(home, who, "import a run", file=file) as line, imports.staging(home) as place:
        path = place / ("model.keras" if keras else "run.zip")
        try:
            path.write_bytes(data)
        except OSError as error:
            raise GraftError(
                f"the file could not be saved in {home} ({error.strerror}); free some space"
            ) from None
        made = imports.add(path, home, Path(file).stem[:60] if keras else None, **options)
        made.run.update(owner=who)
        line["run"] = made.run.id
    return made
