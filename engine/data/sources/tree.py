"""Which files of a source are images, of which class and part; what is left out, and why.

Folders, zips, batches and evaluation share these rules (docs/datasets.md). A container
(`engine.data.sources.folders`, `engine.data.sources.archive`) lists its files; nothing here opens
one, except to recognise an image without a usual ending by its first bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.data.sources import layout
from engine.data.sources.layout import Layout
from engine.data.splits import ADDED
from engine.errors import ImageError
from engine.host import words
from engine.images.decode import EXTENSIONS, MAX_BYTES, kind_of

NAMED = 50
"""Left-out files that are listed by name for each reason; the others are counted."""
_PACKED = ("zip", "rar", "7z", "tar", "gz", "tgz", "bz2", "xz")
_SYSTEM = {
    "__macosx", "@eadir", "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "$recycle.bin",
    "recycler", "system volume information", "lost+found", "thumbs",
}  # fmt: skip
"""Folders that Windows, macOS, Synology, QNAP and Linux create, lower case."""
_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}

_IMAGES = {"image", "images", "img", "imgs", "photos"}
_MASKS = {"mask", "masks", "segmentation", "segmentations", "ground_truth"}
"""Folders of masks, if one of `_IMAGES` is beside them."""

HIDDEN = "it is a hidden file or a system file"
SYSTEM = "it is a hidden folder or a system folder"
MASK = "it is a mask beside the images it belongs to"
NO_CLASS = "it is not in a class folder"
BESIDE = "it is beside the folders of the parts"
PACKED = "it is packed itself; unpack it and pack the images"
TOO_LARGE = f"it is larger than {MAX_BYTES // 10**6} MB; make it smaller"


@dataclass(frozen=True)
class File:
    """A file as its container lists it.

    Attributes:
        names: of its folders and its own, from the top; safe to show. A folder that cannot be read
            ends with a slash.
        size: bytes.
        origin: what the container reads it by.
        refused: why the container cannot read it, or "".
    """

    names: tuple[str, ...]
    size: int
    origin: Any
    refused: str = ""


@dataclass(frozen=True)
class Image:
    """An image of a source.

    Attributes:
        name: for people, and unique: "red/00.jpg", without the folders that all images share.
        label: its class; "" for none.
        part: the source's own part, "train" if it has none.
        size: bytes.
        origin: of its `File`.
    """

    name: str
    label: str
    part: str
    size: int
    origin: Any


@dataclass
class Tree:
    """The images of a source.

    Attributes:
        images: sorted by name.
        left_out: {why: names of files and folders}; each file of the source is either an image or
            in here, by itself or with its folder.
        layout: what the folders were taken for.
        above: path of the folder that all images share, with a slash at its end; "" for none.
        notes: sentences about what may be meant otherwise, to follow the source's name.
    """

    images: list[Image]
    left_out: dict[str, list[str]]
    layout: Layout
    above: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted({image.label for image in self.images} - {""})

    @property
    def understood(self) -> str:
        """What the folders were taken for, such as "3 parts × 2 classes"; and what is left
        out."""
        text = words.plural(len(self.classes), "class", "classes")
        parts = {image.part for image in self.images}
        if self.layout.kind != "class":
            text = f"{words.plural(len(parts), 'part')} × {text}"
        gone = [name.removeprefix(self.above) for names in self.left_out.values() for name in names]
        if gone:
            used = {image.name.partition("/")[0] for image in self.images}
            tops = {name.partition("/")[0] for name in gone if "/" in name} - used
            named = [words.listed([f"{top}/" for top in sorted(tops)])] if tops else []
            count = words.plural(len(gone), "file or folder", "files and folders")
            text += f"; left out: {', '.join([*named, count])}"
        return text


def arrange(
    files: Iterable[File],
    head: Callable[[File], bytes],
    choice: str = "auto",
    known: Collection[str] = (),
    loose: bool = False,
) -> Tree:
    """Sorts the files of a source.

    Args:
        files: all of them, in any order.
        head: returns the first bytes of a file; may raise OSError or ImageError.
        choice: of `engine.data.sources.layout.look`.
        known: classes of a finished run that the images are compared with.
        loose: whether to give images outside class folders the class "" instead of leaving them
            out.

    Returns:
        A Tree. Its layout may be blocked: whoever needs classes must ask first.
    """
    left_out: dict[str, list[str]] = {}
    images = []
    for file in sorted(files, key=lambda file: file.names):
        name, why = _judge(file, head)
        if not why:
            images.append(file)
        elif name not in left_out.setdefault(why, [])[-1:]:  # sorted: a folder's files follow
            left_out[why].append(name)
    masks, images = _masks(images)
    left_out |= {MASK: masks} if masks else {}
    depth, own = _shared([file.names for file in images], known)
    around = next((file.names[:depth] for file in images if len(file.names) > depth), ())
    above = "".join(f"{folder}/" for folder in around)
    # An image beside one of those folders keeps its name.
    below = [file.names[min(depth, len(file.names) - 1) :] for file in images]
    meaning = layout.look(below, choice, known)
    found, seen = [], Counter[str]()
    for file, names in zip(images, below, strict=True):
        place = meaning.place(names, own)
        if place is None and not loose:
            beside = len(names) > 1 and names[0] not in meaning.parts
            why = BESIDE if meaning.kind == "part/class" and beside else NO_CLASS
            left_out.setdefault(why, []).append("/".join(file.names))
            continue
        label, part = place or ("", own)
        part = f"{part} folder" if part == ADDED else part  # the part of images added in Graft
        name = "/".join(names)
        seen[name] += 1
        if seen[name] > 1:  # names that look alike, but differ in bytes that cannot be shown
            name = f"{name} ({seen[name]})"
        found.append(Image(name, label, part, file.size, file.origin))
    found, notes = _one_class(found, meaning)
    notes = [meaning.question, *notes] if meaning.question else notes
    return Tree(sorted(found, key=lambda image: image.name), left_out, meaning, above, notes)


def _masks(images: list[File]) -> tuple[list[str], list[File]]:
    """Names of masks that lie in a folder beside the images they belong to, and all others."""
    above = {
        names[:place]
        for names in (file.names for file in images)
        for place, folder in enumerate(names[:-1])
        if folder.lower() in _IMAGES
    }
    masks, others = [], []
    for file in images:
        folders = enumerate(file.names[:-1])
        mask = any(f.lower() in _MASKS and file.names[:place] in above for place, f in folders)
        if mask:
            masks.append("/".join(file.names))
        else:
            others.append(file)
    return masks, others


def _judge(file: File, head: Callable[[File], bytes]) -> tuple[str, str]:
    """(name to list, why it is left out): of a file, or of the system folder that it is in."""
    name = "/".join(file.names)
    for place, folder in enumerate(file.names[:-1], 1):
        if is_system(folder):
            return "/".join(file.names[:place]) + "/", SYSTEM
    last = file.names[-1] if file.names else ""
    if last.endswith("/"):
        return name, SYSTEM if is_system(last.rstrip("/")) else file.refused
    if last.startswith(".") or last.lower() in _SYSTEM_FILES:
        return name, HIDDEN
    if file.refused:
        return name, file.refused
    return name, _not_an_image(last, file, head)


def is_system(folder: str) -> bool:
    """Whether a folder is hidden or belongs to a system, so that nothing in it is looked at."""
    return folder[:1] == "." != folder[1:2] or folder.lower() in _SYSTEM


def _not_an_image(last: str, file: File, head: Callable[[File], bytes]) -> str:
    """Why a file is no image: by its ending, or without one by its first bytes."""
    found = re.search(r"\.(?=.*[A-Za-z])(\w{1,8})$", last)
    ending = found[1].lower() if found else ""
    if ending in _PACKED:
        return PACKED
    if ending and ending not in EXTENSIONS:
        return f"Graft does not read .{ending} files"
    if not ending:
        try:
            if kind_of(head(file)) is None:
                return "its content is no image"
        except (OSError, ImageError) as error:
            return f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    return TOO_LARGE if file.size > MAX_BYTES else ""


def _shared(names: Sequence[Sequence[str]], known: Collection[str]) -> tuple[int, str]:
    """How many folders all images share, if one is left above most files; and the part that the
    last of them is named after, "train" for none."""
    depth, own = 0, "train"
    wanted = {layout.spelling(name) for name in known}
    while True:
        below = [parts for parts in names if len(parts) > depth + 1]
        tops = {parts[depth] for parts in below}
        deeper = sum(len(parts) > depth + 2 for parts in below)
        top = next(iter(tops), "")
        if len(tops) != 1 or 2 * deeper <= len(below) or layout.spelling(top) in wanted:
            return depth, own
        own = layout.part_of(top) or own
        depth += 1


def _one_class(images: list[Image], meaning: Layout) -> tuple[list[Image], list[str]]:
    """Gives a class one name where its folders differ in case between parts.

    Beside each other, "a" and "A" may be two classes, such as letters; in different parts they are
    one, spelt as in most images.
    """
    if meaning.kind == "class":
        return images, []
    counts = Counter(image.label for image in images)
    spellings: dict[str, list[str]] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        spellings.setdefault(layout.key(label), []).append(label)
    within = {(layout.key(i.label), i.part): set[str]() for i in images}
    for image in images:
        within[layout.key(image.label), image.part].add(image.label)
    apart = {same for (same, _), found in within.items() if len(found) > 1}
    names: dict[str, str] = {}
    notes: list[str] = []
    for same, found in spellings.items():
        if len(found) > 1 and same not in apart:
            names |= dict.fromkeys(found, found[0])
            notes.append(f"has {' and '.join(found)} in different parts, taken for one class")
    renamed = [replace(i, label=names.get(i.label, i.label)) for i in images]
    return renamed, notes


def told(tree: Tree) -> list[tuple[str, str]]:
    """What was left out, for people: the first names of each reason, and a count of the others.

    A folder without any image of the source is named once, with its number of files.
    """
    used = {image.name.split("/")[0] for image in tree.images if "/" in image.name}
    rows = []
    for reason, every in tree.left_out.items():
        names = [name.removeprefix(tree.above) for name in every]
        if reason == HIDDEN:
            rows.append((words.plural(len(names), "file"), reason))
            continue
        folders = Counter(
            top for name in names if (top := name.partition("/")[0]) != name and top not in used
        )
        one = [name for name in names if name.partition("/")[0] not in folders or name[-1:] == "/"]
        listed = [
            f"{top}/ ({words.plural(count, 'file')})"
            for top, count in folders.items()
            if f"{top}/" not in one
        ]
        listed += one
        rows += [(words.shown(name), reason) for name in listed[:NAMED]]
        if len(listed) > NAMED:
            rows.append((f"and {len(listed) - NAMED:,} more", reason))
    return rows
