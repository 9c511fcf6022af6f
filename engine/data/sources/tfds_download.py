"""Downloading from TensorFlow Datasets, with progress in bytes."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from engine import home as homes
from engine.data.sources import tfds_catalogue
from engine.host.background import Report

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

LOOK_SECONDS = 0.5
"""Time between two looks at the folder: a page reads the progress once a second."""


def download(builder: DatasetBuilder, name: str, report: Report) -> None:
    """Downloads and prepares a dataset.

    TensorFlow Datasets does not report its progress, so a thread measures its download folder.

    Args:
        builder: its url_infos, builder_configs, data_dir_root, info.download_size and
            download_and_prepare(download_dir) are used.
        name: as the user gave it.
        report: called with (text, bytes done, bytes in total or None), from that thread.

    Raises:
        Exception: of many types, whatever TensorFlow Datasets raises.
    """
    report(f"Downloading {name}", 0, None)
    folder = Path(builder.data_dir_root) / "downloads"  # the default of TensorFlow Datasets
    total = _total(builder, name)
    ended = threading.Event()
    measured = (folder, _bytes(folder), total, name, report, ended)
    watcher = threading.Thread(target=_watch, args=measured)
    watcher.start()
    try:
        builder.download_and_prepare(download_dir=str(folder))
    finally:
        ended.set()
        watcher.join()


def _total(builder: DatasetBuilder, name: str) -> int:
    """Bytes to download, 0 if unknown. TensorFlow Datasets knows the size in advance only for what
    is in its own bucket; the package lists the files of all configurations together."""
    if builder.info.download_size:
        return int(builder.info.download_size)
    for entry in tfds_catalogue.CATALOGUE:
        if entry.name == name.split(":")[0]:
            return round(entry.download_mib * 2**20)
    if builder.builder_configs:
        return 0
    return sum(info.size for info in (builder.url_infos or {}).values())


def _watch(
    folder: Path, begun: int, total: int, name: str, report: Report, ended: threading.Event
) -> None:
    """Reports how many bytes the folder has beyond `begun`, until the event is set."""
    done = before = 0
    while not ended.wait(LOOK_SECONDS):
        # A file that is moved during a look is counted twice or not at all: two looks must agree.
        now = _bytes(folder) - begun
        done, before = max(done, min(now, before)), now
        if total and done >= total:
            report(f"Unpacking {name}", 0, None)
        elif total:
            report(f"Downloading {name}: {done >> 20} of {-(-total >> 20)} MiB", done, total)
        else:
            report(f"Downloading {name}: {done >> 20} MiB", done, None)


def _bytes(folder: Path) -> int:
    """Bytes downloaded so far, including unfinished files. Unpacked files, which are in the folder
    `extracted`, do not count."""
    total = 0
    for path in folder.glob("*"):
        if path.is_dir() and path.name != "extracted":
            total += homes.folder_bytes(path)
        elif not path.is_dir():
            with contextlib.suppress(FileNotFoundError):  # moved in the meantime
                total += path.stat().st_size
    return total
