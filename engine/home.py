"""Where Graft writes: one home for datasets, runs and caches; and how files are written safely."""

import contextlib
import errno
import json
import os
import tempfile
from pathlib import Path

from engine.errors import DamagedFile, GraftError

PROJECT = Path(__file__).resolve().parent.parent


def home(path=None) -> Path:
    """The folder for all that Graft writes, made if missing.

    Args:
        path: overrides the environment variable GRAFT_HOME, which overrides `.graft` beside app.py.

    Raises:
        GraftError: if it cannot be made or written.
    """
    folder = Path(path or os.environ.get("GRAFT_HOME") or PROJECT / ".graft").expanduser().resolve()
    try:
        for part in ("runs", "datasets", "cache", "trash"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GraftError(
            f"Graft cannot write to its home {folder} ({error.strerror}); set GRAFT_HOME to a folder "
            "you can write to"
        ) from None
    locked = [p for p in ("runs", "datasets", "cache") if not os.access(folder / p, os.W_OK)]
    if locked:
        raise GraftError(
            f"Graft's home {folder} is read-only ({', '.join(locked)}); set GRAFT_HOME to a folder "
            "you can write to"
        )
    return folder


@contextlib.contextmanager
def replacing(path: Path, mode="w"):
    """Opens a file beside `path`, and puts it in `path`'s place only when all is safely on disk.

    A reader sees the old file or the new one, never half of either (facts: a kill in mid-write).
    """
    path = Path(path)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise


def write_json(path: Path, data) -> None:
    """Writes JSON through `replacing`."""
    with replacing(path) as file:
        json.dump(data, file, indent=1)
        file.write("\n")


def read_json(path: Path, default=None):
    """Reads JSON; `default` if the file does not exist. Raises DamagedFile if it is no JSON."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        return default
    except ValueError as error:  # cut off, or not UTF-8
        raise DamagedFile(Path(path), error) from None


@contextlib.contextmanager
def reading(path: Path):
    """Raises DamagedFile for whatever a file's bytes make its reader raise inside the `with`; what
    the disk has to say stays an OSError."""
    try:
        yield
    except Exception as error:
        # EINVAL: the bytes told the reader to look before the file's beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DamagedFile(Path(path), str(error).strip() or type(error).__name__) from None


def folder_bytes(path: Path) -> int:
    """Bytes of all files in a folder; what goes away meanwhile does not count."""
    total, folders = 0, [path]
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
    """Waits until a file is on the disk: renamed before that, it could be empty after a power cut."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
