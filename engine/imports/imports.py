"""Imports models: a run folder, a zip of one, or a `.keras` file becomes a run. Light.

A foreign file may be malicious, and Keras' safe mode does not protect enough. So:

1. The model's configuration is read as plain data, and a new one is written from values that are
   known to be harmless, within limits (`engine.imports.config`).
2. A separate process loads the model (`engine.imports.keras_file`, `engine.imports.worker`), with
   limits on memory, time and disk, without a GPU and without this process's environment. It
   converts the network for prediction again.
3. Of a run folder, only known files are read, validated and written again
   (`engine.imports.run_folder`).
4. The finished folder is moved into place in one step. If anything is wrong, nothing is left. If
   this process is killed, the other one ends with it, and the next start or import deletes the
   folder (`sweep`).

This process never imports Keras or TensorFlow, and never opens HDF5 or a foreign network.

    imported = add("flowers.keras", homes.home(), labels=["daisy", "rose"])
    Classifier(imported.run).predict(["photo.jpg"])
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from engine import home as homes
from engine import roots
from engine.errors import DiskError, GraftError, RecipeError, RunError
from engine.host import limits, manifest, processes
from engine.host.background import Report
from engine.host.words import plural, shown
from engine.imports import archive, keras_file, run_folder
from engine.imports.keras_file import About
from engine.recipe import Recipe
from engine.runs import files, runs
from engine.runs.events import EventLog

PREPROCESSING = ("included", "tf", "torch", "caffe")
"""The scaling of pixels that a `.keras` file expects: none, it takes 0 to 255; or that of a family
of keras.applications, which the import then adds to the model."""
MAX_LABELS = 2_000_000
"""Maximum bytes of a file of class names."""
_FOREIGN = {
    (".h5", ".hdf5"): "is an HDF5 model, which may run code when it is loaded",
    (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin"): (
        "is a pickle, which may run code when it is loaded"
    ),
    (".pb", ".tflite", ".onnx"): "is a network without its layers, which cannot be checked",
}  # fmt: skip
_BEGIN = {b"\x89HDF\r\n": ".h5", b"\x80": ".pkl", b"TFL3": ".tflite"}


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        run: the new, finished run.
        notes: sentences about what was changed or left out.
    """

    run: runs.Run
    notes: list[str]


@dataclass(frozen=True)
class _Origin:
    """What a run folder says about the run; only the title is set for a .keras file."""

    title: str
    recipe: Recipe | None = None
    architecture: dict[str, Any] | None = None
    times: dict[str, Any] | None = None


def add(
    path: str | Path,
    home: Path,
    name: str | None = None,
    report: Report | None = None,
    **about: Unpack[About],
) -> Imported:
    """Makes a run of a model from elsewhere.

    Args:
        path: a run folder, a zip of one, or a .keras file.
        home: Graft's home.
        name: of the run; by default the name of its recipe or file.
        report: called with (text, done, total or None); may raise to stop the import.
        about: labels, image_size and preprocessing, for a .keras file only.

    Raises:
        GraftError: if it is refused. Nothing of it is left then.
    """
    roots.check(path, RunError)
    path, home, report = Path(path).expanduser(), Path(home), report or (lambda *_: None)
    preprocessing = about.get("preprocessing", "included")
    if preprocessing not in PREPROCESSING:
        raise GraftError(
            f"preprocessing must be one of {', '.join(PREPROCESSING)}; {preprocessing!r} was given"
        )
    if not path.exists():
        raise RunError(f"there is no {path}; give a run folder, a zip of one, or a .keras file")
    title = shown(path.name)
    try:
        _refuse_foreign(path)
        limits.check_disk(home)
        with staging(home) as place:
            (place / "work").mkdir()
            (place / "run").mkdir()
            report("Reading the files", 0, None)
            origin = _take(path, title, place, about)
            checked = keras_file.check(place / "model.keras", place / "work", home, about, report)
            return _finish(place, home, origin, name, about, checked)
    except GraftError as error:
        raise RunError(f"{title} is not imported: {error}") from None
    except OSError as error:
        why = DiskError.of(error) or f"a file could not be read or written ({error.strerror})"
        raise RunError(f"{title} is not imported: {why}") from None


