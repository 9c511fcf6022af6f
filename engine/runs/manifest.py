"""The SHA-256 of files, kept beside them in manifest.json to find what changed later; light."""

import hashlib
import json
from pathlib import Path

from engine import home as homes

FILE = "manifest.json"


def write(folder: Path, names) -> None:
    """Notes what files hold now.

    Args:
        folder: theirs.
        names: of the files; those that are not there are left out.
    """
    sums = {name: _sum(folder / name) for name in names if (folder / name).exists()}
    homes.write_json(folder / FILE, {"files": sums})


def changed(folder: Path, *names: str) -> list[str] | None:
    """Files that have gone or are not what was noted; 0.6 s for each GB.

    Args:
        folder: theirs.
        names: look at these alone; by default at all that were noted.

    Returns:
        Names, manifest.json itself if it cannot be read; None if there is none.
    """
    try:
        sums = json.loads((folder / FILE).read_text())["files"]
        kept = {name: digest for name, digest in sums.items() if not names or name in names}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return [FILE]
    return [name for name, digest in kept.items() if _sum(folder / name) != digest]


def _sum(path) -> str:
    """A file's SHA-256, in hexadecimal digits; "" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
