"""Checkpoints: all that a run needs to be resumed exactly where it was; NumPy only.

RUN/checkpoints/ckpt-00000012/
    position.json   stage, epoch, batch, step, counters; see `engine.train.training`
    state.npz       network with seed generators, optimizer, running means of the metrics
    best.npz        the best weights so far, if there are any
    manifest.json   SHA-256 of each file; written last

A checkpoint is written into a temporary folder, files and folder are flushed to the disk, then the
folder is renamed: a kill or a power cut leaves the checkpoints before it, and a folder that nobody
reads. Two are kept, so that nothing is lost if one is damaged later. (Keras' BackupAndRestore
writes in place and leaves out seeds and counters, see its source; the order of writes is that of
Pillai et al. 2014, "All File Systems Are Not Created Equal", section 4.)
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

from engine.errors import DamagedFile
from engine.host import manifest
from engine.runs import files

KEPT = 2
_POSITION, _STATE, _BEST = "position.json", "state.npz", "best.npz"


class Checkpoints:
    """A run's checkpoints.

    Args:
        run: the run's folder.

    Attributes:
        seconds: duration of the last write.
        bytes: size of the last checkpoint on the disk.
    """

    def __init__(self, run: Path) -> None:
        self.path = Path(run) / files.CHECKPOINTS
        self.seconds, self.bytes = 0.0, 0

    def save(
        self,
        position: dict,
        state: dict[str, np.ndarray],
        best: list[np.ndarray] | None = None,
    ) -> Path:
        """Writes a checkpoint and removes what is older than the one before.

        Args:
            position: plain data.
            state: `{name: array}`.
            best: the best weights; None while there are none. Written each time: if it were a link
                to the file before, one damaged block would be in both.

        Raises:
            OSError: for example when the disk is full; earlier checkpoints are untouched.
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
            sums = {_POSITION: _write(aside / _POSITION, json.dumps(position).encode())}
            sums[_STATE] = _write_arrays(aside / _STATE, state)
            if best is not None:
                arrays = {f"{i:05d}": value for i, value in enumerate(best)}
                sums[_BEST] = _write_arrays(aside / _BEST, arrays)
            _write(aside / files.MANIFEST, json.dumps({"files": sums}).encode())
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
            (position, state, best) as given to `save`; None if there is none. Damaged ones are
            skipped; `position["damaged"]` is their number.
        """
        damaged = 0
        for folder in reversed(self.listed()):
            if not whole(folder):
                damaged += 1
                continue
            position = json.loads((folder / _POSITION).read_bytes())
            best = None
            if (folder / _BEST).exists():
                best = list(_read_arrays(folder / _BEST).values())
            return position | {"damaged": damaged}, _read_arrays(folder / _STATE), best
        return None

    def position(self) -> dict | None:
        """The position in the newest whole checkpoint; None if there is none."""
        folder = self.newest()
        return None if folder is None else json.loads((folder / _POSITION).read_bytes())

    def newest(self) -> Path | None:
        """The folder of the newest whole checkpoint; None if there is none."""
        return next((folder for folder in reversed(self.listed()) if whole(folder)), None)

    def clear(self) -> None:
        """Deletes all: the run's model replaces them."""
        shutil.rmtree(self.path, ignore_errors=True)


def whole(folder: Path) -> bool:
    """Whether all files of a checkpoint are as they were written."""
    record = folder / files.MANIFEST
    try:
        return manifest.recorded(record) is not None and not manifest.changed(record)
    except (DamagedFile, OSError):
        return False


def disk_full(error: BaseException) -> bool:
    """Whether an error means a full disk or quota, also one that HDF5 or TensorFlow has wrapped."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def _number(folder: Path) -> int:
    digits = folder.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _write(path: Path, data: bytes | memoryview) -> str:
    """Writes bytes and flushes them to the disk; returns their SHA-256."""
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
    """Flushes a folder's list of files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy(source: Path, target: Path) -> None:
    """Copies the newest whole checkpoint of a run to another run, as links where the disk can.

    Args:
        source, target: folders of runs.
    """
    folder = Checkpoints(source).newest()
    if folder is not None:
        aside = Path(target) / files.CHECKPOINTS / f".{folder.name}"
        aside.parent.mkdir(exist_ok=True)
        shutil.copytree(folder, aside, copy_function=_link_or_copy)
        os.rename(aside, aside.with_name(folder.name))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
