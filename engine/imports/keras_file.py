"""A foreign `.keras` file, checked here and loaded in a separate process. Light.

Keras never reads the file itself: its configuration is rebuilt (`engine.imports.config`), its
weights are copied, and `engine.imports.worker` makes a run's model files from both.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

import psutil
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from engine import home as homes
from engine.errors import GraftError, RunError
from engine.host import limits
from engine.host.background import Report
from engine.host.words import shown
from engine.imports import archive
from engine.imports.config import MAX_CONFIG, Cleaned, cleaned

SECONDS = 600
"""Limit of the process' CPU time per core; ResNet50 took 22 s on 2 cores. The same number of
seconds without any computing also ends it: how long a busy host takes must not decide."""
MEMORY = 4 * 2**30
"""Memory limit of the process in bytes, without `PER_WEIGHT`. Measured on 2 cores: small networks
need less than 1 GiB, ResNet50 less than 2 GiB; each further core adds threads that need memory."""
PER_WEIGHT = 10
"""Bytes of memory per byte of weights: copies in file, variables, constants, converter, LiteRT."""
_DIRECTORY = 1_000_000
"""Maximum bytes of a zip's list of members; 5,000 members take 500,000."""
WEIGHTS = "model.weights.h5"
"""The member with the weights, and the file that the process reads them from."""
_MEMBERS = {"config.json", "metadata.json", WEIGHTS}
_RATIO_FROM, _RATIO = 50_000_000, 20
"""Weights of more than 50 MB may not be compressed to less than a 20th: real weights hardly
compress, and Keras stores them uncompressed."""
LOADING = "Loading the model in a separate process"


class About(TypedDict, total=False):
    """What a .keras file may not say itself."""

    labels: list[str] | None
    """Class names in the order of the answers; by default "class 1", "class 2" …"""
    image_size: int | None
    """Pixels, for a model that accepts images of any size."""
    preprocessing: str
    """One of `engine.imports.imports.PREPROCESSING`, by default "included"."""


class Result(BaseModel):
    """What the process found. It has read the file, so its result is checked too."""

    classes: Annotated[int, Field(ge=2, le=100_000)]
    features: Annotated[int, Field(ge=1, le=10_000_000)]
    params: dict[str, Annotated[int, Field(ge=0, le=10**10)]]
    backbone_layer: Annotated[str, Field(max_length=200)] | None
    graft_shaped: bool
    largest_difference: Annotated[float, Field(ge=0, le=1)]
    notes: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=10)]


