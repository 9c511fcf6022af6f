"""Thumbnails of a dataset's images, made once and kept by content in one SQLite file.

Light. Several processes and threads may read and write it at once (write-ahead log); one that is there
takes some ten microseconds.
"""

import contextlib
import io
import sqlite3
import threading
from pathlib import Path

import filelock
from PIL import Image

from engine.images import decode

SIDE = 160
"""Longest side, pixels."""
QUALITY = 80
"""JPEG, 0 to 95: about 6 kB each, made in 0.2 ms. WebP at 75 takes a third less, and 4 ms."""


def folder(home, source_fingerprint: str) -> Path:
    """Where what is known of a dataset's images is kept (`engine.inspection.inspection`)."""
    return Path(home) / "inspections" / source_fingerprint[:24]


def encode(picture: Image.Image) -> bytes:
    """A JPEG whose longest side is at most `SIDE` pixels, from a picture of mode RGB."""
    scale = SIDE / max(*picture.size, SIDE)
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.BILINEAR).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


class Thumbnails:
    """The store of one dataset.

    Args:
        home: Graft's home.
        source_fingerprint: of the Dataset; decisions about images change nothing here.
    """

    def __init__(self, home, source_fingerprint: str):
        self.path = folder(home, source_fingerprint) / "thumbs.sqlite"
        self._own = threading.local()

    def get(self, dataset, row: int) -> bytes:
        """The thumbnail of an image, an encoded JPEG; made now, and kept, if it is not there yet.

        Args:
            dataset: the open Dataset, with or without overlay.
            row: of the image in it.

        Raises:
            LostImageError, ImageError: if it is not there and the image can no longer be read.
        """
        content = str(dataset.contents[row])
        # A full disk, a long lock or a damaged store must not blank a gallery.
        with contextlib.suppress(sqlite3.Error), self._using() as connection:
            found = connection.execute(
                "SELECT data FROM thumbs WHERE content = ?", (content,)
            ).fetchone()
            if found:
                return found[0]
        data = encode(decode.read(dataset.image_bytes(row)))
        with contextlib.suppress(sqlite3.Error):
            self.put_many([(content, data)])
        return data

    def put_many(self, items) -> None:
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
    def _using(self):
        """This thread's connection; opened anew if the file was deleted or replaced meanwhile."""
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
            except sqlite3.DatabaseError:  # damaged: all that was in it can be made again
                for file in self.path.parent.glob(f"{self.path.name}*"):
                    file.unlink(missing_ok=True)
                connection = _connect(self.path)
            self._own.connection = connection, self._stamp()
        yield connection

    def _stamp(self):
        try:
            found = self.path.stat()
            return found.st_dev, found.st_ino
        except FileNotFoundError:
            return None


def _connect(path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30)
    # After a power failure the last ones may be missing, and are made again; nothing is damaged.
    connection.execute("PRAGMA synchronous = NORMAL")
    # Turning the log on fails at once, timeout or not, while another connection does the same.
    with filelock.FileLock(path.with_suffix(".lock")):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS thumbs (content TEXT PRIMARY KEY, data BLOB NOT NULL)"
        )
    return connection
