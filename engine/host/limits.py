"""Limits of the host that a run must not break: memory and disk; light."""

import contextlib
import os
import resource
import shutil
from pathlib import Path

import psutil

from engine.errors import GraftError
from engine.host import settings


def check_disk(home) -> None:
    """Raises GraftError if the home's disk is so full that a run would not get far."""
    free, least = shutil.disk_usage(home).free, settings.get(home)["min_free_mb"] * 2**20
    if free < least:
        raise GraftError(
            f"only {free / 2**20:,.0f} MiB are free on the disk of Graft's home {home}, and "
            f"{least / 2**20:,.0f} are the least for a run; delete runs or caches on the Runs page, or "
            "set GRAFT_HOME to another disk"
        )


def memory_limit(home) -> int:
    """Bytes that a run's process may take on this host, a container's own limit considered."""
    total = psutil.virtual_memory().total
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text()))
    return total * settings.get(home)["memory_limit_percent"] // 100


def limit_memory(limit: int) -> None:
    """Bounds this process's own memory, so that too large a wish fails here and harms nobody else.

    Counts what is private and writable (RLIMIT_DATA, getrlimit(2)), not files that are mapped. Not on
    a GPU, whose driver reserves address space of the size of all its memory; there the supervisor's
    looks alone guard the host. Should the host run out all the same, the kernel takes this process
    before others.
    """
    with contextlib.suppress(OSError):  # it may only be raised, which any user may; not everywhere
        Path("/proc/self/oom_score_adj").write_text("500")
    if os.environ.get("CUDA_VISIBLE_DEVICES", "-1") in ("", "-1"):
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def smaller_batch(batch_size: int) -> int | None:
    """The batch size to try when the memory ran out; None if there is none smaller."""
    return batch_size // 2 if batch_size > 1 else None


OUT_OF_MEMORY = "memory"
"""Why the supervisor ended a worker."""


def speaks_of_memory(log: str) -> bool:
    """Whether an error's text, or the last lines that a process printed, say that the memory ran
    out."""
    words = (
        "bad_alloc", "MemoryError", "out of memory", "OutOfMemory", "Cannot allocate memory",
        "OOM when allocating", "Unable to allocate", "failed to allocate", "Failed to allocate",
    )  # fmt: skip
    return any(word in log for word in words)


def out_of_memory_text(batch: int | None) -> str:
    """One sentence for a run that ran out of memory.

    Args:
        batch: the batch size to try, or None.
    """
    smaller = f"go on with a batch size of {batch}" if batch else "use a smaller image size"
    return f"the memory ran out; {smaller}, or take a smaller backbone or memory_budget"
