"""Checks of datasets, of people's decisions about them, and of what was found in them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from engine import home as homes
from engine.data import copies, datasets, overlay
from engine.data.sources import collection
from engine.doctor import restore
from engine.doctor.home_checks import (
    UNREADABLE,
    Finding,
    children,
    remove,
    torn_database,
    why_of,
)
from engine.errors import DamagedFile, LostImageError
from engine.host import manifest
from engine.host.words import plural


def unreadable(path: Path) -> str:
    """Why a file cannot be read, as far as its format tells; "" if it can."""
    kind = path.suffix
    try:
        if kind == ".json":
            homes.read_json(path)
        elif kind == ".npz":
            with np.load(path, allow_pickle=False) as file:
                for name in file.files:
                    _ = file[name]
        elif kind in (".keras", ".zip"):
            with zipfile.ZipFile(path) as packed:
                return f"{torn} in it is damaged" if (torn := packed.testzip()) else ""
        elif kind == ".tflite":
            with open(path, "rb") as file_:
                if file_.read(8)[4:] != b"TFL3":  # the FlatBuffers identifier of a LiteRT model
                    return "it is not a LiteRT model"
        elif kind == ".sqlite":
            return torn_database(path)
    except UNREADABLE as error:
        return why_of(error)
    return ""


# -- prepared datasets ----------------------------------------------------------------------------


def prepared(home: Path) -> Iterator[Finding]:
    """Whether prepared datasets are as they were written, and their image folders exist."""
    whole = 0
    for path in children(home / homes.DATASETS):
        if not path.is_dir() or path.name.startswith("."):
            continue
        found = list(_dataset(home, path))
        whole += all(finding.severity == "ok" for finding in found)
        yield from found
    yield Finding("datasets", "ok", f"{plural(whole, 'prepared dataset')} can be read")


def _dataset(home: Path, path: Path) -> Iterator[Finding]:
    record = path / manifest.FILE
    names = [n for n in ("manifest.json", "index.npz", copies.FILE) if (path / n).exists()]
    again = partial(restore.record, home, record, names)
    prepare = partial(restore.dataset, home, path)
    remedy = (
        "doctor --fix prepares it again, if its source is there; or "
        f"delete {path}; the dataset is then prepared again when it is next used"
    )
    try:
        known = manifest.recorded(record)
    except DamagedFile as error:
        text = f"{manifest.FILE} of the prepared dataset {path.name} is damaged ({error.why})"
        how = "doctor --fix records its files as they are now, if they can be read"
        yield Finding("datasets", "error", text, how, again)
        return
    try:
        dataset = datasets.Dataset(path)
        lost = _lost(dataset)
    except UNREADABLE as error:
        text = f"the prepared dataset {path.name} cannot be read ({why_of(error)})"
        yield Finding("datasets", "error", text, remedy, prepare)
        return
    if lost:
        text = (
            f"images.bin of the prepared dataset {path.name} is damaged: "
            f"{plural(lost, 'image')} of {len(dataset):,} cannot be read any more"
        )
        yield Finding("datasets", "error", text, remedy, prepare)
    source = dataset.manifest["folder"]
    if source and not Path(source).is_dir():
        yield Finding(
            "datasets",
            "warning",
            f"the images of dataset {dataset.title} are in {source}, which does not exist",
            "put the folder back, or mount its disk, before training on it",
        )
    if why := manifest.changed(record, copies.FILE).get(copies.FILE):
        text = f"{copies.FILE} of the prepared dataset {path.name} is damaged ({why})"
        how = "doctor --fix moves it aside; it is made again when it is needed"
        yield Finding("datasets", "error", text, how, partial(restore.copies_of, home, path))
    if known is None:
        text = f"the prepared dataset {path.name} has no record, as in earlier versions of Graft"
        yield Finding("datasets", "ok", text, "doctor --fix records it as it is now", again)


def _lost(dataset: datasets.Dataset) -> int:
    """How many packed images are not what was prepared; those of a folder are its owner's."""
    lost = 0
    for index in range(0 if dataset.manifest["folder"] else len(dataset)):
        try:
            dataset.image_bytes(index)
        except LostImageError:
            lost += 1
    return lost


# -- people's decisions and additions -------------------------------------------------------------


