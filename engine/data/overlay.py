"""Overlays: people's decisions about single images. The image files stay as they are.

An overlay is the file `GRAFT_HOME/overlays/ID.json`, named by the hash of its decisions. It never
changes, so a recipe with its id says exactly which images a run is trained on.
`engine.data.curation` creates overlays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from engine import home as homes
from engine.errors import DatasetError
from engine.host import words

FILE = "overlay.json"
"""Its name in the folder of a run that used it."""

Decision: TypeAlias = dict[str, str]
"""content (SHA-256), name, do ("exclude", "relabel", "move") and to (a class's name, or a part)."""


def save(home: Path, decisions: Sequence[Decision]) -> str:
    """Keeps decisions, in any order; returns their id, "" for none."""
    if not decisions:
        return ""
    rows = sorted(
        ({k: d.get(k, "") for k in ("content", "name", "do", "to")} for d in decisions),
        key=lambda d: (d["name"], d["content"], d["do"]),
    )
    identity = _identity(rows)
    path = _path(home, identity)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        homes.write_json(path, {"id": identity, "decisions": rows})
    return identity


def load(home: Path, identity: str) -> dict[str, Any]:
    """An overlay: {"id", "decisions"}. Raises DatasetError if it is not on this host."""
    found = homes.read_json(_path(home, identity))
    if found is None:
        raise DatasetError(
            f"the decisions about single images (overlay {identity}) are not on this host; copy "
            f"{FILE} of a run that used them to {_path(home, identity)}, or clear dataset.overlay"
        )
    with homes.reading(_path(home, identity)):
        if found["id"] != identity or _identity(found["decisions"]) != identity:
            raise ValueError("its decisions are not those that were kept")
    return found


def apply(
    decisions: dict[str, Any],
    contents: np.ndarray,
    names: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Applies an overlay.

    A decision applies to the image with both its name and its content, so it has no effect on a
    file that has changed.

    Args:
        decisions: of `load`.
        contents: str array (n,), SHA-256 of each image.
        names: of the n images.
        labels: int array (n,), indices into `classes`.
        classes: names.

    Returns:
        (rows that stay, int64 array (m,); their labels, int64 array (m,); the part each is moved
        to, str array (m,), "" for none; the classes that still have images).

    Raises:
        DatasetError: if fewer than two classes would have images.
    """
    number = {name: i for i, name in enumerate(classes)}
    place = {pair: i for i, pair in enumerate(zip(names, contents.tolist(), strict=True))}
    labels, moved = labels.copy(), np.full(len(labels), "", "U10")
    kept = np.ones(len(labels), bool)
    for decision in decisions["decisions"]:
        row = place.get((decision["name"], decision["content"]))
        if row is None:
            continue
        if decision["do"] == "exclude":
            kept[row] = False
        elif decision["do"] == "relabel" and decision["to"] in number:
            labels[row] = number[decision["to"]]
        elif decision["do"] == "move":
            moved[row] = decision["to"]
    rows = np.flatnonzero(kept)
    present = np.unique(labels[rows])
    if len(present) < 2:
        raise DatasetError(
            "the decisions about single images leave "
            f"{words.plural(len(present), 'class', 'classes')}, and at least two are needed; undo "
            "some on the Dataset page"
        )
    return (
        rows,
        np.searchsorted(present, labels[rows]).astype(np.int64),
        moved[rows],
        [classes[i] for i in present.tolist()],
    )


def counts(decisions: Sequence[Decision]) -> dict[str, int]:
    """How many images decisions exclude, relabel and move."""
    return {do: sum(d["do"] == do for d in decisions) for do in ("exclude", "relabel", "move")}


def in_words(numbers: dict[str, int]) -> str:
    """`counts` as "10 left out, 3 relabelled"; "" for none."""
    done = {"exclude": "left out", "relabel": "relabelled", "move": "moved to another part"}
    return ", ".join(f"{numbers[do]:,} {word}" for do, word in done.items() if numbers[do])


def fingerprint(source: str, identity: str) -> str:
    """The fingerprint of a dataset with an overlay; for the overlay "", that of the source."""
    if not identity:
        return source
    return hashlib.sha256(f"{source}:{identity}".encode()).hexdigest()


def _identity(rows: Sequence[Decision]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


def _path(home: Path, identity: str) -> Path:
    return Path(home) / homes.OVERLAYS / f"{identity}.json"
