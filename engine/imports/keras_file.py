"""A `.keras` file from elsewhere, taken apart and loaded in a throwaway process; light.

The file itself is never given to Keras: its description is written anew (`engine.imports.config`), its
weights are copied beside it, and `engine.imports.worker` makes of them what a run keeps.
"""

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
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from engine import home as homes
from engine.data.sources.zip_names import shown
from engine.errors import GraftError, RunError
from engine.host import limits
from engine.imports import archive as import_source
from engine.imports import config as import_config

SECONDS = 600
"""How long the throwaway process may take, and of processor time for each core; ResNet50 took 22 s on 2 cores."""
MEMORY = 4 * 2**30
"""Bytes that the throwaway process may take beside its share for weights. Measured on 2 cores: small networks
pass with 1 GiB, ResNet50 with 2 GiB and its share; each further core has threads with memory of their own."""
PER_WEIGHT = 10
"""Copies of the weights that may be in memory at once: file, variables, constants, converter, LiteRT."""
_DIRECTORY = 1_000_000
"""Bytes of a zip's list of members: 5,000 of them take 500,000."""
_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
_RATIO_FROM, _RATIO = 50_000_000, 20
"""Weights beyond so many bytes may not unpack to more than so many times what they take: they are noise, and
Keras does not even pack them."""


class Result(BaseModel):
    """What the throwaway process found; it saw the file, so its words are checked as well."""

    classes: Annotated[int, Field(ge=2, le=100_000)]
    features: Annotated[int, Field(ge=1, le=10_000_000)]
    params: dict[str, Annotated[int, Field(ge=0, le=10**10)]]
    backbone_layer: Annotated[str, Field(max_length=200)] | None
    graft_shaped: bool
    largest_difference: Annotated[float, Field(ge=0, le=1)]
    notes: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=10)]


class _Bounded(io.BufferedReader):
    """A file that reads no list of members beyond `_DIRECTORY`: zipfile takes it all at once."""

    opening = True

    def read(self, size=-1):
        if self.opening and size is not None and size > _DIRECTORY:
            raise RunError("it lists far more files than a model or a run has")
        return super().read(size)


@contextlib.contextmanager
def opened(path):
    """A zip, its list of members bounded. Raises RunError."""
    with _Bounded(io.FileIO(path)) as file:
        try:
            archive = zipfile.ZipFile(file)
        except GraftError:
            raise
        except Exception:  # BadZipFile, and a dozen others for bytes that make no sense
            file.seek(0)
            damaged = file.read(2) == b"PK"
            raise RunError(
                "it is damaged or incomplete: its list of files cannot be read; copy it again"
                if damaged
                else "it is no .keras file and no zip of a run, whatever its name says"
            ) from None
        file.opening = False
        with archive:
            yield archive


def check(model, work, home, image_size, preprocessing, report) -> dict:
    """Checks a model, and makes what a run keeps of it.

    Args:
        model: path of the .keras file, which nobody else can change.
        work: an empty folder; final.keras, inference.tflite and perhaps head.npz lie there afterwards.
        home, image_size, preprocessing, report: of `engine.imports.imports.add`.

    Returns:
        What is known of it: the fields of `Result`, image_size and sha256.

    Raises:
        RunError: why it is refused.
    """
    with opened(model) as archive:
        members = _members(archive)
        config = import_source.open_member(archive, members["config.json"], "config.json")
        with config as file:
            content = import_source.read_all(file, "config.json", import_config.MAX_CONFIG)
        found = import_config.cleaned(content, image_size)
        weights = members["model.weights.h5"]
        if 2 * found["params"] > weights.file_size:  # two bytes for each, at least
            raise RunError(
                f"its layers declare {found['params']:,} weights, and its file holds "
                f"{homes.size_text(weights.file_size)} of them"
            )
        packed = import_source.open_member(archive, weights, "model.weights.h5")
        with packed as file, open(work / "model.weights.h5", "wb") as kept:
            import_source.copy_all(file, kept, "model.weights.h5", import_source.MAX_MODEL)
    size = (work / "model.weights.h5").stat().st_size
    job = {
        "image_size": found["image_size"],
        "logits": found["logits"],
        "preprocessing": preprocessing,
        "weight_bytes": size,
        "memory": min(limits.memory_limit(home), MEMORY + PER_WEIGHT * size),
        "disk": 2**28 + 4 * size,
        "seconds": SECONDS,
    }
    (work / "config.json").write_text(json.dumps(found["config"]))
    (work / "job.json").write_text(json.dumps(job))
    with open(model, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    result = _throwaway(work, job, report)
    return result.model_dump() | {"image_size": found["image_size"], "sha256": digest}


def _members(archive) -> dict[str, zipfile.ZipInfo]:
    """The three files of a model by name. Raises RunError for any other."""
    members = {}
    for info in archive.infolist():
        name = "/".join(import_source.check_member(info))
        if name not in _MEMBERS:
            raise RunError(
                f"it holds {shown(name)}, which a model of built-in layers does not need"
            )
        if name in members:
            raise RunError(f"it holds {name} twice")
        members[name] = info
    for name in ("config.json", "model.weights.h5"):
        if name not in members:
            raise RunError(f"it holds no {name}; save the whole model with Keras 3")
    weights = members["model.weights.h5"]
    if weights.file_size > max(_RATIO_FROM, _RATIO * weights.compress_size):
        raise RunError(
            f"its weights unpack from {homes.size_text(weights.compress_size)} to "
            f"{homes.size_text(weights.file_size)}, which weights never do"
        )
    return members


def _throwaway(work, job, report) -> Result:
    """Runs `engine.imports.worker` on a folder. Raises RunError for whatever becomes of it."""
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
    report("Loading it in a process of its own", 0, None)
    with open(work / "log", "wb") as log:
        # -P: what lies in the working folder must not pass for a module.
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
        until = time.monotonic() + job["seconds"]
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                break
            report("Loading it in a process of its own", 0, None)
            if time.monotonic() > until:
                raise RunError(f"it took longer than {job['seconds']} s to load")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    try:
        with open(work / "result.json", "rb") as file:
            found = from_json(file.read(100_000))
        if set(found) == {"error"}:
            raise RunError(shown(str(found["error"])[:400]))
        return Result.model_validate(found)
    except (OSError, ValueError, TypeError, ValidationError):
        raise RunError(_broke_off(work / "log", process.returncode, job)) from None


def _broke_off(log, code, job) -> str:
    """Why the process left no result."""
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
        tail = file.read().decode(errors="replace")
    if code == -signal.SIGXCPU:
        return f"it took longer than {job['seconds']} s to load"
    if limits.speaks_of_memory(tail) or code == -signal.SIGKILL:
        return f"it needs more memory than the {homes.size_text(job['memory'])} that an import may take"
    return f"the process that loads it broke off (code {code})"
