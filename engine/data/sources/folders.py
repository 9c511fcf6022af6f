"""Class-per-folder directories: is it there, what lies in it, has it changed."""

import json
import os
from hashlib import sha256
from pathlib import Path

from engine.data.sources import layout
from engine.data.sources.zip_names import NO_CLASS
from engine.errors import DatasetError
from engine.images.decode import EXTENSIONS

NO_IMAGE = "no file in it is an image by its name"


def check(path) -> None:
    """Raises DatasetError, one sentence, for a folder that is not there, is a file, or may not be
    read."""
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
            f"{folder} is a file; give a folder that holds one folder for each class"
        ) from None
    except OSError as error:
        raise DatasetError(
            f"the folder {folder} cannot be read ({error.strerror}); allow it to be read or give "
            "another one"
        ) from None


def root(path) -> Path:
    """The absolute path that the names of `list_folder` are relative to."""
    try:
        return Path(path).expanduser().resolve()
    except (
        RuntimeError,
        ValueError,
    ):  # ~ of an unknown user, or what no path can be: `check` says so
        return Path(os.path.abspath(str(path).replace("\0", "")))


def list_folder(
    path, least_classes: int = 2, skipped: dict | None = None
) -> list[tuple[str, str, str, int, int]]:
    """The image files of a class-per-folder directory.

    Either `root/class/…/file` or, where the folders of root are parts (`engine.data.sources.layout`),
    `root/part/class/…/file`.

    Args:
        path: the directory.
        least_classes: how many classes must hold images.
        skipped: takes the names of what is left out, by reason: images in no class folder, and
            top folders with files but no image.

    Returns:
        Sorted rows (relative path, own part, class, bytes, modification time in ns). Hidden files
        and files without an image extension are left out; so are classes without any image.

    Raises:
        DatasetError: if fewer than `least_classes` classes hold images, parts and classes cannot be
            told apart, or the folder has gone.
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
        part = layout.part_of(names[0]) if in_parts else "train"
        try:
            status = os.stat(top / name)
        except OSError:  # a dangling link: named as unreadable when it is prepared
            rows.append((name, part, names[in_parts], 0, 0))
        else:
            rows.append((name, part, names[in_parts], status.st_size, status.st_mtime_ns))
    classes = {row[2] for row in rows}
    if len(classes) < least_classes:
        found = f"only {next(iter(classes))!r} holds images" if classes else "none holds images"
        raise DatasetError(
            f"{top} needs at least {least_classes} folder{'s' * (least_classes > 1)} of images, one for "
            f"each class ({found}); files must end in {', '.join(EXTENSIONS[:8])} or the like"
        )
    return sorted(rows)


def _images(top: Path):
    """(names of each image's folders and its own, sorted top folders that hold files but no image)."""
    images, holding = [], set()
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


def listing_hash(rows) -> str:
    """A hash of names, sizes and times: changes when files are added, removed or rewritten."""
    return sha256(json.dumps(rows).encode()).hexdigest()
