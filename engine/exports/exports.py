"""A run's exports: its model for other programs, each with a certificate. Light.

An export is one zip in the folder `exports` of the run's folder:

    model.keras, saved_model, model.tflite or model.onnx
    labels.txt          class names, one per line, in the order of the probabilities
    preprocessing.json  how to prepare an image for the model
    classify.py         classifies an image; needs only the format's own runtime
    depth.py            how it reads images of more than 8 bits (`engine.images.depth`)
    MODEL_CARD.md       data, recipe, metrics with intervals, limits, licences
    recipe.yaml         the recipe that was trained
    certificate.json    how the export's answers compare with the run's (`engine.exports.certify`)

The name of an export whose answers differ too much ends in -DISAGREES. `engine.exports.worker`
makes exports in a separate process, which `engine.exports.background` starts.
"""

import json
import shutil
import zipfile
from pathlib import Path

from engine import home as homes
from engine.errors import GraftError, RunError
from engine.exports import formats
from engine.predict import calibration
from engine.runs import files
from engine.runs.runs import Run


def check(run: Run, format: str, precision: str = "float32") -> None:
    """Raises GraftError if a run cannot be exported in a format and precision."""
    if format not in formats.FORMATS:
        raise GraftError(
            f"there is no format {format!r}; choose one of {', '.join(formats.FORMATS)}"
        )
    about = formats.FORMATS[format]
    if precision not in about.precisions:
        raise GraftError(
            f"{about.title} cannot be exported in {precision!r}; choose "
            f"{' or '.join(about.precisions)}"
        )
    if not run.finished or not (run.path / files.KERAS).exists():
        raise RunError(
            f"run {run.id} has no model to export (it is {run.status}); choose a finished run"
        )
    if absent := formats.missing(format):
        raise GraftError(
            f"{about.title} needs {', '.join(absent)}, which Graft does not install by default; "
            f"install with: pip install -r {formats.EXTRA}"
        )


def name_of(run: Run, format: str, precision: str = "float32") -> str:
    """An export's name without ".zip": run id, format, and precision unless float32."""
    return "-".join([run.id, format] + [precision] * (precision != "float32"))


def work_folder(run: Run, format: str, precision: str) -> Path:
    """The temporary folder in which an export is made; deleted at the end."""
    return run.path / files.EXPORTS / f".{name_of(run, format, precision)}"


def kept(run: Run, format: str, precision: str = "float32") -> dict | None:
    """An export made earlier, if its answers are still the run's.

    Returns:
        See `engine.exports.worker.export`. None if there is no readable export, if the run was
        calibrated again since, or if the bounds for its precision have changed.
    """
    name = name_of(run, format, precision)
    for path in (run.path / files.EXPORTS / f"{name}{end}.zip" for end in ("", "-DISAGREES")):
        if not path.exists():
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                certificate = json.loads(archive.read("certificate.json"))
            same = (
                certificate["bounds"] == formats.BOUNDS[precision]
                and certificate["temperature"] == calibration.temperature_of(run)
                and "read_difference" in certificate
            )
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError, OSError):
            continue  # damaged from outside; the next export replaces it
        if same:
            return {"path": path, "bytes": path.stat().st_size, "certificate": certificate}
    return None


def copy_to(found: dict, output: Path) -> dict:
    """Copies an export into a folder, creating the folder if needed.

    Args:
        found: an export, as returned by `kept`.
        output: the folder.

    Returns:
        The export, with the copy's path.

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
            f"the export cannot be written to {output} ({error.strerror}); choose another folder, "
            f"or copy it from {found['path']}"
        ) from None
    return found | {"path": target}
