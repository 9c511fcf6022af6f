"""Models from elsewhere: a run folder, a zip of one, or a `.keras` file becomes a run of this home; light.

Such a file may be made to harm. Keras' own safe mode is not enough (facts, Loading models), so:

1. The model's description is read as plain data, and a new one is written from what is known to be
   harmless (`engine.imports.config`); names, sizes and numbers are bounded.
2. A throwaway process loads that (`engine.imports.keras_file`, `engine.imports.worker`), in a folder of its own, with
   limits on memory, time and disk, no GPU and nothing of this one's environment. It makes the network for
   prediction anew.
3. Of a run folder only known files are taken, parsed and written anew (`engine.imports.run_folder`).
4. The finished folder is moved into place in one step. If anything is wrong, nothing is left.

This process never imports Keras or TensorFlow, and never opens HDF5 or a foreign network.

    imported = add("flowers.keras", homes.home(), labels=["daisy", "rose"])
    Classifier(imported.run).predict(["photo.jpg"])
"""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from engine import home as homes
from engine.data.sources.zip_names import shown
from engine.errors import GraftError, RecipeError, RunError
from engine.host import limits
from engine.imports import archive as import_source
from engine.imports import keras_file, run_folder
from engine.recipe import Recipe
from engine.runs import manifest, runs
from engine.runs.events import EventLog

