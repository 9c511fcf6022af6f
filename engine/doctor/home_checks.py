"""Checks of the home and the host; `engine.doctor.run_checks` has those of runs.

Each check is a generator of Findings. A check that finds nothing wrong yields one that says so.
"""

from __future__ import annotations

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
from functools import partial
from pathlib import Path

import numpy as np

from engine import home as homes
from engine.accounts import users
from engine.doctor import restore
from engine.errors import DamagedFile, GraftError
from engine.features import cache
from engine.home import size_text
from engine.host import device, settings
from engine.host.words import plural
from engine.runs import runs, trash
from engine.serve import keys

HOUR = 3600
"""Age in seconds from which something half-written is a leftover and no longer being written."""
ROOM = 2**30
"""Bytes of free disk below which there is a warning."""
UNREADABLE = (
    GraftError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError,
    zipfile.BadZipFile,
)  # fmt: skip
"""Errors from reading a file that is damaged or holds something else."""
_TEMPORARY = re.compile(r"^\..+\.[a-z0-9_]{8}$")  # names from tempfile (engine.home)
_DOOMED = re.compile(r"^\.(deleted|making)-")


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        check: what was checked, such as "runs".
        severity: "ok", "warning" or "error".
        text: one sentence.
        remedy: what to do, one sentence; "" where there is nothing to do.
        fix: called without arguments, fixes it; None where a person has to.
    """

    check: str
    severity: str
    text: str
    remedy: str = ""
    fix: Callable[[], object] | None = None

    @property
    def fixable(self) -> bool:
        """Whether `doctor --fix` can fix it."""
        return self.fix is not None

    def to_dict(self) -> dict:
        """Plain data."""
        names = ("check", "severity", "text", "remedy", "fixable")
        return {name: getattr(self, name) for name in names}


def remove(path: Path) -> str:
    """Deletes a file, or a folder with its contents; one that is already gone is fine."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return "deleted"


def age(path: Path) -> float:
    """Seconds since anything in a file or folder was written; 0 if it is gone."""
    newest = 0.0
    with contextlib.suppress(FileNotFoundError):
        newest = path.stat().st_mtime
        for inner in path.rglob("*") if path.is_dir() else ():
            newest = max(newest, inner.stat().st_mtime)
    return time.time() - newest if newest else 0.0


# -- the home -------------------------------------------------------------------------------------


def disk(home: Path) -> Iterator[Finding]:
    """Whether the home can be written, free disk space, and the size of the trash."""
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding(
            "home",
            "error",
            f"{home} cannot be written ({error.strerror})",
            "free some space, or set GRAFT_HOME to a folder you can write to",
        )
        return
    usage = shutil.disk_usage(home)
    try:
        least = settings.get(home)["min_free_mb"] * 2**20
    except UNREADABLE:  # `settings_file` reports it
        least = settings.DEFAULTS["min_free_mb"] * 2**20
    own = (homes.RUNS, homes.DATASETS, homes.SAVED, homes.UPLOADS, homes.INSPECTIONS, homes.CACHE)
    parts = {part: homes.folder_bytes(home / part) for part in own if (home / part).exists()}
    taken = ", ".join(f"{part} {size_text(count)}" for part, count in parts.items())
    text = f"{home} can be written; {size_text(usage.free)} free on its disk ({taken})"
    remedy = (
        "empty the trash (python -m engine trash --empty), clear the cache (python -m engine cache "
        "--clear) or delete runs"
    )
    if usage.free < least:
        text = f"only {size_text(usage.free)} free on the disk of {home}, so no run can start"
        yield Finding("home", "error", text, remedy)
    elif usage.free < max(ROOM, least):
        yield Finding("home", "warning", text, remedy)
    else:
        yield Finding("home", "ok", text)
    deleted = trash.listed(home)
    if deleted:
        size = size_text(sum(each.bytes for each in deleted))
        text = f"the trash holds {plural(len(deleted), 'deleted run')}, {size}"
        yield Finding("trash", "ok", text, "python -m engine trash --empty deletes them for good")


