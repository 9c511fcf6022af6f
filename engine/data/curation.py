"""Curation: what people decide about single images, step by step; the files are never touched.

Light. Each step (images excluded, relabelled, moved to a part) is a line of
`GRAFT_HOME/curation/KEY.jsonl`, KEY being the dataset's. A step can be undone and redone at any time;
those that are not undone make up the overlay (`engine.data.overlay`) that a recipe names.
"""

import csv
import io
import json
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import filelock

from engine.data import datasets, overlay, splits
from engine.errors import DatasetError

ACTIONS = {"exclude": "leave out", "include": "take back in", "relabel": "relabel", "move": "move"}


@dataclass(frozen=True)
class Step:
    """One click's decisions.

    Attributes:
        number: counted from 1.
        time: unix seconds.
        text: what was done, for people.
        decisions: list of dicts: content (SHA-256), name, do (one of `ACTIONS`), to (a class's name,
            or a part), before (the class or part until then).
        undone: whether it has been undone.
    """

    number: int
    time: float
    text: str
    decisions: list
    undone: bool


def steps(home, spec) -> list[Step]:
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


def current(home, spec) -> str:
    """Id of the overlay that all steps make up that are not undone; "" for none."""
    path = _path(home, spec)
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return _current(Path(home), path, status.st_size, status.st_mtime_ns)


# A page asks at every rerun: 50,000 decisions take half a second to read and to fold.
@lru_cache(maxsize=16)
def _steps(path, size, changed) -> tuple[Step, ...]:
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
def _current(home, path, size, changed) -> str:
    return overlay.save(home, _folded(_steps(path, size, changed)))


def decide_about(home, spec, text: str, dataset, indices, do: str, to="", parts=None) -> str:
    """`decide` about images of an open Dataset; arguments as of both.

    Args:
        to: one class or part, or for relabel a list of classes, one for each image.
    """
    each = [to] * len(indices) if isinstance(to, str) else to
    made = decisions(dataset, indices, do, "", parts)
    return decide(home, spec, text, [d | {"to": t} for d, t in zip(made, each, strict=True)])


def adopt(home, spec, identity: str, text: str) -> None:
    """Takes an overlay's decisions over as one step of another dataset that holds the same images under
    the same names. Raises DatasetError if the overlay is not on this host."""
    made = [d | {"before": ""} for d in overlay.load(home, identity)["decisions"]]
    with _lock(home, spec):
        _append(_path(home, spec), {"t": time.time(), "text": text, "decisions": made})


def decisions(dataset, indices, do: str, to: str = "", parts: dict | None = None) -> list[dict]:
    """Decisions about images, ready for `decide`.

    Args:
        dataset: an open Dataset.
        indices: of its images.
        do: "exclude", "include", "relabel" or "move".
        to: the class's name for relabel, the part for move.
        parts: of the present split; gives the part that an image is moved from.
    """
    moved = parts or {} if do == "move" else {}
    where = {i: part for part, members in moved.items() for i in members.tolist()}
    made = []
    for i in map(int, indices):
        before = where.get(i, "") if do == "move" else dataset.classes[dataset.labels[i]]
        made.append(
            {
                "content": str(dataset.contents[i]),
                "name": dataset.names[i],
                "do": do,
                "to": to,
                "before": before,
            }
        )
    return made


def decide(home, spec, text: str, made: list[dict]) -> str:
    """Adds a step; returns the id of the overlay with it.

    Args:
        home: Graft's home.
        spec: the prepared dataset's DatasetSpec.
        text: what was done, for people.
        made: of `decisions`.

    Raises:
        DatasetError: if nothing was chosen, a part or class is unknown, or too little would be left;
            nothing is changed then.
    """
    if not made:
        raise DatasetError("no image is chosen; choose some first")
    plain = datasets.open_dataset(spec.model_copy(update={"overlay": ""}), home)
    for decision in made:
        known = {"relabel": plain.classes, "move": splits.PARTS}.get(decision["do"])
        if known is not None and decision["to"] not in known:
            raise DatasetError(
                f"{decision['to']!r} is none of {', '.join(known)}; choose one of them"
            )
    with _lock(home, spec):
        found = steps(home, spec)
        step = Step(len(found) + 1, time.time(), text, made, False)
        identity = _checked(home, plain, [*found, step])
        _append(_path(home, spec), {"t": step.time, "text": text, "decisions": made})
    return identity


