"""The SHA-256 of files, kept beside them in manifest.json to find later changes. Light."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from engine import home as homes
from engine.runs.files import MANIFEST as FILE


def write(folder: Path, names: Iterable[str]) -> None:
    """Records the content of files.

    Args:
        folder: has the files.
        names: of the files; missing ones are left out.
    """
    sums = {name: _sum(folder / name) for name in names if (folder / name).exists()}
    homes.write_json(folder / FILE, {"files": sums})


def changed(folder: Path, *names: str) -> list[str] | None:
    """Files that are gone or differ from the record; takes 0.6 s for each GB.

    Args:
        folder: has the files.
        names: check only these; by default all recorded ones.

    Returns:
        Names; manifest.json itself if it cannot be read; None if there is no manifest.json.
    """
    try:
        sums = json.loads((folder / FILE).read_bytes())["files"]
        kept = {name: digest for name, digest in sums.items() if not names or name in names}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return [FILE]
    return [name for name, digest in kept.items() if _sum(folder / name) != digest]


def _sum(path: Path) -> str:
    """A file's SHA-256 in hexadecimal digits; "" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
