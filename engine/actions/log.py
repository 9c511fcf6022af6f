"""The log of what people did, and the check of who may do it. Light.

The log, GRAFT_HOME/audit.jsonl, has a JSON object on each line: `t` (unix seconds), `who`,
`action`, what it was done to (`run`, `dataset`, …) and, if it was refused, `refused` with the
reason. When it grows beyond `MOST`, it replaces audit.1.jsonl and starts again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from engine import home as homes
from engine.accounts import roles
from engine.errors import GraftError

LOCAL = roles.LOCAL
MOST = 4_000_000
"""Bytes of the log before it starts again; the log before it is kept."""
LONGEST = 1000
"""Characters of a text in the log: or one long name would push everything else out of it."""
_MAY_READ = (
    "prepare a dataset", "inspect a dataset", "measure decisions", "measure a recipe",
    "export a run", "download an export",
)  # fmt: skip
"""Actions that write nothing where the result exists already."""


@contextlib.contextmanager
def logged(
    home: Path, who: str, action: str, owner: str | None = None, **what: Any
) -> Iterator[dict[str, Any]]:
    """Checks that somebody may do an action, and logs it when the `with` ends.

    Args:
        home: Graft's home.
        who: a user's name, or `LOCAL`.
        action: a key of `roles.NEEDED`.
        owner: of what is changed; None if it has none.
        what: it is done to, plain data. Fields that are only known later go into the yielded dict.

    Raises:
        AccountError: before anything is done, if they may not.
        ReadOnlyHome: before anything is done, where nothing can be written.
    """
    line = {"t": round(time.time(), 3), "who": who, "action": action} | what
    try:
        roles.check(home, who, action, owner)
        if action not in _MAY_READ:
            homes.writable(home)
        yield line
    except GraftError as error:
        _append(home, line | {"refused": str(error)})
        raise
    _append(home, line)


def _append(home: Path, line: dict[str, Any]) -> None:
    if homes.read_only(home):  # nothing was done: the result was there, or it was refused
        return
    path = Path(home) / homes.AUDIT
    try:
        with filelock.FileLock(f"{path}.lock"):
            if path.exists() and path.stat().st_size > MOST:
                os.replace(path, path.with_suffix(".1.jsonl"))
            with open(path, "ab") as file:
                file.write(json.dumps(_short(line)).encode() + b"\n")
    except OSError as error:  # a full disk must not keep anyone from stopping runs or deleting them
        said = f"{line['action']} is not in the log {path}, which cannot be written"
        print(f"{said} ({error.strerror})", file=sys.stderr)


def _short(value: Any) -> Any:
    """Plain data with its long texts cut."""
    if isinstance(value, dict):
        return {_short(key): _short(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    long = isinstance(value, str) and len(value) > LONGEST
    return f"{value[:LONGEST]}…" if long else value


def entries(home: Path, last: int | None = None, who: str | None = None) -> list[dict[str, Any]]:
    """Lines of the log, the latest first.

    Args:
        home: Graft's home.
        last: at most this many; None for all.
        who: only what this user did; None for everybody.

    Returns:
        The lines. A damaged one, such as the end of a log on a full disk, has the action
        "(this line is damaged)", with "t" 0.0 and "who" "".

    Raises:
        GraftError: if the log cannot be read.
    """
    found: list[dict[str, Any]] = []
    path = Path(home) / homes.AUDIT
    for each in (path, path.with_suffix(".1.jsonl")):
        try:
            lines = each.read_bytes().splitlines() if each.exists() else []
        except OSError as error:
            raise GraftError(f"the log {each} cannot be read ({error.strerror})") from None
        for line in reversed(lines):
            row = _read(line)
            if who in (None, row["who"]):
                found.append(row)
            if len(found) == last:
                return found
    return found


def _read(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if row["t"] >= 0 and isinstance(row["who"], str) and isinstance(row["action"], str):
            return row
    except (ValueError, TypeError, KeyError):
        pass  # it is returned as damaged
    return {"t": 0.0, "who": "", "action": "(this line is damaged)"}


def in_words(row: dict[str, Any]) -> str:
    """What a line of the log says was done, for people.

    For example "start a run: 20260101-…" or "change settings: changes {…} (refused: …)".
    """
    known = {k: v for k, v in row.items() if k not in ("t", "who", "action", "refused")}
    parts = [_part(name, value) for name, value in known.items() if value not in (None, "")]
    text = row["action"] + (": " if parts else "") + ", ".join(parts)
    return text + (f" (refused: {row['refused']})" if row.get("refused") else "")


def _part(name: str, value: Any) -> str:
    if name == "dataset" and isinstance(value, dict):
        return str(value.get("name") or value.get("path") or value.get("source"))
    if name in ("run", "recipe"):
        return str(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return f"{name} {value}"