def undo(home, spec, number: int | None = None, again: bool = False) -> str:
    """Undoes a step, by default the last one that holds; or does one again.

    Args:
        home, spec: as for `decide`.
        number: of the step.
        again: redo it instead; by default the one that was made last of those undone.

    Returns:
        The id of the overlay as it is then.

    Raises:
        DatasetError: if there is no such step.
    """
    with _lock(home, spec):
        found = steps(home, spec)
        fitting = [step.number for step in found if step.undone == again]
        number = number or (fitting[-1] if fitting else None)
        if number not in fitting:
            raise DatasetError(f"there is no step to {'do again' if again else 'undo'}")
        after = [
            Step(
                s.number, s.time, s.text, s.decisions, not again if s.number == number else s.undone
            )
            for s in found
        ]
        plain = datasets.open_dataset(spec.model_copy(update={"overlay": ""}), home)
        identity = _checked(home, plain, after)
        _append(_path(home, spec), {"t": time.time(), "step": number, "undone": not again})
    return identity


def in_words(home, identity: str) -> str:
    """What an overlay changes: "10 left out, 3 relabelled"; "" for none."""
    made = overlay.load(home, identity)["decisions"] if identity else []
    return overlay.in_words(overlay.counts(made))


def to_csv(home, spec) -> str:
    """All decisions that hold, a line each: name, content, action, to, before, time, why."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["name", "sha256", "action", "to", "before", "time", "why"])
    holding, last = {_key(d) for d in _folded(steps(home, spec))}, {}
    for step in steps(home, spec):
        if not step.undone:
            for decision in step.decisions:
                last[_key(decision)] = (decision, step)
    for key, (decision, step) in last.items():
        if key in holding:
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(step.time))
            row = [decision[k] for k in ("name", "content", "do", "to", "before")]
            # A name that a spreadsheet would take for a formula stays text.
            writer.writerow(
                ["'" + v if v[:1] in "=+-@" and v else v for v in row] + [when, step.text]
            )
    # A name that is no text (Linux allows any bytes) is written with its odd bytes as numbers.
    return file.getvalue().encode("utf-8", "backslashreplace").decode()


def _folded(found) -> list[dict]:
    """The decisions that hold after all steps: later ones replace earlier ones of their kind."""
    held = {}
    for step in found:
        if step.undone:
            continue
        for decision in step.decisions:
            if decision["do"] == "include":
                held.pop(_key(decision | {"do": "exclude"}), None)
            else:
                held[_key(decision)] = decision
    return list(held.values())


def _key(decision):
    return decision["name"], decision["content"], decision["do"]


def _checked(home, plain, found) -> str:
    """The overlay of steps, after trying that it leaves a dataset. Raises DatasetError."""
    folded = _folded(found)
    overlay.apply({"decisions": folded}, plain.contents, plain.names, plain.labels, plain.classes)
    return overlay.save(home, folded)


def _path(home, spec) -> Path:
    return Path(home) / "curation" / f"{datasets.key(spec)}.jsonl"


def _lock(home, spec) -> filelock.FileLock:
    path = _path(home, spec)
    path.parent.mkdir(exist_ok=True)
    return filelock.FileLock(path.with_suffix(".lock"))


def _lines(path) -> list[dict]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    # A last line without its end was being written when the process was killed.
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def _append(path, line) -> None:
    """Adds a line, brought to the disk; a torn one before it is removed."""
    with open(path, "ab+") as file:
        file.seek(0)
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
