"""What `engine.doctor.doctor` checks of the home and the host; runs are in `engine.doctor.run_checks`. Light.

Each check is a generator of Findings. A check that finds nothing wrong yields one that says so.
"""

import contextlib
import os
import re
import shutil
import sqlite3
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import home as homes
from engine.data import datasets
from engine.errors import DamagedFile, GraftError
from engine.features import cache
from engine.home import size_text
from engine.host import device, settings
from engine.runs import trash

HOUR = 3600
"""Age in seconds from which something half-written is a leftover, and not a write under way."""
ROOM = 2**30
"""Bytes of free disk below which the doctor warns."""
UNREADABLE = (
    GraftError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile,
)  # fmt: skip
"""What reading a damaged file, or one that holds something else, may raise."""
_TEMPORARY = re.compile(r"^\..+\.[a-z0-9_]{8}$")  # the names that tempfile gives (engine.home)
_DOOMED = re.compile(r"^\.(deleted|making)-")


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: what was looked at, such as "runs".
        severity: "ok", "warning" or "error".
        text: one sentence.
        remedy: what to do, one sentence; "" where there is nothing to do.
        mend: called without arguments, does it; None where a person has to.
    """

    check: str
    severity: str
    text: str
    remedy: str = ""
    mend: Callable[[], None] | None = None

    @property
    def fixable(self) -> bool:
        """Whether `doctor --fix` can mend it."""
        return self.mend is not None

    def to_dict(self) -> dict:
        """Plain data."""
        names = ("check", "severity", "text", "remedy", "fixable")
        return {name: getattr(self, name) for name in names}


def remove(path: Path) -> None:
    """Deletes a file, or a folder with all that is in it; what has gone meanwhile is gone."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def age(path: Path) -> float:
    """Seconds since anything in a file or folder was written; 0 if it went meanwhile."""
    newest = 0.0
    with contextlib.suppress(FileNotFoundError):
        newest = path.stat().st_mtime
        for inner in path.rglob("*") if path.is_dir() else ():
            newest = max(newest, inner.stat().st_mtime)
    return time.time() - newest if newest else 0.0


# -- the home -------------------------------------------------------------------------------------


def disk(home: Path) -> Iterator[Finding]:
    """Whether the home can be written, and the room on its disk."""
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding(
            "home",
            "error",
            f"nothing can be written to {home} ({error.strerror})",
            "free some space, or set GRAFT_HOME to a folder that you can write to",
        )
        return
    usage = shutil.disk_usage(home)
    try:
        least = settings.get(home)["min_free_mb"] * 2**20
    except UNREADABLE:  # told by `settings_file`
        least = settings.DEFAULTS["min_free_mb"] * 2**20
    own = ("runs", "datasets", "saved", "uploads", "inspections", "cache")
    parts = {part: homes.folder_bytes(home / part) for part in own if (home / part).exists()}
    taken = ", ".join(f"{part} {size_text(count)}" for part, count in parts.items())
    text = f"{home} can be written; {size_text(usage.free)} are free on its disk ({taken})"
    remedy = (
        "empty the trash (python -m engine trash --empty), clear the cache (python -m engine cache "
        "--clear) or delete runs"
    )
    if usage.free < least:
        text = f"only {size_text(usage.free)} are free on the disk of {home}, so no run starts"
        yield Finding("home", "error", text, remedy)
    elif usage.free < max(ROOM, least):
        yield Finding("home", "warning", text, remedy)
    else:
        yield Finding("home", "ok", text)
    deleted = trash.listed(home)
    if deleted:
        size = size_text(sum(each.bytes for each in deleted))
        text = f"the trash holds {len(deleted)} deleted run{'s' * (len(deleted) > 1)}, {size}"
        yield Finding("trash", "ok", text, "python -m engine trash --empty deletes them for good")


