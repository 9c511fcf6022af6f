"""The document: machine, versions, one table, how to repeat it. Light: no TensorFlow."""

import platform
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks import PARTS
from engine.host import parallel

PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "tensorflow-datasets", "pillow", "streamlit")

INTRODUCTION = """# Benchmarks

What Graft saves and costs, measured by `make benchmark`, which writes this page. Baseline and Graft
were measured alternately (A B A B) on one machine, so trust the ratios. Each cell has the mean and,
in brackets, the single values. Nothing is compared across machines.

The plain Keras code is [`benchmarks/reference.py`](../benchmarks/reference.py), in TensorFlow's
default environment. Graft runs as for users: in a worker process, which also turns oneDNN on where
TensorFlow leaves it off (`TF_ENABLE_ONEDNN_OPTS`).

"""

REPEAT = """
## Repeat it

    make benchmark                                   # all, on a machine that does nothing else
    .venv/bin/python -m benchmarks --only block      # one part; figures of the others stay
    .venv/bin/python -m benchmarks --quick           # does it run? figures go to a temporary folder

To use photos and ImageNet weights without a download, set `TFDS_DATA_DIR` and `KERAS_HOME`. The raw
figures are in [`benchmarks.json`](benchmarks.json).
"""


def machine() -> str:
    """The host in one line: processor, cores, memory, vector instructions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []

    def first(field):
        return next((x.split(":", 1)[1].strip() for x in lines if x.startswith(field)), "")

    name = first("model name") or platform.processor() or platform.machine()
    flags = set(first("flags").split())
    # These decide TensorFlow's speed: vector width, and the instructions that oneDNN uses.
    vectors = sorted(f for f in flags if f.startswith(("avx", "fma", "amx")))
    memory = psutil.virtual_memory().total / 2**30
    cores = parallel.cores()
    gpu = next(Path("/proc/driver/nvidia/gpus").glob("*"), None)
    return (
        f"{name}, {cores} cores, {memory:.0f} GiB, {'NVIDIA GPU' if gpu else 'no GPU'}; "
        f"{' '.join(vectors) or 'no AVX'}"
    )


def versions() -> str:
    """Python and the packages that affect the figures."""
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{p} {metadata.version(p)}" for p in PACKAGES)]
    )


def document(results) -> str:
    """The whole page from the raw results, parts in their usual order."""
    parts = [(name, results[name]) for name in PARTS if name in results]
    text = INTRODUCTION + _machines(parts)
    text += "\n| what | baseline | Graft | ratio | target | notes |\n"
    text += "| --- | ---: | ---: | ---: | ---: | --- |\n"
    for _, part in parts:
        for row in part["rows"]:
            text += "| " + " | ".join(_cells(row)) + " |\n"
    return text + REPEAT


def line(row) -> str:
    """A row for the terminal."""
    what, baseline, graft, ratio, wanted, _ = _cells(row)
    return f"{what}: {baseline} | {graft} | {ratio} (target {wanted})"


def _machines(parts) -> str:
    """Machine, versions and dates: once if all parts agree, otherwise for each part."""
    facts = {(part["machine"], part["versions"]) for _, part in parts}
    lines = []
    for where, what in sorted(facts):
        names = [n for n, p in parts if (p["machine"], p["versions"]) == (where, what)]
        whose = "" if len(facts) == 1 else f"{', '.join(names)}: "
        lines += [f"- {whose}{where}", f"- {what}"]
    lines.append(
        "- Date, minutes and the host's load before the start: "
        + "; ".join(
            f"{name} {p['date']}, {p['minutes']:g} min, load {p['load_before']:g}"
            for name, p in parts
        )
    )
    return "\n".join(lines) + "\n"


def _cells(row) -> list[str]:
    wanted, ratio = row["wanted"], row["ratio"]
    if wanted is not None and not isinstance(wanted, str):
        wanted = f"at most {wanted:.2f}"
    return [
        row["what"],
        _values(row["baseline"], row["unit"]),
        _values(row["graft"], row["unit"]),
        "–" if ratio is None else f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}",
        wanted or "–",
        row["note"],
    ]


def _values(values, unit) -> str:
    """The mean with its unit, and the single values if there are several."""
    if not values:
        return "–"
    scale, after = (100, "%") if unit == "%" else (1, "")
    shown = [_number(scale * value) + after for value in values]
    text = _number(scale * sum(values) / len(values)) + (after or f" {unit}")
    return f"{text} ({', '.join(shown)})" if len(values) > 1 else text


def _number(value) -> str:
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
