"""Restores damaged files from what is whole, and moves aside what cannot be restored. Light.

Nothing is deleted: what is damaged goes to `GRAFT_HOME/damaged`, under the path that it had. Each
function says in a sentence what it did.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from engine import home as homes
from engine.data import copies, datasets
from engine.data.prepared import Dataset
from engine.errors import DamagedFile, DatasetError, GraftError, RunError
from engine.host import background, manifest
from engine.host.words import plural
from engine.predict import calibrate
from engine.predict.reference import THUMBS
from engine.recipe import DatasetSpec
from engine.runs import files, runs
from engine.runs.runs import Run

FOLDER = "damaged"
"""In the home; takes what is damaged."""


def aside(home: Path, path: Path) -> Path:
    """Moves a file or folder of the home to `FOLDER`; returns where it is now."""
    first = target = home / FOLDER / path.relative_to(home)
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while target.exists():
        number += 1
        target = first.with_name(f"{first.name}.{number}")
    os.rename(path, target)
    return target


def moved(home: Path, path: Path) -> str:
    """`aside`, in words."""
    return f"moved to {aside(home, path)}"


# -- files of runs --------------------------------------------------------------------------------


def run_file(run: Run, name: str) -> str:
    """Makes a damaged or missing file of a finished run again, or takes it out of the record."""
    record, path = run.path / files.MANIFEST, run.path / name
    known = (manifest.recorded(record) or {}).get(name)
    if known and manifest.digest(path) == known:
        return "restored together with another file"
    with manifest.rewriting(record, name):
        if name == files.EVENTS and path.exists():
            kept = aside(run.home, path)
            shutil.copy(kept, path)
            return f"kept with the lines that can be read; a copy is {kept}"
        said = f"the damaged file is {aside(run.home, path)}" if path.exists() else "it was missing"
        if name not in RESTORED:
            return f"{said}, and Graft cannot make it again: restore it from a backup, if you can"
        try:
            RESTORED[name](run)
            if name in EXACT and known and manifest.digest(path) != known:
                path.unlink()
                raise RunError("what was made differs from what was recorded")
        except (GraftError, OSError) as error:
            return f"{said}, and it cannot be made again now ({error})"
    return f"made again; {said}"


def _of_model(name: str) -> Callable[[Run], object]:
    """Makes a file of the network again, in a process that loads Keras."""

    def restore(run: Run) -> None:
        job = background.Job(run.home / homes.PROBES / f"restore-{run.id}.json", "restore")
        job.start(run.home, {"CUDA_VISIBLE_DEVICES": "-1"}, run=str(run.path), name=name)
        try:
            job.wait()
        finally:
            job.cancel()

    return restore


def _split(run: Run) -> None:
    found = datasets.open_dataset(run.recipe.dataset, run.home)
    parts = found.split(run.recipe.split)
    contents = {part: found.contents[indices].tolist() for part, indices in parts.items()}
    homes.write_json(run.path / files.SPLIT, {"fingerprint": found.fingerprint} | contents)


def _remember(run: Run) -> None:
    calibrate.remember(run, run.home)


RESTORED: dict[str, Callable[[Run], object]] = {
    files.ARCHITECTURE: _of_model(files.ARCHITECTURE),
    files.SPLIT: _split,
    files.LITERT: _of_model(files.LITERT),
    files.HEAD: _of_model(files.HEAD),
    files.REFERENCE: _remember,
    THUMBS: _remember,
    files.CONFIDENCE: calibrate.calibrate,
}
"""How files of a run are made again, in an order in which each finds what it needs."""
EXACT = (files.ARCHITECTURE, files.SPLIT)
"""Kept only if they are to the byte what was recorded: they decide what answers mean."""


def record(home: Path, path: Path, names: Iterable[str]) -> str:
    """Records files as they are now; a damaged record is moved aside first.

    Args:
        home: Graft's home.
        path: of the record.
        names: of the files, which were checked as far as they can be.
    """
    names, before = list(names), ""
    try:
        manifest.recorded(path)
    except DamagedFile:
        before = f"; the damaged record is {aside(home, path)}"
    if path.exists():
        with manifest.rewriting(path, *names):
            pass
    else:
        manifest.write(path, names)
    return f"recorded {plural(len(names), 'file')}{before}"


# -- datasets -------------------------------------------------------------------------------------


def spec_of(home: Path, folder: Path) -> DatasetSpec:
    """The source of a prepared dataset, by its manifest, or by a run or a request that names it.

    Raises:
        DatasetError: if nothing in the home names it.
    """
    try:
        found = datasets.facts(folder)
    except DamagedFile:
        found = None
    if found:
        return DatasetSpec.stored(found["source"])
    asked = homes.read_json(folder.with_name(f"{folder.name}.progress.json"), {})
    specs = [run.recipe.dataset for run in runs.readable_runs(home)[0]]
    if "spec" in asked.get("parameters", {}):
        specs.append(DatasetSpec.stored(asked["parameters"]["spec"]))
    for spec in specs:
        if datasets.key(spec) == folder.name:
            return spec.model_copy(update={"overlay": ""})
    raise DatasetError(f"nothing in {home} says what {folder.name} was prepared from")


def dataset(home: Path, folder: Path) -> str:
    """Prepares a damaged dataset again from its source.

    Raises:
        GraftError: if that is not possible. What can still be read of it stays where it is.
    """
    aside_: Path | None = None
    try:
        spec = spec_of(home, folder)
        datasets.check(spec)
        aside_ = aside(home, folder)
        datasets.prepare(spec, home)
        background.result_of(background.wait_for(datasets.job(spec, home).state))
    except GraftError as error:
        aside_ = aside_ or aside(home, folder)
        try:
            Dataset(aside_)
        except (GraftError, OSError):
            raise DatasetError(f"it is moved to {aside_}, as {error}") from None
        os.rename(aside_, folder)
        raise DatasetError(f"{error}; its images that can be read stay in use") from None
    count = len(Dataset(folder))
    return f"prepared again from its source, {count:,} images; the damaged copy is {aside_}"


def copies_of(home: Path, folder: Path) -> str:
    """Moves a dataset's damaged list of copies aside; it is made again when it is needed."""
    with manifest.rewriting(folder / manifest.FILE, copies.FILE):
        if not (folder / copies.FILE).exists():
            return "they are looked for again when they are needed"
        said = moved(home, folder / copies.FILE)
    return f"{said}; they are looked for again when they are needed"
