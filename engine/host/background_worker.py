"""The process of a background job: `python -m engine.host.background_worker REQUEST_JSON HOME`.

Whatever happens, the request ends with a result or with one sentence in `error`. See
`engine.host.background`.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import home as homes
from engine.errors import GraftError, unexpected
from engine.host.background import KINDS, Progress, lock_of
from engine.host.pace import Pace
from engine.recipe import DatasetSpec, Recipe

DECODE: dict[str, Callable[[Any], Any]] = {
    "recipe": Recipe.from_dict,
    "spec": DatasetSpec.model_validate,
}
"""Parameters that are more than plain data."""


class Reporter:
    """The `Report` of a job: writes its progress into the request.

    It writes at most five times a second unless a phase starts or ends: a page looks once a second.

    Args:
        path: of the request.
        request: what stays in it.
    """

    def __init__(self, path: Path, request: dict[str, Any]) -> None:
        self._path, self._request = path, request
        self._phase, self._wrote, self._pace = "", 0.0, Pace()

    def __call__(self, text: str, done: int = 0, total: int | None = None, /) -> None:
        now, phase = time.time(), text.split(":")[0]
        left = self._pace.left(phase, done, total, now)
        if phase == self._phase and now - self._wrote < 0.2 and done != total:
            return
        self._wrote, self._phase = now, phase
        progress = Progress(phase=phase, text=text, done=done, total=total, eta_seconds=left)
        homes.write_json(self._path, self._request | progress)


def main(request: str, home: str) -> int:
    """Does the work of a request; returns 0 if it has a result."""
    path = Path(request)
    asked = _own_request(path)
    if asked is None:
        return 1
    kind = KINDS[asked["kind"]]
    os.nice(kind.nice)
    try:
        module, function = kind.work.split(":")
        report = Reporter(path, asked)
        report("Starting")
        parameters = {
            name: DECODE[name](value) if name in DECODE and value is not None else value
            for name, value in asked["parameters"].items()
        }
        work = getattr(importlib.import_module(module), function)
        answer = {"result": work(home=Path(home), report=report, **parameters)}
    except GraftError as error:
        print(error, file=sys.stderr)
        answer = {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        answer = {"error": unexpected(error, kind.noun, path.with_suffix(".log"))}
    homes.write_json(path, asked | {"text": ""} | answer | {"ended": time.time()})
    return 0 if "result" in answer else 1


def _own_request(path: Path) -> dict[str, Any] | None:
    """The request, which names this process; None if the process that started this one has ended
    before it could write that: it holds the lock until then."""
    with lock_of(path):
        asked = homes.read_json(path, {})
    return asked if asked.get("pid") == os.getpid() else None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
