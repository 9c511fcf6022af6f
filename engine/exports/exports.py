"""Exports: a finished run's model for other programs, each with a certificate that it answers alike.

Light but for `export`: conversion (`engine.exports.convert`) needs TensorFlow, so pages and commands let a
process of its own do it (`engine.exports.background`). An export is one zip under `exports` in the run's folder:

    model.keras, saved_model, model.tflite or model.onnx
    labels.txt          class names in the order of the probabilities, one a line
    preprocessing.json  what must be done to an image before the model sees it
    classify.py         classifies an image with nothing but the format's own runtime
    MODEL_CARD.md       data, recipe, figures with intervals, limits, licences
    recipe.yaml         what was trained
    certificate.json    how the export compares with the run itself (`engine.exports.certify`)

One that does not agree carries DISAGREES in its name.
"""

import json
import os
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import filelock

from engine import home as homes
from engine.errors import GraftError, RunError
from engine.exports import card as export_card
from engine.exports import certify, formats
from engine.predict import calibration


def check(run, format: str, precision: str = "float32") -> None:
    """Raises GraftError, one sentence, if a run cannot be exported so."""
    if format not in formats.FORMATS:
        raise GraftError(
            f"there is no format {format!r}; choose one of {', '.join(formats.FORMATS)}"
        )
    if precision not in formats.FORMATS[format].precisions:
        raise GraftError(
            f"{formats.FORMATS[format].title} cannot be exported in {precision!r}; choose "
            f"{' or '.join(formats.FORMATS[format].precisions)}"
        )
    if not run.finished or not (run.path / "final.keras").exists():
        raise RunError(
            f"run {run.id} has no model to export (it is {run.status}); choose a finished run"
        )
    if absent := formats.missing(format):
        raise GraftError(
            f"{formats.FORMATS[format].title} needs {', '.join(absent)}, which Graft does without otherwise; "
            f"install it with: pip install -r {formats.EXTRA}"
        )


def name_of(run, format: str, precision: str = "float32") -> str:
    """An export's name, without ".zip": the run's id, the format, and the precision unless float32."""
    return "-".join([run.id, format] + [precision] * (precision != "float32"))


def kept(run, format: str, precision: str = "float32") -> dict | None:
    """The export that was made before, if it still answers as the run does; see `export`.

    None if there is none that can be read, if the run has been calibrated anew since, or if it was held to
    other bounds than today's.
    """

    folder, name = run.path / "exports", name_of(run, format, precision)
    for path in (folder / f"{name}.zip", folder / f"{name}-DISAGREES.zip"):
        if not path.exists():
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                certificate = json.loads(archive.read("certificate.json"))
            same = certificate["bounds"] == formats.BOUNDS[precision]
            same = same and certificate["temperature"] == calibration.temperature_of(run)
            same = same and "read_difference" in certificate
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError, OSError):
            continue  # damaged by somebody else: it is made anew
        if same:
            return {"path": path, "bytes": path.stat().st_size, "certificate": certificate}
    return None


def export(run, format, output=None, home=None, report=None, precision="float32") -> dict:
    """Exports a run and certifies the export, here and now.

    Heavy: imports TensorFlow into this process. Pages and commands call `export_job.begin`.

    Args:
        run: a finished Run.
        format: of `engine.exports.formats.FORMATS`.
        output: a folder that gets a copy of the zip; None for none.
        home: where the run's dataset is looked for; None for the home that the run lies in.
        report: called with (text, done, total); may raise to stop.
        precision: of the format's precisions.

    Returns:
        A dict: path, of the zip; bytes; certificate (see `engine.exports.certify.certify`), whose `agrees`
        says whether the export may be relied on, with what is stored in float16
        (`engine.exports.half.Stored` as a dict, None for other precisions) and digests of the files.

    Raises:
        GraftError: one sentence, if it cannot be exported so, or cannot be loaded again.
    """
    from engine.exports import convert

    check(run, format, precision)
    home = Path(home) if home else run.path.parent.parent
    report = report or (lambda text, done=0, total=None: None)
    name = name_of(run, format, precision)
    folder = run.path / "exports"
    folder.mkdir(exist_ok=True)
    work = work_folder(run, format, precision)
    # One at a time, or each would slow down the other while its speed is measured.
    with filelock.FileLock(folder / ".lock"):
        shutil.rmtree(work, ignore_errors=True)  # of one that was killed
        work.mkdir()
        try:
            pictures = certify.prepare(run, home, work, report)
            report("Converting the model")
            content = work / "content"
            content.mkdir()
            calibration, half = convert.write(
                run, format, precision, content, pictures.pixels, report
            )
            export_card.write_papers(run, format, content)
            aside = work / "export.zip"
            _pack(content, aside)
            report("Checking the export in a process of its own", 0, len(pictures.pixels))
            certificate = certify.certify(
                run, format, precision, aside, pictures, calibration, report
            )
            certificate["float16"] = half
            certificate["files"] = _digests(content, formats.FORMATS[format].model)
            card = export_card.model_card(run, home, format, precision, certificate)
            with zipfile.ZipFile(aside, "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("MODEL_CARD.md", card)
                archive.writestr("certificate.json", json.dumps(certificate, indent=1) + "\n")
            return _keep(aside, folder, name, certificate, output)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def work_folder(run, format, precision) -> Path:
    """The folder in which an export is made; nothing of it is left in the end."""
    return run.path / "exports" / f".{name_of(run, format, precision)}"


def _pack(folder, path) -> None:
    """Zips all files of a folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))


def _digests(folder, model) -> dict[str, str]:
    """SHA-256 of the model's files, so that a certificate cannot be mistaken for another file's."""
    root = folder / model
    files = sorted(f for f in root.rglob("*") if f.is_file()) if root.is_dir() else [root]
    return {str(f.relative_to(folder)): sha256(f.read_bytes()).hexdigest() for f in files}


def _keep(aside, folder, name, certificate, output) -> dict:
    """Gives a finished zip its name, in one step, and copies it to where it was asked for."""
    verdicts = {True: f"{name}.zip", False: f"{name}-DISAGREES.zip"}
    path = folder / verdicts[certificate["agrees"]]
    with open(aside, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)
    (folder / verdicts[not certificate["agrees"]]).unlink(missing_ok=True)
    found = {"path": path, "bytes": path.stat().st_size, "certificate": certificate}
    return copy_to(found, output) if output else found


def copy_to(found: dict, output) -> dict:
    """Copies an export into a folder, which is made if missing; returns it with the copy's path.

    Raises:
        GraftError: if the folder cannot be written to.
    """
    target = Path(output) / found["path"].name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with homes.replacing(target, "wb") as file, open(found["path"], "rb") as source:
            shutil.copyfileobj(source, file)
    except OSError as error:
        raise GraftError(
            f"the export cannot be written to {output} ({error.strerror}); choose another folder, or "
            f"take it from {found['path']}"
        ) from None
    return found | {"path": target}
