"""What every source of images returns to `engine.data.prepare_worker`. Light."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Item = tuple[str, int, str, int, Callable[[], bytes]]
"""(name, label, own part, generation, read): read() returns the encoded bytes; the generation is 0
except for images that were added later."""


@dataclass
class Source:
    """A source of images.

    Attributes:
        title, description: for people.
        classes: names; an item's label is an index.
        total: number of items, as far as known.
        items: `Item`s in a fixed order.
        folder: where the files are, or "" if their bytes are to be copied.
        listing: `engine.data.datasets.listing` of the source.
        skipped: list of (name, sentence) of what is left out, for people.
        left_out: {why: number of files and folders} of all that is left out.
        notes: sentences about how its folders and names were understood.
        paths: {name: path from `folder`} as the host spells it, if the files stay there.
        close: called when no more is read.
    """

    title: str
    description: str
    classes: list[str]
    total: int
    items: Iterable[Item]
    folder: str = ""
    listing: str = ""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    paths: dict[str, bytes] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None
