"""Overlays: what people decided about single images, apart from the files, which stay as they are.

An overlay is kept under the hash of its decisions, `GRAFT_HOME/overlays/ID.json`, and never changes: a
recipe that names it says exactly which images a run learnt from. `engine.data.curation` makes them.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from engine import home as homes
from engine.errors import DatasetError

FILE = "overlay.json"
"""Its name in the folder of a run that used it."""


def save(home, decisions) -> str:
    """Keeps decisions; returns their id, "" for none.

    Args:
        home: Graft's home.
        decisions: list of dicts with content (SHA-256), name, do ("exclude", "relabel" or "move") and
            to (a class's name, or a part); their order does not matter.
    """
    if not decisions:
        return ""
    rows = sorted(
        ({k: d.get(k, "") for k in ("content", "name", "do", "to")} for d in decisions),
        key=lambda d: (d["name"], d["content"], d["do"]),
    )
    identity = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]
    path = _path(home, identity)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        homes.write_json(path, {"id": identity, "decisions": rows})
    return identity


def load(home, identity: str) -> dict:
    """An overlay: id and decisions. Raises DatasetError if it is not on this host."""
    found = homes.read_json(_path(home, identity))
    if found is None:
        raise DatasetError(
            f"the decisions about single images (overlay {identity}) are not on this host; copy "
            f"{FILE} of a run that used them to {_path(home, identity)}, or clear dataset.overlay"
        )
    return found


def apply(decisions, contents, names, labels, classes):
    """Applies an overlay.

    Args:
        decisions: of `load`.
        contents: str array (n,); names: list of n; labels: int array (n,); classes: names.

    Returns:
        (rows that stay, int64 array (m,); their labels (m,); the part each was moved to, str array
        (m,), "" for none; the classes that have images left). A decision holds for the image that has
        both its name and its content, so it is void for a file that has changed.
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
            f"the decisions about single images leave {len(present)} class"
            f"{'es' * (len(present) != 1)}; undo some on the Dataset page, since at least two are needed"
        )
    return (
        rows,
        np.searchsorted(present, labels[rows]).astype(np.int64),
        moved[rows],
        [classes[i] for i in present.tolist()],
    )


def counts(decisions: list) -> dict[str, int]:
    """How many images decisions exclude, relabel and move."""
    return {do: sum(d["do"] == do for d in decisions) for do in ("exclude", "relabel", "move")}


def in_words(numbers: dict[str, int]) -> str:
    """`counts` as "10 left out, 3 relabelled"; "" for none."""
    words = {"exclude": "left out", "relabel": "relabelled", "move": "moved to a part"}
    return ", ".join(f"{numbers[do]:,} {word}" for do, word in words.items() if numbers[do])


def fingerprint(source: str, identity: str) -> str:
    """The fingerprint of a dataset with an overlay; without one, the source's own."""
    if not identity:
        return source
    return hashlib.sha256(f"{source}:{identity}".encode()).hexdigest()


def _path(home, identity) -> Path:
    return Path(home) / "overlays" / f"{identity}.json"
