"""Folders with one subfolder per class: do they exist, what is in them, have they changed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from engine.data.sources import layout
from engine.data.sources.zip_names import NO_CLASS
from engine.errors import DatasetError
from engine.host import words
from engine.images.decode import EXTENSIONS

NO_IMAGE = "no file in it is an image by its name"


def check(path: str | Path) -> None:
    """Raises DatasetError, one sentence, for a folder that does not exist or cannot be read."""
    try:
        folder = Path(path).expanduser()
    except RuntimeError:  # ~ of an unknown user
        folder = Path(path)
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, ValueError):  # ValueError: a path that no file can have
        raise DatasetError(
            f"there is no folder {folder} on this host; put it back or give another one"
        ) from None
    except NotADirectoryError:
        raise DatasetError(
            f"{folder} is a file; give a folder with one subfolder per class"
        ) from None
    except OSError as error:
        raise DatasetError(
            f"the folder {folder} cannot be read ({error.strerror}); change its permissions or "
            "give another one"
        ) from None


def root(path: str | Path) -> Path:
    """The absolute path that the names of `list_folder` are relative to."""
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, ValueError):
        # ~ of an unknown user, or a path that no file can have: `check` reports it.
        return Path(os.path.abspath(str(path).replace("\0", "")))


def list_folder(
    path: str | Path, least_classes: int = 2, skipped: dict[str, list[str]] | None = None
) -> list[tuple[str, str, str, int, int]]:
    """The image files of a folder with one subfolder per class.

    Either `root/class/…/file` or, if the folders of root are parts (`layout`),
    `root/part/class/…/file`.

    Args:
        path: the folder.
        least_classes: number of classes that must have images.
        skipped: receives the names of what is left out, by reason: images outside class folders,
            and top folders with files but no image.

    Returns:
        Sorted rows (relative path, own part, class, bytes, modification time in ns). Hidden files,
        files without an image extension and classes without images are left out.

    Raises:
        DatasetError: if fewer than `least_classes` classes have images, parts and classes cannot
            be told apart, or the folder no longer exists.
    """
    top, skipped = root(path), {} if skipped is None else skipped
    try:
        os.scandir(top).close()
    except OSError as error:
        raise DatasetError(
            f"the folder {top} cannot be read ({error.strerror}); put it back or give another one"
        ) from None
    images, empty = _images(top)
    in_parts, unclear = layout.look(images)
    if unclear:
        raise DatasetError(f"{top} {unclear}")
    if empty:
        skipped[NO_IMAGE] = [f"{name}/" for name in empty]
    rows = []
    for names in images:
        name = os.path.join(*names)
        if len(names) < 2 + in_parts:
            skipped.setdefault(NO_CLASS, []).append(name)
            continue
        part = in_parts and layout.part_of(names[0]) or "train"
        try:
            status = os.stat(top / name)
            size, changed = status.st_size, status.st_mtime_ns
        except OSError:  # a dangling link: reported as unreadable when it is prepared
            size, changed = 0, 0
        rows.append((name, part, names[in_parts], size, changed))
    classes = {row[2] for row in rows}
    if len(classes) < least_classes:
        found = f"only {next(iter(classes))!r} has images" if classes else "no folder has images"
        raise DatasetError(
            f"{top} needs at least {words.plural(least_classes, 'folder')} of images, one per "
            f"class ({found}); file names must end in {', '.join(EXTENSIONS[:8])} or similar"
        )
    return sorted(rows)


def _images(top: Path) -> tuple[list[tuple[str, ...]], list[str]]:
    """The names of each image's folders and its own; top folders with files but no image."""
    images: list[tuple[str, ...]] = []
    holding: set[str] = set()
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        above = Path(folder).relative_to(top).parts
        holding.update(above[:1] if files else ())
        images += [
            (*above, file)
            for file in files
            if not file.startswith(".") and file.rsplit(".", 1)[-1].lower() in EXTENSIONS
        ]
    return images, sorted(holding - {names[0] for names in images})


def listing_hash(rows: Sequence[Sequence[object]]) -> str:
    """A hash of names, sizes and times: it changes when files are added, removed or rewritten."""
    return sha256(json.dumps(rows).encode()).hexdigest()
