"""The process that answers a probe: `python -m engine.host.background_worker REQUEST_JSON HOME`.

Whatever happens, the request's file ends with a result or with one sentence in `error`.
"""

import importlib
import os
import sys
import time
import traceback
from pathlib import Path

from engine import home as homes
from engine.errors import GraftError, unexpected

MODULES = {
    "preflight": "engine.estimate.preflight_worker",
    "rates": "engine.estimate.rate_test_worker",
    "payback": "engine.inspection.payback_worker",
    "batch": "engine.predict.batch_worker",
    "export": "engine.exports.worker",
}
"""What answers each kind, by its `measure(recipe, home, stage, report)`; for some, `stage` is more than a
number."""


WORDS = {"batch": "classifying", "export": "the export"}
"""What broke off, for people; the rest are measurements."""


def main(request: str, home: str) -> int:
    path, home = Path(request), Path(home)
    until = time.monotonic() + 30
    while homes.read_json(path, {}).get("pid") != os.getpid() and time.monotonic() < until:
        time.sleep(0.02)
    asked = homes.read_json(path)
    last = [0.0, ""]

    def report(text, done=0, total=None, eta_seconds=None):
        """Writes progress, at most five times a second unless there is a new text."""
        if text != last[1] or time.time() - last[0] > 0.2:
            last[:] = time.time(), text
            now = {"text": text, "done": done, "total": total, "eta_seconds": eta_seconds}
            homes.write_json(path, asked | now)

    try:
        from engine.recipe import Recipe

        recipe = Recipe.from_dict(asked["recipe"])
        report("Starting")
        kind = importlib.import_module(MODULES[asked["kind"]])
        answer = {"result": kind.measure(recipe, home, asked["stage"], report)}
    except GraftError as error:
        answer = {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        what = WORDS.get(asked["kind"], "the measurement")
        answer = {"error": unexpected(error, what, path.with_suffix(".log"))}
    homes.write_json(path, asked | answer | {"ended": time.time()})
    return 0 if "result" in answer else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