def leftovers(home: Path) -> Iterator[Finding]:
    """Files and folders that a killed process left half-written or half-deleted."""
    flat = (homes.TRASH, homes.PROBES, homes.CURATION, homes.OVERLAYS)
    deep = (homes.RUNS, homes.DATASETS, homes.CACHE, homes.SAVED, homes.INSPECTIONS)
    folders = [home / part for part in (*deep, *flat) if (home / part).exists()]
    for part in (part for part in deep if (home / part).exists()):
        # One level deeper: files are written beside those they replace.
        folders += [p for p in children(home / part) if p.is_dir() and not p.name.startswith(".")]
    # In the home itself only Graft's own name: the folder may hold files of other programs.
    paths = sorted(home.glob(f".{homes.SETTINGS}.*"))
    paths += [path for folder in folders for path in children(folder)]
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
            f"{path.relative_to(home)} is {what} ({size_text(size)}), left by a killed process",
            "nothing reads it: doctor --fix deletes it",
            partial(remove, path),
        )
    if not found:
        yield Finding("leftovers", "ok", "nothing is half-written or half-deleted")


def children(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing if it does not exist."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def settings_file(home: Path) -> Iterator[Finding]:
    """Whether the settings can be read."""
    path = home / homes.SETTINGS
    try:
        found = homes.read_json(path)
    except DamagedFile as error:
        found, why = [], error.why
    else:
        why = "it does not contain settings"
    if found is not None and not isinstance(found, dict):
        text = f"{path} is damaged ({why})"
        remedy = "fix it, or delete it to use the defaults; doctor --fix moves it aside"
        yield Finding("settings", "error", text, remedy, partial(restore.moved, home, path))
    else:
        text = f"{homes.SETTINGS} can be read" if found else "the default settings are used"
        yield Finding("settings", "ok", text)


def queue(home: Path) -> Iterator[Finding]:
    """Whether the queue's database is undamaged."""
    path = home / homes.QUEUE
    if not path.exists():
        yield Finding("queue", "ok", "there is no queue yet")
    elif why := torn_database(path):
        text = f"the queue {path} is damaged ({why})"
        remedy = (
            "doctor --fix moves it aside once no run is in progress, and the next command creates "
            "a new queue; then resume the waiting runs"
        )
        at_work = any(run.status in ("starting", "running") for run in runs.list_runs(home))
        fix = None if at_work else partial(_new_queue, home)
        yield Finding("queue", "error", text, remedy, fix)
    else:
        yield Finding("queue", "ok", "the queue is not damaged")


def accounts(home: Path) -> Iterator[Finding]:
    """Whether the files of users and of keys can be read, and by their owner only.

    A damaged one is not moved aside: without it, nobody would need to sign in.
    """
    why = {}
    for name, read in ((homes.ACCOUNTS, users.listed), (homes.KEYS, keys.listed)):
        path, why[name] = home / name, ""
        if name == homes.ACCOUNTS and path.exists():
            why[name] = torn_database(path)
        try:
            why[name] or read(home)
        except GraftError as error:
            why[name] = why_of(error)
        if path.exists() and path.stat().st_mode & 0o077:
            text = f"others on this host can read {path}"
            yield Finding("accounts", "warning", text, f"chmod 600 {path}")
    for name, reason in why.items():
        if reason:
            text = f"{home / name} is damaged ({reason}), so nobody can sign in with it"
            remedy = "put a copy of it back, or delete it, which removes all that it lists"
            yield Finding("accounts", "error", text, remedy)
    if not any(why.values()):
        found = (
            f"{plural(len(users.listed(home)), 'user')}, {plural(len(keys.listed(home)), 'key')}"
        )
        yield Finding("accounts", "ok", found)


def torn_database(path: Path) -> str:
    """What is wrong with an SQLite file (`PRAGMA quick_check`); "" if nothing is."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=10)
        with contextlib.closing(connection):
            said = [row[0] for row in connection.execute("PRAGMA quick_check")]
    except sqlite3.Error as error:
        return str(error)
    if said == ["ok"]:
        return ""
    return said[0].splitlines()[0] if said else "no answer"


def _new_queue(home: Path) -> str:
    said = restore.moved(home, home / homes.QUEUE)
    for more in ("-wal", "-shm"):  # of the old file
        if (path := home / f"{homes.QUEUE}{more}").exists():
            restore.aside(home, path)
    return said


# -- the cache ------------------------------------------------------------------------------------


def cached(home: Path) -> Iterator[Finding]:
    """Whether the cache's entries are undamaged, and within its limit."""
    settings_path = home / homes.CACHE / homes.SETTINGS
    try:
        most = cache.limit(home)
    except UNREADABLE:
        yield Finding(
            "cache",
            "error",
            f"{settings_path} is damaged, so no run can use the cache",
            f"doctor --fix deletes it, which sets the limit to {cache.DEFAULT_LIMIT_GIB:g} GiB",
            partial(remove, settings_path),
        )
        return
    total = count = 0
    for kind in cache.KINDS:
        for path in children(home / homes.CACHE / kind):
            if path.name.startswith(".") or not path.is_dir():
                continue
            count, total = count + 1, total + homes.folder_bytes(path)
            why = _cache_damage(kind, path)
            if why:
                yield Finding(
                    "cache",
                    "warning",
                    f"the cached {kind} {path.name} are damaged ({why})",
                    "they are computed again when needed: doctor --fix deletes them",
                    partial(_evict, home, path),
                )
    taken = sum(entry.bytes for entry in cache.entries(home))
    if taken > most:
        yield Finding(
            "cache",
            "warning",
            f"the cache takes {size_text(taken)}, more than its limit of {most / 2**30:g} GiB",
            "doctor --fix deletes the entries used longest ago",
            partial(cache.make_room, home, 0),
        )
    else:
        entries = plural(count, "cache entry", "cache entries")
        text = f"{entries}, {size_text(total)} of at most {most / 2**30:g} GiB"
        yield Finding("cache", "ok", text)


def _cache_damage(kind: str, path: Path) -> str:
    """Why an entry cannot be used; "" if it can."""
    for name in ("identity.json", "lock", "used"):
        if not (path / name).exists():
            return f"{name} is missing"
    try:
        identity = homes.read_json(path / "identity.json")
        if kind == "networks":
            with open(path / "network.tflite", "rb") as file:
                if file.read(8)[4:] != b"TFL3":  # the FlatBuffers identifier of a LiteRT model
                    return "network.tflite is not a LiteRT model"
            return ""
        rows = len(np.load(path / "contents.npy")) * identity["views"]
        wanted = {"records.f32": 4 * rows * identity["width"], "sums.u32": 4 * rows}
        for name, size in wanted.items():
            if (path / name).stat().st_size != size:
                return f"{name} does not have {size:,} bytes"
    except UNREADABLE as error:
        return why_of(error)
    return ""


def why_of(error: Exception) -> str:
    """The cause in a few words."""
    if isinstance(error, DamagedFile):
        return f"{error.path.name}: {error.why}"
    if isinstance(error, OSError) and error.strerror:
        return f"{Path(error.filename or '').name}: {error.strerror}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _evict(home: Path, path: Path) -> None:
    """Deletes an entry. Raises GraftError if a run uses it."""
    entry = next((entry for entry in cache.entries(home) if entry.path == path), None)
    if entry is None:  # without its lock or identity, no run can use it
        remove(path)
    elif not cache.delete(entry):
        raise GraftError(f"{path} is in use by a run")


# -- the host -------------------------------------------------------------------------------------


def devices(home: Path) -> Iterator[Finding]:
    """The device that runs use."""
    about = device.describe()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    driver = next(Path("/proc/driver/nvidia/gpus").glob("*"), None)
    if about["kind"] == "cpu" and driver and not hidden:
        yield Finding(
            "devices",
            "warning",
            "this host has an NVIDIA GPU, but nvidia-smi does not list it, so runs use the "
            f"{about['text']}",
            "run nvidia-smi and fix what it reports",
        )
    elif about["kind"] == "cpu" and hidden and shutil.which("nvidia-smi"):
        text = f"runs use the {about['text']}, because CUDA_VISIBLE_DEVICES hides the GPU"
        yield Finding("devices", "ok", text)
    else:
        yield Finding("devices", "ok", f"runs use: {about['text']}")
