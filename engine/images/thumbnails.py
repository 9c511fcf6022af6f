"""Thumbnails of a dataset's images, created once and kept by content in one SQLite file.

Several processes and threads may read and write it at the same time (write-ahead log). Reading a
thumbnail takes about ten microseconds.
"""

from __future__ import annotations

import contextlib
import io
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock
from PIL import Image

from engine import home as homes
from engine.images import Images, decode

SIDE = 160
"""Longest side, pixels."""
QUALITY = 80
"""Of JPEG, 0 to 95: about 6 kB and 0.2 ms each. WebP at 75 is a third smaller, but takes 4 ms."""


def folder(home: str | Path, source_fingerprint: str) -> Path:
    """The folder of a dataset's thumbnails and inspection (`engine.inspection.inspection`)."""
    return Path(home) / homes.INSPECTIONS / source_fingerprint[:24]


def encode(picture: Image.Image, side: int = SIDE) -> bytes:
    """A JPEG whose longest side is at most `side` pixels, from an image of mode RGB."""
    scale = side / max(*picture.size, side)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    file = io.BytesIO()
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


class Thumbnails:
    """The store of one dataset.

    Args:
        home: Graft's home.
        source_fingerprint: of the Dataset; decisions about images do not change it.
    """

    def __init__(self, home: str | Path, source_fingerprint: str) -> None:
        self.path = folder(home, source_fingerprint) / "thumbs.sqlite"
        self._own = threading.local()

    def get(self, dataset: Images, row: int) -> bytes:
        """The thumbnail of an image, an encoded JPEG; created and kept if it does not exist yet.

        Args:
            dataset: the open Dataset, with or without overlay.
            row: of the image in it.

        Raises:
            LostImageError, ImageError: if it must be created, and the image can no longer be read.
        """
        content = str(dataset.contents[row])
        # With a full or read-only disk, a long lock or a damaged file, a gallery still shows its
        # images.
        with contextlib.suppress(sqlite3.Error, OSError), self._using() as connection:
            found = connection.execute(
                "SELECT data FROM thumbs WHERE content = ?", (content,)
            ).fetchone()
            if found:
                return found[0]
        data = encode(decode.read(dataset.image_bytes(row)))
        with contextlib.suppress(sqlite3.Error, OSError):
            self.put_many([(content, data)])
        return data

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Keeps thumbnails, all or none.

        Args:
            items: pairs of (content, encoded bytes).
        """
        with self._using() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO thumbs VALUES (?, ?)", items)

    def count(self) -> int:
        """How many are kept."""
        with self._using() as connection:
            return connection.execute("SELECT count(*) FROM thumbs").fetchone()[0]

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; opened again if the file was deleted or replaced."""
        connection, opened = getattr(self._own, "connection", (None, None))
        stamp = self._stamp()
        if connection is None or stamp != opened:
            if connection is not None:
                connection.close()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                connection = _connect(self.path)
            except sqlite3.OperationalError:  # locked for long, or the disk is full
                raise
            except sqlite3.DatabaseError:  # damaged: all thumbnails can be created again
                for file in self.path.parent.glob(f"{self.path.name}*"):
                    file.unlink(missing_ok=True)
                connection = _connect(self.path)
            self._own.connection = connection, self._stamp()
        yield connection

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
            return found.st_dev, found.st_ino
        except FileNotFoundError:
            return None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30)
    # After a power failure the last thumbnails may be missing; the file is not damaged.
    connection.execute("PRAGMA synchronous = NORMAL")
    # Switching to the log fails at once, whatever the timeout, if another connection does the same.
    with filelock.FileLock(path.with_suffix(".lock")):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS thumbs (content TEXT PRIMARY KEY, data BLOB NOT NULL)"
        )
    return connection