class _Bounded(io.BufferedReader):
    """A file that limits a zip's list of members to `_DIRECTORY`, which zipfile reads at once."""

    opening = True

    def read(self, size: int | None = -1) -> bytes:
        if self.opening and size is not None and size > _DIRECTORY:
            raise RunError("it lists far more files than a model or a run has")
        return super().read(size)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip, opened with a limit on its list of members. Raises RunError."""
    with _Bounded(io.FileIO(path)) as file:
        try:
            found = zipfile.ZipFile(file)
        except GraftError:
            raise
        except Exception:  # BadZipFile, and a dozen others for malformed bytes
            file.seek(0)
            damaged = file.read(2) == b"PK"
            raise RunError(
                "it is damaged or incomplete: its list of files cannot be read; copy it again"
                if damaged
                else "it is neither a .keras file nor a zip of a run, whatever its name"
            ) from None
        file.opening = False
        with found:
            yield found


def check(
    model: Path, work: Path, home: Path, about: About, report: Report
) -> tuple[Result, int, str]:
    """Checks a model and makes a run's model files from it.

    Args:
        model: the .keras file, a copy that nobody else can change.
        work: an empty folder, where final.keras, inference.tflite and possibly head.npz are
            written.
        home: Graft's home.
        about: what the file may not say itself; `labels` is not used.
        report: called with (text, done, total).

    Returns:
        What the process found, the image size in pixels, and the SHA-256 of the file.

    Raises:
        RunError: why it is refused.
    """
    found = unpack(model, work, about.get("image_size"))
    job = allowed(work / WEIGHTS, home) | {
        "image_size": found["image_size"],
        "logits": found["logits"],
        "preprocessing": about.get("preprocessing", "included"),
    }
    with open(model, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return in_separate_process(work, job, report, Result), found["image_size"], digest


def unpack(model: Path, work: Path, image_size: int | None, strict: bool = True) -> Cleaned:
    """Writes a model's configuration, rebuilt, and its weights to a folder.

    Args:
        model, work: as for `check`.
        image_size, strict: of `engine.imports.config.cleaned`.

    Raises:
        RunError: why it is refused.
    """
    with opened(model) as packed:
        members = _members(packed)
        with archive.open_member(packed, members["config.json"], "config.json") as file:
            content = archive.read_all(file, "config.json", MAX_CONFIG)
        found = cleaned(content, image_size, strict)
        weights = members[WEIGHTS]
        if 2 * found["params"] > weights.file_size:  # at least two bytes per weight
            raise RunError(
                f"its layers declare {found['params']:,} weights, but its file contains only "
                f"{homes.size_text(weights.file_size)}"
            )
        with (
            archive.open_member(packed, weights, WEIGHTS) as file,
            open(work / WEIGHTS, "wb") as kept,
        ):
            archive.copy_all(file, kept, WEIGHTS, archive.MAX_MODEL)
    (work / "config.json").write_text(json.dumps(found["config"]), encoding="utf-8")
    return found


def allowed(weights: Path, home: Path) -> dict[str, Any]:
    """What the process that reads a file of weights may use, for `in_separate_process`."""
    size = weights.stat().st_size
    return {
        "weights": weights.name,
        "weight_bytes": size,
        "memory": min(limits.memory_limit(home), MEMORY + PER_WEIGHT * size),
        "disk": 2**28 + 4 * size,
        "seconds": SECONDS,
        "parent": os.getpid(),
    }


def _members(packed: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of a model by name. Raises RunError for any other file."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in packed.infolist():
        name = "/".join(archive.check_member(info))
        if name not in _MEMBERS:
            raise RunError(
                f"it contains {shown(name)}, which a model of built-in layers does not need"
            )
        if name in members:
            raise RunError(f"it contains {name} twice")
        members[name] = info
    for name in ("config.json", WEIGHTS):
        if name not in members:
            raise RunError(f"it contains no {name}; save the whole model with Keras 3")
    weights = members[WEIGHTS]
    if weights.file_size > max(_RATIO_FROM, _RATIO * weights.compress_size):
        raise RunError(
            f"its weights decompress from {homes.size_text(weights.compress_size)} to "
            f"{homes.size_text(weights.file_size)}, far more than real weights do"
        )
    return members


_T = TypeVar("_T", bound=BaseModel)


def in_separate_process(work: Path, job: dict[str, Any], report: Report, result: type[_T]) -> _T:
    """Runs `engine.imports.worker` on a folder.

    Args:
        work: with the files that it reads.
        job: what it is to do: `allowed`, and what the worker's function takes.
        report: see `Report`.
        result: what the process writes, which is not trusted.

    Raises:
        RunError: if it fails in any way.
    """
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LD_LIBRARY_PATH")}
    environment = kept | {
        "PYTHONPATH": str(homes.PROJECT),
        "HOME": str(work),
        "TMPDIR": str(work),
        "KERAS_HOME": str(work / "keras"),
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    report(LOADING, 0, None)
    with open(work / "log", "wb") as log:
        # -P: Python must not import modules from the working folder.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.imports.worker", str(work)],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        computed, since = 0.0, time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                break
            report(LOADING, 0, None)
            used = _cpu_seconds(process.pid)
            if used >= computed + 1:
                computed, since = used, time.monotonic()
            if time.monotonic() > since + job["seconds"]:
                raise RunError(_too_slow(job))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    try:
        with open(work / "result.json", "rb") as file:
            found = from_json(file.read(100_000))
        if set(found) == {"error"}:
            raise RunError(shown(str(found["error"])[:400]))
        return result.model_validate(found)
    except (OSError, ValueError, TypeError, ValidationError):
        raise RunError(_why_it_failed(work / "log", process.returncode, job)) from None


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    with contextlib.suppress(psutil.NoSuchProcess):
        used = psutil.Process(pid).cpu_times()
        return used.user + used.system
    return 0.0


def _too_slow(job) -> str:
    return f"loading it took longer than the limit of {job['seconds']} s"


def _why_it_failed(log, code, job) -> str:
    """Why the process left no result."""
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
        tail = file.read().decode(errors="replace")
    if code == -signal.SIGXCPU:
        return _too_slow(job)
    if limits.speaks_of_memory(tail) or code == -signal.SIGKILL:
        return f"it needs more memory than the limit of {homes.size_text(job['memory'])}"
    return f"the process that loads it stopped unexpectedly (exit code {code})"
