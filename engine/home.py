"""Where Graft writes: one home for datasets, runs and caches; and how files are written safely.

Every name below is a folder or a file of a home; `engine.runs.files` has the files of a run.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from engine.errors import DamagedFile, GraftError, ReadOnlyHome

PROJECT = Path(__file__).resolve().parent.parent

RUNS = "runs"
"""A folder for each run."""
DATASETS = "datasets"
"""A folder for each prepared dataset, with its lock and progress beside it."""
CACHE = "cache"
"""Cached features and converted networks; can be deleted at any time."""
TRASH = "trash"
"""Deleted runs (`engine.runs.trash`)."""
SAVED = "saved"
"""Datasets built in Graft, a folder each."""
UPLOADS = "uploads"
"""Zip files that came through the browser."""
BATCHES = "batches"
"""Batches of classified images."""
FEEDBACK = "feedback"
"""Images that people marked, a folder for each run."""
GUESTS = "guests"
"""Images that guests sent and that were collected, a folder for each run."""
INSPECTIONS = "inspections"
"""What an inspection found, a folder for each dataset."""
CURATION = "curation"
"""The history of decisions about single images, a file for each dataset."""
OVERLAYS = "overlays"
"""Decisions about single images, named by their hash."""
PROBES = "probes"
"""Progress and results of preflight, the rate finder, exports and payback."""
QUEUE = "queue.db"
"""Waiting runs and taken devices (`engine.runs.queue`)."""
SETTINGS = "settings.json"
"""Settings of the host; in `cache`, the cache's own."""
SUPERVISOR_LOCK, SUPERVISOR_LOG = "supervisor.lock", "supervisor.log"
"""Held and written by the process that looks after the runs."""
ACCOUNTS = "accounts.db"
"""Users, sessions and share links (`engine.accounts`); only the owner may read it."""
AUDIT = "audit.jsonl"
"""Who did what (`engine.actions`)."""
KEYS = "keys.json"
"""Keys of the endpoint, hashed (`engine.serve.keys`)."""

_MADE = (RUNS, DATASETS, CACHE, TRASH)
"""Folders that every home has."""


def folder(path: str | os.PathLike[str] | None = None) -> Path:
    """Where the home is, whether it exists or not; see `home`."""
    return Path(path or os.environ.get("GRAFT_HOME") or PROJECT / ".graft").expanduser().resolve()


def home(path: str | os.PathLike[str] | None = None) -> Path:
    """The folder for all that Graft writes; created if missing.

    One that can only be read is returned too: `writable` says so before anything is written.

    Args:
        path: overrides the environment variable GRAFT_HOME, which overrides `.graft` beside app.py.

    Raises:
        GraftError: if it can neither be created nor read.
    """
    place, why = folder(path), os.strerror(errno.EACCES)
    try:
        for part in _MADE:
            (place / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or type(error).__name__
    if not os.access(place / RUNS, os.R_OK | os.X_OK):
        raise GraftError(
            f"Graft cannot use its home {place} ({why}); set GRAFT_HOME to a folder you can write "
            "to"
        )
    return place


def read_only(home: Path) -> bool:
    """Whether a home can be looked at, but nothing can be written to it."""
    return not all(os.access(Path(home) / part, os.W_OK) for part in ("", RUNS, DATASETS, CACHE))


def writable(home: Path) -> None:
    """Raises ReadOnlyHome for a home that is `read_only`."""
    if read_only(home):
        raise ReadOnlyHome(home)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts a file's path into an OSError that names none, as those of writing to it."""
    try:
        yield
    except OSError as error:
        if not error.filename:
            error.filename = os.fspath(path)
        raise


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file beside `path`, and moves it to `path` only when all of it is on the disk.

    Text is UTF-8. A reader sees the old file or the new one, never half of either.
    """
    path = Path(path)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with (
            naming(path),
            os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file,
        ):
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[None]:
    """Deletes a new folder if what fills it fails: it is there as a whole or not at all."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


READABLE = 1_000_000
"""Characters of JSON that people may read: more is a table of many classes, and twice as long
indented."""


def write_json(path: Path, data: object) -> None:
    """Writes JSON through `replacing`: indented for people, unless it is longer than `READABLE`."""
    text = json.dumps(data)
    if len(text) < READABLE:
        text = json.dumps(data, indent=1)
    with replacing(path) as file:
        file.write(f"{text}\n")


def read_json(path: Path, default: Any = None) -> Any:
    """Reads JSON; `default` if the file does not exist. Raises DamagedFile if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except UnicodeDecodeError:
        raise DamagedFile(Path(path), "it is not UTF-8 text") from None
    except ValueError as error:  # cut off
        raise DamagedFile(Path(path), error) from None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises DamagedFile for any error that a file's bytes cause inside the `with`.

    An error of the disk stays an OSError.
    """
    try:
        yield
    except Exception as error:
        # EINVAL: damaged bytes made the reader seek to before the start of the file.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DamagedFile(Path(path), str(error).strip() or type(error).__name__) from None


def folder_bytes(path: Path) -> int:
    """Bytes of all files in a folder; what is deleted meanwhile does not count."""
    total, folders = 0, [os.fspath(path)]
    while folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            total += entry.stat(follow_symlinks=False).st_size
    return total


def size_text(count: float) -> str:
    """Bytes for people: "0.4 MB", "12.3 MB", "1.6 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def to_disk(path: Path) -> None:
    """Waits until a file is on the disk; if renamed before, a power cut could leave it empty."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
