"""Images of guests that a sharer asked to collect: GRAFT_HOME/guests/RUN/USER/*.jpg. Light.

They are kept smaller than they came and without the file's other data, such as where the photo was
taken, until the sharer deletes them or the run is deleted for good.
"""

from __future__ import annotations

import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from engine import home as homes
from engine.errors import DatasetError
from engine.runs import trash
from engine.runs.runs import Run

SIDE = 1600
"""Longest side of a kept image, pixels: more than any backbone reads, a tenth of the bytes."""
QUALITY = 90


@dataclass(frozen=True)
class GuestImage:
    """A kept image.

    Attributes:
        name: for people; nothing of a guest's file name.
        path: of the JPEG.
        by: who collected it.
    """

    name: str
    path: Path
    by: str


def keep(home: Path, run: str, by: str, image: Image.Image) -> None:
    """Keeps an image. Raises DatasetError if the disk is full.

    Args:
        home: Graft's home.
        run: the run's id.
        by: who collects.
        image: mode RGB, upright (`engine.images.decode.read`); not changed.
    """
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    folder = Path(home) / homes.GUESTS / run / by
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # In the order in which they came.
        name = f"{time.time_ns() // 1000}-{secrets.token_hex(4)}.jpg"
        with homes.replacing(folder / name, "wb") as file:
            small.save(file, "JPEG", quality=QUALITY)
    except OSError as error:
        raise DatasetError(
            f"a guest's image could not be kept in {folder} ({error.strerror or error}); free some "
            "space"
        ) from None


def listed(run: Run, by: str | None = None) -> list[GuestImage]:
    """The kept images of a run, the newest first.

    Args:
        run: the Run.
        by: who collected them; None for everyone's.
    """
    folder = run.home / homes.GUESTS / run.id
    found = sorted(folder.glob(f"{by or '*'}/*.jpg"), key=lambda path: path.name)
    kept = [
        GuestImage(f"guest photo {number}", path, path.parent.name)
        for number, path in enumerate(found, 1)
    ]
    return kept[::-1]


def clear(run: Run, by: str) -> int:
    """Deletes the images of a run that somebody collected; returns how many.

    Raises:
        DatasetError: if one cannot be deleted.
    """
    found = listed(run, by)
    try:
        for image in found:
            image.path.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(
            f"{image.path} cannot be deleted ({error.strerror}); check its permissions"
        ) from None
    return len(found)


def sweep(home: Path) -> None:
    """Deletes the images of runs that were deleted for good."""
    for folder in (Path(home) / homes.GUESTS).glob("*/"):
        run = folder.name
        if not (Path(home) / homes.RUNS / run).exists() and not trash.find(home, run):
            shutil.rmtree(folder, ignore_errors=True)
