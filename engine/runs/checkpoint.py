"""Checkpoints: all that a run needs to be taken up again exactly where it was; NumPy only.

RUN/checkpoints/ckpt-00000012/
    position.json   stage, epoch, batch, step, counters; what it is, see `engine.train.training`
    state.npz       network with seed generators, optimizer, running means of the metrics
    best.npz        the best weights so far, if there are any
    manifest.json   SHA-256 of each file; written last

A checkpoint is written into a folder aside, files and folder are brought to the disk, then it is
renamed: a kill or a power cut leaves the ones before, and a folder that nobody reads. Two are kept, so
that one damaged afterwards is no loss. (Keras' BackupAndRestore writes in place and leaves out seeds
and counters, see its source; the order of writes is that of Pillai et al. 2014, "All File Systems Are
Not Created Equal", section 4.)
"""

import errno
import hashlib
import io
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np

from engine.runs import manifest

KEPT = 2
FOLDER = "checkpoints"


class Checkpoints:
    """A run's checkpoints.

    Args:
        run: the run's folder.

    Attributes:
        seconds: what the last write took.
        bytes: what the last one takes on the disk.
    """

    def __init__(self, run: Path):
        self.path = Path(run) / FOLDER
        self.seconds, self.bytes = 0.0, 0

    def save(self, position: dict, state: dict, best=None) -> Path:
        """Writes a checkpoint and removes what is older than the one before.

        Args:
            position: plain data.
            state: `{name: array}`.
            best: list of arrays, or None while there are none. Written each time: linked to the one
                before, one damaged block would be in both.

        Raises:
            OSError: for example when the disk is full; the checkpoints before are untouched.
        """
        begun = time.monotonic()
        self.path.mkdir(exist_ok=True)
        for leftover in self.path.glob(".ckpt-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        earlier = self.listed()
        number = 1 + (_number(earlier[-1]) if earlier else 0)
        target = self.path / f"ckpt-{number:08d}"
        aside = self.path / f".ckpt-{number:08d}"
        aside.mkdir()
        try:
            sums = {"position.json": _write(aside / "position.json", json.dumps(position).encode())}
            sums["state.npz"] = _write_arrays(aside / "state.npz", state)
            if best is not None:
                arrays = {f"{i:05d}": value for i, value in enumerate(best)}
                sums["best.npz"] = _write_arrays(aside / "best.npz", arrays)
            _write(aside / manifest.FILE, json.dumps({"files": sums}).encode())
            _to_disk(aside)
            os.rename(aside, target)
            _to_disk(self.path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        for old in earlier[: 1 - KEPT or None]:
            shutil.rmtree(old, ignore_errors=True)
        self.bytes = sum(file.stat().st_size for file in target.iterdir())
        self.seconds = time.monotonic() - begun
        return target

    def listed(self) -> list[Path]:
        """Folders of all checkpoints, oldest first."""
        return sorted(self.path.glob("ckpt-*"), key=_number)

    def load(self) -> tuple[dict, dict, list | None] | None:
        """The newest whole checkpoint.

        Returns:
            (position, state, best) as given to `save`; None if there is none. A damaged one is
            passed over; `position["damaged"]` counts them.
        """
        damaged = 0
        for folder in reversed(self.listed()):
            if not whole(folder):
                damaged += 1
                continue
            position = json.loads((folder / "position.json").read_text())
            best = None
            if (folder / "best.npz").exists():
                best = list(_read_arrays(folder / "best.npz").values())
            return position | {"damaged": damaged}, _read_arrays(folder / "state.npz"), best
        return None

    def position(self) -> dict | None:
        """Where the newest whole checkpoint stands, without its arrays."""
        for folder in reversed(self.listed()):
            if whole(folder):
                return json.loads((folder / "position.json").read_text())
        return None

    def clear(self) -> None:
        """Deletes all: the run's model holds what they were for."""
        shutil.rmtree(self.path, ignore_errors=True)


def whole(folder: Path) -> bool:
    """Whether a checkpoint is complete and every file has its SHA-256."""
    return manifest.changed(folder) == []


def disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or a quota on it, is full; HDF5 and TensorFlow wrap it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def _number(folder: Path) -> int:
    digits = folder.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _write(path: Path, data) -> str:
    """Writes bytes to the disk itself; returns their SHA-256."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def _write_arrays(path: Path, arrays: dict) -> str:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return _write(path, file.getbuffer())


def _read_arrays(path: Path) -> dict:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _to_disk(folder: Path) -> None:
    """Brings a folder's own entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy(source: Path, target: Path) -> None:
    """Gives a run the newest whole checkpoint of another, linked where the disk can.

    Args:
        source, target: folders of runs.
    """
    for folder in reversed(Checkpoints(source).listed()):
        if whole(folder):
            aside = Path(target) / FOLDER / f".{folder.name}"
            aside.parent.mkdir(exist_ok=True)
            shutil.copytree(folder, aside, copy_function=_link_or_copy)
            os.rename(aside, aside.with_name(folder.name))
            return


def _link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