def leftovers(home: Path) -> Iterator[Finding]:
    """What a kill left half-written or half-deleted."""
    flat = ("trash", "probes", "curation", "overlays")
    deep = ("runs", "datasets", "cache", "saved", "inspections")
    folders = [home / part for part in (*deep, *flat) if (home / part).exists()]
    for part in (part for part in deep if (home / part).exists()):
        # One level deeper: files are written beside those they replace.
        folders += [p for p in _children(home / part) if p.is_dir() and not p.name.startswith(".")]
    # In the home itself only the name that is ours: it may be a folder that holds more than Graft.
    paths = sorted(home.glob(".settings.json.*"))
    paths += [path for folder in folders for path in _children(folder)]
    found = False
    for path in paths:
        doomed = path.name.startswith(".deleted-")
        if not doomed and not _DOOMED.match(path.name) and not _TEMPORARY.match(path.name):
            continue
        if not doomed and age(path) < HOUR:
            continue
        found = True
        size = homes.folder_bytes(path) if path.is_dir() else path.stat().st_size
        what = "half-deleted" if doomed else "half-written"
        yield Finding(
            "leftovers",
            "warning",
            f"{path.relative_to(home)} is {what} ({size_text(size)}), left by a process that was "
            "ended",
            "nobody reads it: doctor --fix deletes it",
            lambda path=path: remove(path),
        )
    if not found:
        yield Finding("leftovers", "ok", "nothing half-written or half-deleted lies around")


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def settings_file(home: Path) -> Iterator[Finding]:
    """Whether the settings can be read."""
    path = home / "settings.json"
    try:
        found = homes.read_json(path)
    except DamagedFile as error:
        text = f"{path} is damaged ({error.why})"
        yield Finding("settings", "error", text, "mend it, or delete it: the defaults hold then")
        return
    if found is not None and not isinstance(found, dict):
        text = f"{path} holds no settings"
        yield Finding("settings", "error", text, "delete it: the defaults hold then")
    else:
        text = "settings.json can be read" if found else "no settings were made; the defaults hold"
        yield Finding("settings", "ok", text)


def queue(home: Path) -> Iterator[Finding]:
    """Whether the queue's database is whole (`PRAGMA quick_check`)."""
    path = home / "queue.db"
    if not path.exists():
        yield Finding("queue", "ok", "there is no queue yet")
        return
    remedy = f"move {path} away: waiting runs stay, and are put into a new queue by resuming them"
    try:
        connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=10)
        with contextlib.closing(connection):
            said = [row[0] for row in connection.execute("PRAGMA quick_check")]
    except sqlite3.Error as error:
        yield Finding("queue", "error", f"the queue {path} cannot be read ({error})", remedy)
        return
    if said == ["ok"]:
        yield Finding("queue", "ok", "the queue's database is whole")
    else:
        first = said[0].splitlines()[0] if said else "no answer"
        yield Finding("queue", "error", f"the queue {path} is damaged ({first})", remedy)


def notes(home: Path) -> Iterator[Finding]:
    """Whether what was noted of preparations and measurements can be read."""
    damaged = False
    for pattern in ("datasets/*.progress.json", "probes/*.json"):
        for path in sorted(home.glob(pattern)):
            try:
                homes.read_json(path)
            except DamagedFile:
                damaged = True
                yield Finding(
                    "notes",
                    "error",
                    f"{path} is damaged, so the pages that read it do not open",
                    "what it says is found out again when it is needed: doctor --fix deletes it",
                    lambda path=path: remove(path),
                )
    if not damaged:
        yield Finding("notes", "ok", "notes of preparations and measurements can be read")


# -- datasets -------------------------------------------------------------------------------------


def prepared(home: Path) -> Iterator[Finding]:
    """Whether prepared datasets can be read, and the folders that they name are there."""
    folder, whole = home / "datasets", 0
    for path in _children(folder):
        if not path.is_dir() or path.name.startswith("."):
            continue
        try:
            dataset = datasets.Dataset(path)
            source = dataset.manifest["folder"]
            if not source and len(dataset.gone()):
                raise DamagedFile(path / "images.bin", "it is too short")
        except UNREADABLE as error:
            text = f"the prepared dataset {path.name} cannot be read ({_why(error)})"
            remedy = f"delete {path}; it is prepared again when it is used next"
            yield Finding("datasets", "error", text, remedy)
            continue
        if source and not Path(source).is_dir():
            yield Finding(
                "datasets",
                "warning",
                f"the images of dataset {dataset.title} lie in {source}, which is not there",
                "put the folder back (or mount its disk) before training on it",
            )
        else:
            whole += 1
    yield Finding("datasets", "ok", f"{whole} prepared dataset{'s' * (whole != 1)} can be read")