def read_labels(path: str | Path) -> list[str]:
    """Class names from a text file, one per line. Raises GraftError."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_LABELS + 1)
        if len(content) > MAX_LABELS:
            raise GraftError(
                f"{path} is larger than {MAX_LABELS:,} bytes; give one class name per line"
            )
        return checked_labels(content.decode().splitlines())
    except OSError as error:
        raise GraftError(
            f"{path} cannot be read ({error.strerror}); give a text file of class names"
        ) from None
    except UnicodeDecodeError:
        raise GraftError(f"{path} is not a text file; give one class name per line") from None


def checked_labels(lines: list[str]) -> list[str]:
    """Class names, stripped, without empty lines. Raises GraftError.

    There must be at least two, all different, of at most 200 printable characters.
    """
    found = [line.strip() for line in lines if line.strip()]
    for label in found:
        if len(label) > 200 or not label.isprintable():
            raise GraftError(f"the class name {shown(label)!r} is too long or cannot be shown")
    if len(set(found)) < max(2, len(found)):
        raise GraftError("give two or more class names, which must all differ")
    return found


# -- reading it ------------------------------------------------------------------------------------


def _refuse_foreign(path) -> None:
    """Raises RunError for models in other formats."""
    remedy = "save it with Keras 3 as .keras, or give a run folder"
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            raise RunError(f"it is a SavedModel, whose graph may write files; {remedy}")
        return
    if not path.is_file():
        raise RunError("it is not a file")
    with open(path, "rb") as file:
        begin = file.read(16)
    found = {kind for magic, kind in _BEGIN.items() if magic in (begin[: len(magic)], begin[4:8])}
    for endings, what in _FOREIGN.items():
        if path.suffix.lower() in endings or found & set(endings):
            raise RunError(f"it {what}; {remedy}")


@contextlib.contextmanager
def staging(home: Path) -> Iterator[Path]:
    """A temporary folder among the runs, so that the finished run is moved in one step.

    It is not a run itself: the run is in a folder inside.
    """
    homes.writable(home)
    sweep(home)
    among = home / homes.RUNS
    among.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=among, prefix=f".import.{processes.mark()}"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def sweep(home: Path) -> None:
    """Deletes what imports left whose process was killed."""
    for left in (home / homes.RUNS).glob(".import.*"):
        if processes.abandoned(left):
            shutil.rmtree(left, ignore_errors=True)


def _take(path, title, place, about) -> _Origin:
    """Copies the model to place/model.keras, and a run's other files to place/run."""
    if path.is_dir():
        with contextlib.closing(archive.Folder(path)) as folder:
            return _take_run(folder, title, place, about)
    with keras_file.opened(path) as packed:
        if "config.json" not in {info.filename for info in packed.infolist()}:
            return _take_run(archive.Zip(packed), title, place, about)
    # A copy, so that nobody can change the file while it is checked.
    with open(path, "rb") as file, open(place / "model.keras", "wb") as kept:
        archive.copy_all(file, kept, "model", archive.MAX_MODEL)
    return _Origin(title)


def _take_run(source, title, place, about) -> _Origin:
    recipe, architecture = run_folder.recipe(source), run_folder.architecture(source)
    if recipe is None or architecture is None:
        raise RunError(
            f"it is not a finished run, with {files.RECIPE}, {files.ARCHITECTURE} and {files.KERAS}"
        )
    given = [key for key, value in about.items() if value not in (None, "included")]
    if given:
        raise RunError(
            f"a run already states its {given[0].replace('_', ' ')}; leave the option out"
        )
    times = run_folder.times(source)
    if not archive.copy(source, files.KERAS, place / "model.keras", archive.MAX_MODEL):
        raise RunError(f"it has no {files.KERAS}, so there is no model to import")
    run_folder.keep(source, place / "run")
    return _Origin(title, recipe, architecture, times)


# -- the new run -----------------------------------------------------------------------------------