PREPROCESSING = ("included", "tf", "torch", "caffe")
"""What a `.keras` file expects to be done with pixels before it sees them: nothing, as they are 0 to 255;
or the scaling of one family of keras.applications, which is then put before it."""
MAX_LABELS = 2_000_000
"""Bytes of a file of class names."""
_FOREIGN = {
    (".h5", ".hdf5"): "is an HDF5 model, which may run code when it is loaded",
    (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin"): "is a pickle, which runs code when it is loaded",
    (".pb", ".tflite", ".onnx"): "is a network without its layers, which cannot be checked",
}  # fmt: skip
_BEGIN = {b"\x89HDF\r\n": ".h5", b"\x80": ".pkl", b"TFL3": ".tflite"}


@dataclass(frozen=True)
class Imported:
    """What came of an import.

    Attributes:
        run: the new Run, finished.
        notes: sentences about what was changed or left out.
    """

    run: runs.Run
    notes: list[str]


def add(
    path,
    home,
    name: str | None = None,
    labels: list[str] | None = None,
    image_size: int | None = None,
    preprocessing: str = "included",
    report=None,
) -> Imported:
    """Makes a run of a model from elsewhere.

    Args:
        path: a run folder, a zip of one, or a .keras file.
        home: Graft's home.
        name: of the run; by default what its recipe or the file is called.
        labels: class names in the order of the answers, for a .keras file; "class 1" … by default.
        image_size: pixels, for a .keras file that takes images of any size.
        preprocessing: one of PREPROCESSING, for a .keras file.
        report: called with (text, done, total or None); what it raises ends the import.

    Raises:
        GraftError: one sentence, if it is refused; nothing of it is left then.
    """
    path, home, report = Path(path).expanduser(), Path(home), report or (lambda *_: None)
    if preprocessing not in PREPROCESSING:
        raise GraftError(
            f"preprocessing must be one of {', '.join(PREPROCESSING)}; {preprocessing!r} was given"
        )
    if not path.exists():
        raise RunError(f"there is no {path}; give a run folder, a zip of one, or a .keras file")
    title = shown(path.name)
    for_model = {"labels": labels, "image_size": image_size, "preprocessing": preprocessing}
    try:
        _refuse_foreign(path)
        limits.check_disk(home)
        with _staging(home) as place:
            report("Reading the files", 0, None)
            if path.is_dir():
                source = import_source.Folder(path)
                with contextlib.closing(source):
                    found = _take_run(source, place, for_model)
            else:
                with keras_file.opened(path) as archive:
                    names = {info.filename for info in archive.infolist()}
                    if "config.json" in names:
                        _lone(path, place)
                        found = {}
                    else:
                        found = _take_run(import_source.Zip(archive), place, for_model)
            checked = keras_file.check(
                place / "model.keras", place / "work", home, image_size, preprocessing, report
            )
            found["file"] = title
            return _finish(place, home, found, checked, name, labels, preprocessing)
    except GraftError as error:
        raise RunError(f"{title} is not imported: {error}") from None
    except OSError as error:
        raise RunError(
            f"{title} is not imported: a file could not be read or written ({error.strerror})"
        ) from None


def read_labels(path) -> list[str]:
    """Class names of a text file, one a line. Raises GraftError."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_LABELS + 1)
        if len(content) > MAX_LABELS:
            raise GraftError(
                f"{path} is larger than {MAX_LABELS:,} bytes; give one class name a line"
            )
        return checked_labels(content.decode().splitlines())
    except OSError as error:
        raise GraftError(
            f"{path} cannot be read ({error.strerror}); give a text file of class names"
        ) from None
    except UnicodeDecodeError:
        raise GraftError(f"{path} is not a text file; give one class name a line") from None


def checked_labels(lines) -> list[str]:
    """Class names that can be shown, each its own. Raises GraftError."""
    found = [line.strip() for line in lines if line.strip()]
    for label in found:
        if len(label) > 200 or not label.isprintable():
            raise GraftError(f"the class name {shown(label)!r} is too long or cannot be shown")
    if len(set(found)) < max(2, len(found)):
        raise GraftError("class names must be two or more, and each must differ from all others")
    return found


# -- what it is -------------------------------------------------------------------------------------


def _refuse_foreign(path) -> None:
    """Raises RunError for what is no run and no .keras file."""
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
def _staging(home):
    """A folder that is there only inside the `with`, beside the runs, so that what is finished in it is moved
    in one step. It is no run itself: what lies in it, lies one folder deeper."""
    for left in (home / "runs").glob(".import.*"):  # of an import that was killed
        if left.stat().st_mtime < time.time() - 2 * keras_file.SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    place = Path(tempfile.mkdtemp(dir=home / "runs", prefix=".import."))
    try:
        (place / "work").mkdir()
        (place / "run").mkdir()
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


# -- taking it in -----------------------------------------------------------------------------------


def _lone(path, place) -> None:
    """A .keras file, copied so that nobody can change it while it is looked at."""
    with open(path, "rb") as file, open(place / "model.keras", "wb") as kept:
        import_source.copy_all(file, kept, "the model", import_source.MAX_MODEL)


def _take_run(source, place, for_model) -> dict:
    """A run's files; its model becomes place/model.keras."""
    recipe = run_folder.recipe(source)
    architecture = run_folder.architecture(source)
    if recipe is None or architecture is None:
        raise RunError("it holds no finished run (recipe.yaml, architecture.json, final.keras)")
    given = [k for k, v in for_model.items() if v not in (None, "included")]
    if given:
        raise RunError(
            f"a run says itself what its {given[0].replace('_', ' ')} is; leave the option out"
        )
    times = run_folder.times(source)
    if not import_source.copy(
        source, "final.keras", place / "model.keras", import_source.MAX_MODEL
    ):
        raise RunError("it has no final.keras, so there is no model to import")
    run_folder.take(source, place / "run")
    return {"recipe": recipe, "architecture": architecture, "times": times}


# -- the new run ------------------------------------------------------------------------------------


def _finish(place, home, found, checked, name, labels, preprocessing) -> Imported:
    """Puts the run together and moves it into the home."""
    run, work, now = place / "run", place / "work", time.time()
    file, notes = found["file"], list(checked["notes"])
    names = labels
    if "architecture" in found:  # a run's folder brings its own, which are as foreign as any
        names = checked_labels(found["architecture"]["classes"])
    if names is None:
        names = [f"class {i}" for i in range(1, checked["classes"] + 1)]
        notes.append("No class names were given, so its classes are numbered.")
    if len(names) != checked["classes"]:
        raise RunError(
            f"{len(names):,} class names are given and it knows {checked['classes']:,} classes"
        )
    figures = homes.read_json(run / "evaluation.json", {})
    for part in figures.values() if isinstance(figures, dict) else ():
        _check_figures(part, names)
    recipe = found.get("recipe")
    wanted = (name or (recipe.name if recipe else Path(file).stem))[:80]
    slug = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")[:40] or "imported"
    identity = f"{time.strftime('%Y%m%d-%H%M%S')}-{slug}-{secrets.token_hex(2)}"
    try:
        recipe = Recipe.from_dict(
            (recipe.to_dict() if recipe else _recipe_of_a_model(identity, file, checked))
            | {"name": wanted}
        )
    except RecipeError as error:
        raise RunError(f"no recipe can be written for it ({error})") from None
    for made in runs.MODEL:
        if (work / made).is_file() and not (work / made).is_symlink():
            os.replace(work / made, run / made)
    manifest.write(run, runs.MODEL)
    homes.write_json(run / "architecture.json", _architecture(found, checked, names, preprocessing))
    environment = homes.read_json(run / "environment.json", {})
    origin = {"file": file, "sha256": checked["sha256"], "time": now}
    homes.write_json(run / "environment.json", environment | {"imported_from": origin})
    for note in [f"Imported from {file}; its network for prediction was made anew.", *notes]:
        EventLog(run / "events.jsonl").write("note", text=note)
    with homes.replacing(run / "recipe.yaml") as written:
        written.write(recipe.to_yaml())
    state = {"status": "finished", "created": now, "recipe_hash": recipe.hash}
    made = runs.Run(run)
    made.update(**state, **{k: v for k, v in found.get("times", {}).items() if k != "status"})
    os.chmod(run, 0o755)  # a temporary folder is its maker's alone
    target = home / "runs" / identity
    os.rename(run, target)
    return Imported(runs.Run(target), notes)


def _recipe_of_a_model(identity, file, checked) -> dict:
    """What can be said of a model that came without a recipe. Its backbone is itself, so that another run can
    go on from it where it has one."""
    return {
        "description": f"Imported from {file}; how it was trained is not known, so dataset and stages say "
        "nothing of it.",
        "dataset": {"source": "folder", "path": "elsewhere"},
        "backbone": {"name": f"run:{identity}"},
        "image_size": checked["image_size"],
        "stages": [{"name": "elsewhere", "epochs": 1}],
    }


def _check_figures(part, names) -> None:
    """Raises RunError if the figures of a part of the data are of other classes."""
    if not isinstance(part, dict) or "confusion" not in part:
        return
    rows, own = part["confusion"], [row["label"] for row in part["per_class"]]
    if own != names or len(rows) != len(names) or any(len(row) != len(names) for row in rows):
        raise RunError(
            "its evaluation.json is of other classes than its model; delete that file to go on"
        )


def _architecture(found, checked, names, preprocessing) -> dict:
    """architecture.json: figures of the model itself, and what the run says of its backbone if the model
    has that layer."""
    size, layer = checked["image_size"], checked["backbone_layer"]
    told = found.get("architecture")
    if told is None or told["backbone"]["layer"] != layer or not checked["graft_shaped"]:
        file = Path(found["file"]).stem[:80]
        told = {
            "backbone": {"name": file, "alpha": None, "origin": "imported", "layer": layer},
            "preprocessing": preprocessing,
            "min_image_size": size,
            "blocks": [],
            "precision": "float32",
        }
    return told | {
        "image_size": size,
        "features": checked["features"],
        "classes": names,
        "params": checked["params"],
    }