# -- the cache ------------------------------------------------------------------------------------


def cached(home: Path) -> Iterator[Finding]:
    """Whether the cache's entries are whole and within its limit."""
    settings_path = home / "cache" / "settings.json"
    try:
        most = cache.limit(home)
    except UNREADABLE:
        yield Finding(
            "cache",
            "error",
            f"{settings_path} is damaged, so no run can use the cache",
            f"doctor --fix deletes it: the limit is then {cache.DEFAULT_LIMIT_GIB:g} GiB",
            lambda: remove(settings_path),
        )
        return
    total = count = 0
    for kind in cache.KINDS:
        for path in _children(home / "cache" / kind):
            if path.name.startswith(".") or not path.is_dir():
                continue
            count, total = count + 1, total + homes.folder_bytes(path)
            why = _cache_damage(kind, path)
            if why:
                yield Finding(
                    "cache",
                    "warning",
                    f"the cached {kind} {path.name} are damaged ({why})",
                    "they are computed again when they are needed: doctor --fix deletes them",
                    lambda path=path: _evict(home, path),
                )
    taken = sum(entry.bytes for entry in cache.entries(home))
    if taken > most:
        yield Finding(
            "cache",
            "warning",
            f"the cache takes {size_text(taken)}, more than its limit of {most / 2**30:g} GiB",
            "doctor --fix deletes what was used longest ago",
            lambda: cache.make_room(home, 0) and None,
        )
    else:
        text = f"{count} cache entries, {size_text(total)} of at most {most / 2**30:g} GiB"
        yield Finding("cache", "ok", text)


def _cache_damage(kind, path) -> str:
    """Why an entry cannot be used; "" if it can."""
    for name in ("identity.json", "lock", "used"):
        if not (path / name).exists():
            return f"{name} is missing"
    try:
        identity = homes.read_json(path / "identity.json")
        if kind == "networks":
            with open(path / "network.tflite", "rb") as file:
                if file.read(8)[4:] != b"TFL3":  # the FlatBuffers identifier of a LiteRT model
                    return "network.tflite is no LiteRT model"
            return ""
        rows = len(np.load(path / "contents.npy")) * identity["views"]
        wanted = {"records.f32": 4 * rows * identity["width"], "sums.u32": 4 * rows}
        for name, size in wanted.items():
            if (path / name).stat().st_size != size:
                return f"{name} has not {size:,} bytes"
    except UNREADABLE as error:
        return _why(error)
    return ""


def _why(error: Exception) -> str:
    """What is wrong, in a few words."""
    if isinstance(error, DamagedFile):
        return f"{error.path.name}: {error.why}"
    if isinstance(error, OSError) and error.strerror:
        return f"{Path(error.filename or '').name}: {error.strerror}"
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _evict(home, path):
    """Deletes an entry. Raises GraftError if a run uses it."""
    entry = next((entry for entry in cache.entries(home) if entry.path == path), None)
    if entry is None:  # without its lock or identity: nobody can use it
        remove(path)
    elif not cache.delete(entry):
        raise GraftError(f"{path} is in use by a run")


# -- the host -------------------------------------------------------------------------------------


def devices(home: Path) -> Iterator[Finding]:
    """What runs compute with."""
    about = device.describe()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    driver = next(Path("/proc/driver/nvidia/gpus").glob("*"), None)
    if about["kind"] == "cpu" and driver and not hidden:
        yield Finding(
            "devices",
            "warning",
            f"this host has an NVIDIA GPU, but nvidia-smi does not list it, so runs use the "
            f"{about['text']}",
            "run nvidia-smi and mend what it says",
        )
    elif about["kind"] == "cpu" and hidden and shutil.which("nvidia-smi"):
        text = f"runs use the {about['text']}, since CUDA_VISIBLE_DEVICES hides the GPU"
        yield Finding("devices", "ok", text)
    else:
        yield Finding("devices", "ok", f"runs use: {about['text']}")