def saved(home: Path) -> Iterator[Finding]:
    """Whether datasets that were built here, and the images added to them, are as they were."""
    names = collection.names(home)
    for name in names:
        try:
            found = collection.open_(home, name)
        except UNREADABLE as error:
            text = f"the dataset {name}, which was built here, cannot be read ({error})"
            yield Finding("saved", "error", text, "restore its folder from a backup")
            continue
        for row in found.rows():
            path = found.path_of(row)
            there = path.exists()
            if there and sha256(path.read_bytes()).hexdigest() == row["content"]:
                continue
            what = "is not the file that was added" if there else "is missing"
            text = f"the image {row['name']} of the dataset {name} ({path}) {what}"
            remedy = "restore it from a backup, or add it again; until then it is left out"
            aside = partial(restore.moved, home, path) if there else None
            yield Finding("saved", "error", text, remedy, aside)
        known = {row["file"] for row in found.rows()}
        extra = sum(path.name not in known for path in (found.path / "images").glob("[!.]*"))
        if extra:
            text = f"{plural(extra, 'image file')} of the dataset {name} are not in its added.jsonl"
            remedy = "lines of it were lost, or an addition was ended: restore it, or add again"
            yield Finding("saved", "warning", text, remedy)
    for path in children(home / homes.SAVED):
        if (path / "added.jsonl").exists() and not (path / "saved.json").exists():
            text = f"{path / 'saved.json'} is missing, so the dataset is not listed"
            yield Finding("saved", "error", text, "restore it from a backup")
    yield Finding("saved", "ok", f"{plural(len(names), 'dataset')} built here")


def decisions(home: Path) -> Iterator[Finding]:
    """Whether people's decisions about images, and the log of what people did, can be read."""
    for path in sorted((home / homes.OVERLAYS).glob("*.json")):
        try:
            overlay.load(home, path.stem)
        except UNREADABLE as error:
            text = f"the decisions about single images in {path} cannot be read ({why_of(error)})"
            remedy = "doctor --fix takes them from a run that used them, or moves the file aside"
            yield Finding("decisions", "error", text, remedy, partial(_overlay, home, path))
    for path in sorted((home / homes.CURATION).glob("*.jsonl")):
        count, torn = _bad_lines(path)
        if count:
            text = f"{plural(count, 'line')} of {path} cannot be read"
            remedy = (
                "restore it from a backup; doctor --fix moves it aside: recipes keep their "
                "decisions, but the list of steps begins again"
            )
            fix = partial(restore.moved, home, path)
            yield Finding("decisions", "error", text, remedy, fix)
        if torn:
            text = f"the last line of {path} is cut off, so its decisions are lost"
            yield Finding("decisions", "warning", text, "decide again about these images")
    count, torn = _bad_lines(home / homes.AUDIT)
    if count or torn:
        text = f"{plural(count + torn, 'line')} of {home / homes.AUDIT} cannot be read"
        remedy = "what they said is lost; the other lines, and new ones, are not affected"
        yield Finding("decisions", "warning", text, remedy)
    yield Finding("decisions", "ok", "decisions about single images were checked")


def _bad_lines(path: Path) -> tuple[int, bool]:
    """How many whole lines are not JSON, and whether the last line is cut off."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return 0, False
    bad = 0
    for line in lines[:-1]:
        try:
            json.loads(line)
        except ValueError:
            bad += 1
    return bad, bool(lines[-1])


def _overlay(home: Path, path: Path) -> str:
    """Replaces damaged decisions by those that a run keeps."""
    said = f"the damaged file is {restore.aside(home, path)}"
    for found in sorted((home / homes.RUNS).glob(f"*/{overlay.FILE}")):
        try:
            kept = homes.read_json(found)
            if kept["id"] == path.stem and overlay.save(home, kept["decisions"]) == path.stem:
                return f"made again from run {found.parent.name}; {said}"
        except UNREADABLE:
            continue
    return f"{said}; no run keeps these decisions, so recipes with them cannot be trained"


# -- results that are made again ------------------------------------------------------------------


def notes(home: Path) -> Iterator[Finding]:
    """Whether the progress and result files of background work can be read."""
    damaged = False
    inspected = [f"{homes.INSPECTIONS}/*/{name}" for name in ("*.json", "*.npz", "thumbs.sqlite")]
    for pattern in (f"{homes.DATASETS}/*.progress.json", f"{homes.PROBES}/*.json", *inspected):
        for path in sorted(home.glob(pattern)):
            if not unreadable(path):
                continue
            damaged = True
            yield Finding(
                "notes",
                "error",
                f"{path} is damaged, so pages that read it cannot open",
                "it is created again when needed: doctor --fix deletes it",
                partial(remove, path),
            )
    for path in sorted(home.glob(f"{homes.BATCHES}/*/*")):
        if path.suffix in (".json", ".npz", ".zip") and (why := unreadable(path)):
            damaged = True
            text = f"{path} of a batch is damaged ({why})"
            yield Finding("notes", "error", text, "delete the batch and classify its images again")
    if not damaged:
        yield Finding("notes", "ok", "progress and result files can be read")
