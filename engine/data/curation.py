"""Curation: people's decisions about single images, step by step. Image files are never changed.

Each step (images excluded, relabelled or moved to another part) is a line of
`GRAFT_HOME/curation/KEY.jsonl`, where KEY is the dataset's. A step can be undone and redone at any
time. All steps that are not undone form the overlay (`engine.data.overlay`) that a recipe names.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from engine import home as homes
from engine.data import datasets, overlay, splits
from engine.data.overlay import Decision
from engine.errors import DatasetError
from engine.host import sheet, words
from engine.recipe import DatasetSpec

ACTIONS = {"exclude": "leave out", "include": "include", "relabel": "relabel", "move": "move"}
"""What a decision does, and its name for people."""


@dataclass(frozen=True)
class Step:
    """The decisions of one click.

    Attributes:
        number: from 1.
        time: unix seconds.
        text: what was done, for people.
        decisions: list of dicts: content (SHA-256), name, do (one of `ACTIONS`), to (a class's
            name, or a part), before (the earlier class or part).
        undone: whether it has been undone.
    """

    number: int
    time: float
    text: str
    decisions: list[Decision]
    undone: bool


def steps(home: Path, spec: DatasetSpec) -> list[Step]:
    """All steps, oldest first.

    Args:
        home: Graft's home.
        spec: a DatasetSpec; its overlay does not matter.
    """
    path = _path(home, spec)
    try:
        status = path.stat()
    except FileNotFoundError:
        return []
    return list(_steps(path, status.st_size, status.st_mtime_ns))


def current(home: Path, spec: DatasetSpec) -> str:
    """Id of the overlay of all steps that are not undone; "" for none."""
    path = _path(home, spec)
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return _current(Path(home), path, status.st_size, status.st_mtime_ns)


# Cached, since pages ask in every rerun, and 50,000 decisions take half a second to read.
@lru_cache(maxsize=16)
def _steps(path: Path, size: int, changed: int) -> tuple[Step, ...]:
    made, undone = [], {}
    for line in _lines(path):
        if "step" in line:
            undone[line["step"]] = line["undone"]
        else:
            made.append(line)
    return tuple(
        Step(number, line["t"], line["text"], line["decisions"], undone.get(number, False))
        for number, line in enumerate(made, 1)
    )


@lru_cache(maxsize=16)
def _current(home: Path, path: Path, size: int, changed: int) -> str:
    return overlay.save(home, _folded(_steps(path, size, changed)))


def adopt(home: Path, spec: DatasetSpec, identity: str, text: str) -> None:
    """Copies an overlay's decisions, as one step, to another dataset with the same images.

    Raises:
        DatasetError: if the overlay is not on this host.
    """
    made = [d | {"before": ""} for d in overlay.load(home, identity)["decisions"]]
    with _lock(home, spec):
        _append(_path(home, spec), {"t": time.time(), "text": text, "decisions": made})


def decisions(
    dataset: datasets.Dataset,
    indices: Sequence[int] | np.ndarray,
    do: str,
    to: str | Sequence[str] = "",
    parts: splits.Parts | None = None,
) -> list[Decision]:
    """Decisions about images, ready for `decide`.

    Args:
        dataset: an open Dataset.
        indices: of its images.
        do: "exclude", "include", "relabel" or "move".
        to: the class's name for relabel, the part for move; or one for each image.
        parts: of the current split, for the part that an image is moved from.
    """
    moved = parts or {} if do == "move" else {}
    where = {i: part for part, members in moved.items() for i in members.tolist()}
    each = [to] * len(indices) if isinstance(to, str) else to
    return [
        {
            "content": str(dataset.contents[i]),
            "name": dataset.names[i],
            "do": do,
            "to": target,
            "before": where.get(i, "") if do == "move" else dataset.classes[dataset.labels[i]],
        }
        for i, target in zip(map(int, indices), each, strict=True)
    ]


def decide(home: Path, spec: DatasetSpec, text: str, made: Sequence[Decision]) -> str:
    """Adds a step; returns the id of the overlay that includes it.

    Args:
        home: Graft's home.
        spec: the prepared dataset's DatasetSpec.
        text: what was done, for people.
        made: of `decisions`.

    Raises:
        DatasetError: if no image is selected, a part or class is unknown, or fewer than two classes
            would have images; nothing is changed then.
    """
    if not made:
        raise DatasetError("no image is selected; select some first")
    plain = datasets.open_dataset(spec.model_copy(update={"overlay": ""}), home)
    for decision in made:
        known = {"relabel": plain.classes, "move": splits.PARTS}.get(decision["do"])
        if known is not None and decision["to"] not in known:
            names = words.listed(known, last="or")
            raise DatasetError(f"{decision['to']!r} is not one of {names}; choose one of them")
    with _lock(home, spec):
        found = steps(home, spec)
        step = Step(len(found) + 1, time.time(), text, list(made), False)
        identity = _checked(home, plain, [*found, step])
        _append(_path(home, spec), {"t": step.time, "text": text, "decisions": step.decisions})
    return identity


def undo(home: Path, spec: DatasetSpec, number: int | None = None, again: bool = False) -> str:
    """Undoes or redoes a step.

    Args:
        home: Graft's home.
        spec: the prepared dataset's DatasetSpec.
        number: of the step; None for the last one that can be undone or redone.
        again: whether to redo it.

    Returns:
        The id of the overlay afterwards.

    Raises:
        DatasetError: if there is no such step.
    """
    with _lock(home, spec):
        found = steps(home, spec)
        fitting = [step.number for step in found if step.undone == again]
        number = number or (fitting[-1] if fitting else None)
        if number not in fitting:
            raise DatasetError(f"there is no step to {'redo' if again else 'undo'}")
        after = [replace(s, undone=not again) if s.number == number else s for s in found]
        plain = datasets.open_dataset(spec.model_copy(update={"overlay": ""}), home)
        identity = _checked(home, plain, after)
        _append(_path(home, spec), {"t": time.time(), "step": number, "undone": not again})
    return identity


def in_words(home: Path, identity: str) -> str:
    """What an overlay changes: "10 left out, 3 relabelled"; "" for none."""
    made = overlay.load(home, identity)["decisions"] if identity else []
    return overlay.in_words(overlay.counts(made))


def to_csv(home: Path, spec: DatasetSpec) -> str:
    """The decisions of all steps that are not undone, as CSV: name, content, action, to, before,
    time, why."""
    rows = [["name", "sha256", "action", "to", "before", "time", "why"]]
    holding, last = {_key(d) for d in _folded(steps(home, spec))}, {}
    for step in steps(home, spec):
        if not step.undone:
            for decision in step.decisions:
                last[_key(decision)] = (decision, step)
    for key, (decision, step) in last.items():
        if key in holding:
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(step.time))
            row = [decision[k] for k in ("name", "content", "do", "to", "before")]
            rows.append([*row, when, step.text])
    return sheet.to_csv(rows)


def _folded(found: Sequence[Step]) -> list[Decision]:
    """The decisions after all steps: later ones replace earlier ones of the same kind."""
    held: dict[tuple[str, str, str], Decision] = {}
    for step in found:
        if step.undone:
            continue
        for decision in step.decisions:
            if decision["do"] == "include":
                held.pop(_key(decision | {"do": "exclude"}), None)
            else:
                held[_key(decision)] = decision
    return list(held.values())


def _key(decision: Decision) -> tuple[str, str, str]:
    return decision["name"], decision["content"], decision["do"]


def _checked(home: Path, plain: datasets.Dataset, found: Sequence[Step]) -> str:
    """The id of the overlay of steps. Raises DatasetError if too few images would be left."""
    folded = _folded(found)
    overlay.apply({"decisions": folded}, plain.contents, plain.names, plain.labels, plain.classes)
    return overlay.save(home, folded)


def _path(home: Path, spec: DatasetSpec) -> Path:
    return Path(home) / homes.CURATION / f"{datasets.key(spec)}.jsonl"


def _lock(home: Path, spec: DatasetSpec) -> filelock.FileLock:
    homes.writable(home)
    path = _path(home, spec)
    path.parent.mkdir(exist_ok=True)
    return filelock.FileLock(path.with_suffix(".lock"))


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    with homes.reading(path):
        # A last line without its end was not written completely.
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def _append(path: Path, line: dict[str, Any]) -> None:
    """Adds a line, synced to the disk, after removing an incomplete one."""
    with homes.naming(path), open(path, "ab+") as file:
        file.seek(0)
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
