"""A small home written by an earlier version of Graft (commit ecbb746), as people have on disk.

Its network is GraftSmall with three quarters of the weights set to 0, so that the zip is small.
"""

import json
import zipfile
from pathlib import Path

from engine import home as homes

ZIP = Path(__file__).with_name("home_of_before.zip")


def unpacked(folder: Path) -> tuple[Path, dict]:
    """Unpacks it.

    Args:
        folder: an empty one.

    Returns:
        (the home, notes): what the earlier version said about it: ids (first, paused, trashed,
        waiting, batch, overlay), summary and number of events of the run first, answers to its
        examples, labels of the batch.
    """
    with zipfile.ZipFile(ZIP) as packed:
        packed.extractall(folder)
    return homes.home(folder / "home"), json.loads((folder / "notes.json").read_text())
