"""Does the built-in backbone transfer? `python benchmarks/transfer.py` writes docs/transfer.md.

The preset `sample` from the built-in weights, and the same network and recipe from random weights.
Batch-norm statistics of random weights mean nothing, so keeping them would be an unfair comparison;
both ways are measured.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from engine import home  # noqa: E402
from engine.host import device  # noqa: E402
from engine.jobs import jobs  # noqa: E402
from engine.recipe import load_preset  # noqa: E402

SEEDS = (0, 1, 2)
UPDATE = ["stages.0.batch_norm=update", "stages.1.batch_norm=update"]
STARTS = {
    "built-in weights": [],
    "random weights": ["backbone.weights=none"],
    "random weights, batch norm updated": ["backbone.weights=none", *UPDATE],
}


def main():
    lines = [
        "| start | test accuracy, seeds 0, 1, 2 | mean | seconds per run |",
        "| --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        place = home.home(folder)
        for start, sets in STARTS.items():
            found = []
            for seed in SEEDS:
                # The split has the same seed, so each seed also divides the images differently.
                sets_of_seed = [*sets, f"seed={seed}", f"split.seed={seed}"]
                run = jobs.wait(jobs.start(load_preset("sample", sets_of_seed), place))
                if run.status != "finished":
                    sys.exit(f"{run.error}\n{run.log_tail()}")
                found.append((run.evaluation["test"]["accuracy"], run.seconds))
                print(start, seed, *(round(v, 3) for v in found[-1]), flush=True)
            each = ", ".join(f"{accuracy:.1%}" for accuracy, _ in found)
            accuracy, seconds = np.mean(found, axis=0)
            lines.append(f"| {start} | {each} | {accuracy:.1%} | {seconds:.0f} |")
            n = run.evaluation["test"]["n"]
    text = (
        "# Does the built-in backbone transfer?\n\n"
        "`python benchmarks/transfer.py` trains the preset `sample` from three starting points;\n"
        f"the rest of the recipe is the same. {n} test images per run. Measured on:\n"
        f"{device.describe()['text']}.\n\n"
    )
    (PROJECT / "docs" / "transfer.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