def _finish(place, home, origin, name, about, checked) -> Imported:
    """Completes the run in place/run and moves it into the home."""
    folder, now = place / "run", time.time()
    result, image_size, digest = checked
    labels, notes = _labels(origin, about, result)
    wanted = (name or (origin.recipe.name if origin.recipe else Path(origin.title).stem))[:80]
    slug = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")[:40] or "imported"
    identity = f"{time.strftime('%Y%m%d-%H%M%S')}-{slug}-{secrets.token_hex(2)}"
    recipe = _recipe(origin, identity, wanted, image_size)
    _check_figures(folder, labels)
    for made in runs.MODEL:
        if (place / "work" / made).is_file() and not (place / "work" / made).is_symlink():
            os.replace(place / "work" / made, folder / made)
    architecture = _backbone(origin, about, result, image_size) | {
        "image_size": image_size,
        "features": result.features,
        "classes": labels,
        "params": result.params,
    }
    homes.write_json(folder / files.ARCHITECTURE, architecture)
    imported_from = {"file": origin.title, "sha256": digest, "time": now}
    environment = homes.read_json(folder / files.ENVIRONMENT, {})
    homes.write_json(folder / files.ENVIRONMENT, environment | {"imported_from": imported_from})
    log = EventLog(folder / files.EVENTS)
    for note in [f"Imported from {origin.title}; its network was converted again.", *notes]:
        log.write("note", text=note)
    with homes.replacing(folder / files.RECIPE) as file:
        file.write(recipe.to_yaml())
    runs.Run(folder).update(
        **{"created": now, "recipe_hash": recipe.hash, **(origin.times or {}), "status": "finished"}
    )
    manifest.write(folder / files.MANIFEST, files.lasting(folder))
    os.chmod(folder, 0o755)  # mkdtemp lets only its owner in
    target = home / homes.RUNS / identity
    os.rename(folder, target)
    return Imported(runs.Run(target), notes)


def _labels(origin, about, result) -> tuple[list[str], list[str]]:
    """The class names, and notes about the model."""
    labels, notes = about.get("labels"), list(result.notes)
    if origin.architecture:  # as foreign as the rest
        labels = checked_labels(origin.architecture["classes"])
    if labels is None:
        labels = [f"class {i}" for i in range(1, result.classes + 1)]
        notes.append("No class names were given, so its classes are numbered.")
    if len(labels) != result.classes:
        raise RunError(
            f"{plural(len(labels), 'class name')} given, but the model has "
            f"{plural(result.classes, 'class', 'classes')}"
        )
    return labels, notes


def _recipe(origin, identity, name, image_size) -> Recipe:
    """The run's recipe under its new name.

    A model without a recipe becomes its own backbone, so that another run can continue from it.
    """
    data = {
        "description": f"Imported from {origin.title}. How it was trained is not known, so dataset "
        "and stages are placeholders.",
        "dataset": {"source": "folder", "path": "elsewhere"},
        "backbone": {"name": f"run:{identity}"},
        "image_size": image_size,
        "stages": [{"name": "elsewhere", "epochs": 1}],
    }
    if origin.recipe:
        data = origin.recipe.to_dict()
    try:
        return Recipe.from_dict(data | {"name": name})
    except RecipeError as error:
        raise RunError(f"its recipe cannot be written ({error})") from None


def _check_figures(folder, labels) -> None:
    """Raises RunError if evaluation.json describes other classes."""
    figures = homes.read_json(folder / files.EVALUATION, {})
    for part in (figures.get("test"), figures.get("validation")):
        if part is None:
            continue
        rows, own = part["confusion"], [row["label"] for row in part["per_class"]]
        if own != labels or [len(row) for row in rows] != [len(labels)] * len(labels):
            raise RunError(
                f"its {files.EVALUATION} is of other classes than its model; delete that file and "
                "import it again"
            )


def _backbone(origin, about, result, image_size) -> dict[str, Any]:
    """The part of architecture.json about the backbone; the run's own if it matches the model."""
    stated, layer = origin.architecture, result.backbone_layer
    if stated and stated["backbone"]["layer"] == layer and result.graft_shaped:
        return stated
    name = Path(origin.title).stem[:80]
    return {
        "backbone": {"name": name, "alpha": None, "origin": "imported", "layer": layer},
        "preprocessing": about.get("preprocessing", "included"),
        "min_image_size": image_size,
        "blocks": [],
        "precision": "float32",
    }
