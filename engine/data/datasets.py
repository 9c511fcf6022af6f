"""Datasets: prepared once, then read without TensorFlow (`engine.data.prepared.Dataset`).

Preparing (`engine.data.prepare_worker`, in the background) decodes every image once with the
decoder that training uses, lists the files that cannot be read, and writes a folder under
`GRAFT_HOME/datasets`:

    manifest.json   title, classes, fingerprint, files that are left out, source
    index.npz       one row per image: label, size, format, own split, content hash, place
    sums.json       the SHA-256 of these files, written last (`engine.host.manifest`)
    copies.npz      which images are copies of each other (`engine.data.copies`)
    images.bin      the encoded images one after another (the files of a folder stay where they are)

Decisions of a person about single images are kept elsewhere (`engine.data.overlay`) and are applied
on opening. A new kind of source is one generator in `engine/data/prepare_worker.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from engine import home as homes
from engine import roots
from engine.accounts.roles import LOCAL
from engine.data import overlay
from engine.data.prepared import Dataset, facts
from engine.data.sources import archive, collection, folders, tfds_catalogue
from engine.data.sources.sample import VERSION
from engine.errors import DatasetError
from engine.host.background import Job, JobState
from engine.images import depth
from engine.recipe import DatasetSpec

TFDS_SUGGESTIONS = tfds_catalogue.SUGGESTIONS
"""Names of TensorFlow Datasets to start with, {name: what it is}."""


def key(spec: DatasetSpec) -> str:
    """The folder name of a prepared dataset: readable, and different for different sources. Its
    overlay is not part of it."""
    identity: dict[str, Any]
    if spec.source == "sample":
        identity = {"sample": spec.images, "version": VERSION}
    elif spec.source == "tfds":
        # The same name in another data directory may be another version.
        identity = {"tfds": spec.name, "data_dir": os.environ.get("TFDS_DATA_DIR", "")}
    elif spec.source == "saved":
        identity = {"saved": spec.name}
    else:
        identity = {spec.source: str(folders.root(spec.path))}
        if spec.layout != "auto":
            identity["layout"] = spec.layout
    digest = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    return f"{re.sub(r'[^a-z0-9]+', '-', spec.title.lower()).strip('-')[:40]}-{digest}"


def open_dataset(spec: DatasetSpec, home: Path) -> Dataset:
    """The prepared dataset of a DatasetSpec, with its overlay applied.

    Raises:
        DatasetError: if it is not prepared, or its overlay is not on this host.
    """
    path = Path(home) / homes.DATASETS / key(spec)
    if not (path / "manifest.json").exists():
        raise DatasetError(
            f"the dataset {spec.title} is not prepared yet; prepare it on the Dataset page"
        )
    return Dataset(path, overlay.load(home, spec.overlay) if spec.overlay else None)


def state(spec: DatasetSpec, home: Path) -> JobState:
    """How far preparing is; `done` and `total` count images.

    Returns:
        A JobState whose state is "missing", "preparing", "ready" or "failed". A ready one has an
        error if its source has changed since and could not be prepared again. One that a page may
        not read has failed, whether it was prepared or not.
    """
    try:
        now = job(spec, home).state()
    except DatasetError as error:  # of `engine.roots`
        return JobState(
            kind="prepare", state="failed", phase="", text="", done=0, total=None,
            eta_seconds=None, error=str(error), result=None,
        )  # fmt: skip
    if now["state"] == "running":
        return {**now, "state": "preparing"}
    if (Path(home) / homes.DATASETS / key(spec) / "manifest.json").exists():
        failed = now["state"] == "failed" and _changed(spec, home)
        return {**now, "state": "ready", "error": now["error"] if failed else None}
    # Its folder was deleted since it was done.
    return {**now, "state": "missing"} if now["state"] == "done" else now


def _changed(spec: DatasetSpec, home: Path) -> bool:
    """`outdated`, also if the source cannot be read."""
    try:
        return outdated(spec, home)
    except DatasetError:
        return True


def job(spec: DatasetSpec, home: Path) -> Job:
    """The background job that prepares a dataset."""
    return Job(Path(home) / homes.DATASETS / f"{key(spec)}.progress.json", "prepare")


def prepare(spec: DatasetSpec, home: Path, owner: str = LOCAL) -> None:
    """Starts preparing in the background; does nothing if it is running or the dataset is ready.

    A folder that has changed since is prepared again.

    Args:
        spec: a DatasetSpec.
        home: Graft's home.
        owner: of a dataset that is not prepared yet.

    Raises:
        DatasetError: if the source does not exist or cannot be used.
    """
    check(spec)
    base: DatasetSpec | None = spec
    while base and base.source == "saved":
        base = collection.open_(home, base.name).base_spec
        if base and base.source in ("folder", "zip"):
            roots.check(base.path)
    if state(spec, home)["state"] != "preparing" and outdated(spec, home):
        claim(spec, home, owner)
        # No GPU: it only reads files, and TensorFlow would take the memory that training needs.
        job(spec, home).start(Path(home), {"CUDA_VISIBLE_DEVICES": "-1"}, spec=spec.model_dump())


def cancel(spec: DatasetSpec, home: Path) -> None:
    """Stops preparing, and removes unfinished files."""
    job(spec, home).cancel()
    for leftover in (Path(home) / homes.DATASETS).glob(f".{key(spec)}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def forget(spec: DatasetSpec, home: Path) -> None:
    """Deletes the prepared copy; the source itself is never touched."""
    cancel(spec, home)
    shutil.rmtree(Path(home) / homes.DATASETS / key(spec), ignore_errors=True)
    _owner_file(spec, home).unlink(missing_ok=True)


def owner(spec: DatasetSpec, home: Path) -> str:
    """Who built or first prepared a dataset; `roles.LOCAL` for one of before accounts.

    Only they and admins may delete it or decide about its images; everybody may use it.
    """
    if spec.source == "saved":
        return collection.owner(home, spec.name)
    return (homes.read_json(_owner_file(spec, home)) or {}).get("owner", LOCAL)


def claim(spec: DatasetSpec, home: Path, owner: str) -> None:
    """Makes somebody the owner of a dataset that nobody has prepared yet."""
    file = _owner_file(spec, home)
    if not file.exists() and not (file.parent / key(spec) / "manifest.json").exists():
        homes.write_json(file, {"owner": owner})


def _owner_file(spec: DatasetSpec, home: Path) -> Path:
    return Path(home) / homes.DATASETS / f"{key(spec)}.owner.json"


def check(spec: DatasetSpec) -> None:
    """Raises DatasetError if the source does not exist or cannot be used."""
    if spec.source == "folder":
        folders.check(spec.path)
    elif spec.source == "zip":
        archive.check(spec.path)


def outdated(spec: DatasetSpec, home: Path) -> bool:
    """Whether the dataset must be prepared (again): it is missing, or its source has changed."""
    path = Path(home) / homes.DATASETS / key(spec)
    found = facts(path)
    if found is None or found["listing"] != listing(spec, home):
        return True
    # Earlier versions scaled images of more than 8 bits in another way.
    if found.get("depth") == depth.VERSION or not found["listing"]:
        return False
    with homes.reading(path / "index.npz"), np.load(path / "index.npz") as index:
        return bool(np.isin(index["formats"], depth.FORMATS).any())


def listing(spec: DatasetSpec, home: Path, found: collection.Saved | None = None) -> str:
    """A hash that changes when the source does; "" for sources that never change.

    Args:
        spec: a DatasetSpec.
        home: Graft's home.
        found: the open dataset, for source saved; by default as it is now.

    Raises:
        DatasetError: if the source does not exist, or has too few classes.
    """
    if spec.source == "folder":
        return folders.listing(folders.list_folder(spec.path, spec.layout))
    if spec.source == "zip":
        return archive.listing(spec.path)
    if spec.source == "saved":
        found = found or collection.open_(home, spec.name)
        before = ""
        if base := found.base_spec:
            before = listing(base, home) + (fingerprint(base, home) or "")
        return folders.listing_hash([before, found.listing()])
    return ""


def fingerprint(spec: DatasetSpec, home: Path) -> str | None:
    """The fingerprint of a prepared dataset, overlay included; None if it is not prepared."""
    found = (facts(Path(home) / homes.DATASETS / key(spec)) or {}).get("fingerprint")
    return overlay.fingerprint(found, spec.overlay) if found and spec.overlay else found


_fingerprint = fingerprint  # where an argument has its name


def changed_since(
    spec: DatasetSpec,
    home: Path,
    fingerprint: str | None,
    since: str = "this run began",
    count: int | None = None,
) -> str | None:
    """Whether the prepared dataset has changed.

    Args:
        spec: a DatasetSpec.
        home: Graft's home.
        fingerprint: the dataset's `fingerprint` back then; None if it was not prepared yet.
        since: when that was, to follow "has changed since".
        count: images it had then, if known.

    Returns:
        One sentence that says what changed and what to do; None if nothing changed, or if the
        dataset was not prepared then or is not prepared now. Changes in a folder count when it is
        prepared again (`outdated`).
    """
    now = facts(Path(home) / homes.DATASETS / key(spec))
    if now is None or fingerprint is None or _fingerprint(spec, home) == fingerprint:
        return None
    had = "" if count is None else f"had {count:,} images then and now "
    return (
        f"the dataset {now['title']} has changed since {since}: it {had}has "
        f"{now['count']:,} images in {len(now['classes'])} classes; put the images back "
        "as they were and prepare it again, or start a new run on what is there now"
    )


def lock(home: Path, spec: DatasetSpec) -> filelock.FileLock:
    """The lock that is held while a dataset is prepared."""
    return filelock.FileLock(Path(home) / homes.DATASETS / f"{key(spec)}.lock")
