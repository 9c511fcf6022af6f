"""The images of a folder or a zip that are to be classified, read one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from engine.data.sources import archive, folders
from engine.data.sources.tree import Image, Tree


@contextlib.contextmanager
def opened(
    path: str | Path, known: Collection[str] = (), title: str | None = None
) -> Iterator[tuple[Tree, Callable[[Image], bytes | Path]]]:
    """Opens a folder or a zip for the length of the `with`.

    Args:
        path: the folder or the zip.
        known: classes that folders may be named after (`engine.data.sources.layout.look`).
        title: its name in messages.

    Yields:
        (its Tree with loose images included, a function that returns the bytes of an image, or the
        path of its file).

    Raises:
        DatasetError: if it cannot be used.
    """
    path = Path(path)
    if path.suffix.lower() == ".zip" and not path.is_dir():
        with archive.Archive(path, 0, title, known=known) as found:
            yield found.tree, found.read
    else:
        top = folders.root(path)
        yield folders.look(path, known=known, loose=True), lambda i: top / i.origin.path
