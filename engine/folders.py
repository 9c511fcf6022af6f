"""Class-per-folder directories: is it there, what lies in it, has it changed."""

import json
import os
from hashlib import sha256
from pathlib import Path

from engine import splits
from engine.errors import DatasetError
from engine.images import EXTENSIONS


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


def list_folder(path, least_classes: int = 2) -> list[tuple[str, str, str, int, int]]:
    """The image files of a class-per-folder directory.

    Either `root/class/…/file` or, where root holds nothing but folders named like parts (train,
    val, test), `root/part/class/…/file`.

    Returns:
        Sorted rows (relative path, own part, class, bytes, modification time in ns). Hidden files
        and files without an image extension are left out; so are classes without any image.

    Raises:
        DatasetError: if fewer than `least_classes` classes hold images, or the folder has gone.
    """
    top = root(path)
    try:
        top_folders = sorted(
            p.name for p in top.iterdir() if p.is_dir() and not p.name.startswith(".")
        )
    except OSError as error:
        raise DatasetError(
            f"the folder {top} cannot be read ({error.strerror}); put it back or give another one"
        ) from None
    in_parts = splits.are_parts(top_folders)
    rows = []
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        parts = Path(folder).relative_to(top).parts
        if len(parts) < 1 + in_parts:
            continue
        part = parts[0].lower() if in_parts else "train"
        for file in files:
            if file.startswith(".") or file.rsplit(".", 1)[-1].lower() not in EXTENSIONS:
                continue
            full = os.path.join(folder, file)
            try:
                status = os.stat(full)
            except OSError:  # a dangling link: named as unreadable when it is prepared
                rows.append((os.path.relpath(full, top), part, parts[in_parts], 0, 0))
                continue
            rows.append(
                (
                    os.path.relpath(full, top),
                    part,
                    parts[in_parts],
                    status.st_size,
                    status.st_mtime_ns,
                )
            )
    classes = {row[2] for row in rows}
    if len(classes) < least_classes:
        found = f"only {next(iter(classes))!r} holds images" if classes else "none holds images"
        raise DatasetError(
            f"{top} needs at least {least_classes} folder{'s' * (least_classes > 1)} of images, one for "
            f"each class ({found}); files must end in {', '.join(EXTENSIONS[:8])} or the like"
        )
    return sorted(rows)


def listing_hash(rows) -> str:
    """A hash of names, sizes and times: changes when files are added, removed or rewritten."""
    return sha256(json.dumps(rows).encode()).hexdigest()
