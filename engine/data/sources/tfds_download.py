"""Downloading from TensorFlow Datasets, with progress in bytes."""

import contextlib
import threading
from pathlib import Path

from engine import home as homes
from engine.data.sources import tfds_catalogue

LOOK_SECONDS = 0.5
"""How often the folder is looked at: a page looks once a second."""


def download(builder, name: str, report) -> None:
    """Downloads and prepares a dataset.

    TensorFlow Datasets tells nobody how far it is, so a thread measures its download folder meanwhile.

    Args:
        builder: a `tfds.core.DatasetBuilder`; of it are used url_infos, builder_configs,
            data_dir_root, info.download_size and download_and_prepare(download_dir).
        name: as the user gave it.
        report: called with (text, bytes done, bytes in total or None), from that thread.

    Raises:
        Exception: of many types, whatever TensorFlow Datasets raises.
    """
    report(f"Downloading {name}", 0, None)
    folder = Path(builder.data_dir_root) / "downloads"  # which it would choose itself
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


def _total(builder, name: str) -> int:
    """Bytes to be downloaded, 0 if nobody knows. TensorFlow Datasets itself knows before only what it
    can ask its bucket for; the package lists the files of all configurations together."""
    if builder.info.download_size:
        return int(builder.info.download_size)
    for entry in tfds_catalogue.CATALOGUE:
        if entry.name == name.split(":")[0]:
            return round(entry.download_mib * 2**20)
    if builder.builder_configs:
        return 0
    return sum(info.size for info in (builder.url_infos or {}).values())


def _watch(folder: Path, begun: int, total: int, name: str, report, ended) -> None:
    """Reports how much the folder holds beyond what it had, until the event is set."""
    done = before = 0
    while not ended.wait(LOOK_SECONDS):
        # A file that is moved during a look is seen twice or not at all: two looks must agree.
        now = _bytes(folder) - begun
        done, before = max(done, min(now, before)), now
        if total and done >= total:
            report(f"Unpacking {name}", 0, None)
        elif total:
            report(f"Downloading {name}: {done >> 20} of {-(-total >> 20)} MiB", done, total)
        else:
            report(f"Downloading {name}: {done >> 20} MiB", done, None)


def _bytes(folder: Path) -> int:
    """Bytes downloaded so far, those of files that are under way included; what is unpacked from them
    lies in the folder `extracted` and does not count."""
    total = 0
    for path in folder.glob("*"):
        if path.is_dir() and path.name != "extracted":
            total += homes.folder_bytes(path)
        elif not path.is_dir():
            with contextlib.suppress(FileNotFoundError):  # moved meanwhile
                total += path.stat().st_size
    return total
