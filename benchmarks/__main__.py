"""The command: runs the parts one after another and writes the document after each."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import PARTS, report
from engine import home as homes

QUICK_FOLDER = Path(tempfile.gettempdir()) / "graft-benchmarks-quick"
"""Where --quick writes. Its figures only show that the parts run."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"tiny slices, into {QUICK_FOLDER}")
    parser.add_argument(
        "--only",
        default=",".join(PARTS),
        help=f"parts, of {','.join(PARTS)}; figures of the others stay",
    )
    parser.add_argument("--part", help=argparse.SUPPRESS)  # one part, in its own process
    parser.add_argument("--home", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        module = importlib.import_module(f"benchmarks.{options.part}")
        print(json.dumps(module.run(Path(options.home), options.quick)), flush=True)
        return 0
    wanted = [name for name in options.only.split(",") if name]
    unknown = [name for name in wanted if name not in PARTS]
    if unknown or not wanted:
        parser.error(f"--only takes parts of {', '.join(PARTS)}; not {', '.join(unknown)}")
    folder = QUICK_FOLDER if options.quick else homes.PROJECT / "docs"
    return measure(wanted, options.quick, folder)


def measure(wanted, quick, folder) -> int:
    """Runs parts and merges their results with earlier ones; returns how many failed."""
    folder.mkdir(exist_ok=True)
    raw = folder / "benchmarks.json"
    results = homes.read_json(raw, {})
    if not quick:
        most = sum(PARTS[name] for name in wanted)
        print(f"About {most / 2:.0f} minutes on two quick cores, {most:.0f} on two slow ones.")
    begun, failed = time.time(), []
    # The supervisor may still be writing its log while the folder is deleted.
    with tempfile.TemporaryDirectory(
        prefix="graft-benchmarks-", ignore_cleanup_errors=True
    ) as place:
        home = homes.home(place)  # shared, so that the photos are prepared only once
        for name in wanted:
            print(f"== {name}", flush=True)
            found = in_process(name, home, quick)
            if found is None:
                failed.append(name)
                continue
            results[name] = found
            homes.write_json(raw, results)
            with homes.replacing(folder / "benchmarks.md") as file:
                file.write(report.document(results))
            for row in found["rows"]:
                print("  " + report.line(row), flush=True)
    print(f"{(time.time() - begun) / 60:.1f} minutes; written to {folder}/benchmarks.md")
    if failed:
        print(f"failed: {', '.join(failed)}; the errors are above", file=sys.stderr)
    return len(failed)


def in_process(name, home, quick) -> dict | None:
    """Runs a part in a new process; None if it failed, with its error on the terminal."""
    # The default for users; a value set here would change the figures. Workers set their own.
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "benchmarks", "--part", name, "--home", str(home)]
    begun, load = time.time(), os.getloadavg()[0]
    done = subprocess.run(
        command + ["--quick"] * quick,
        cwd=homes.PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {
        "machine": report.machine(),
        "versions": report.versions(),
        "date": time.strftime("%Y-%m-%d"),
        "load_before": round(load, 2),
        "minutes": round((time.time() - begun) / 60, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
