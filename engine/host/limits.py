"""Limits of memory and disk that a run must respect. Light."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from pathlib import Path

import psutil

from engine import home as homes
from engine.errors import GraftError
from engine.host import settings


def check_disk(home: Path) -> None:
    """Raises GraftError if Graft's home is read-only, or its disk has too little free space for a
    run."""
    homes.writable(home)
    free, least = shutil.disk_usage(home).free, settings.get(home)["min_free_mb"] * 2**20
    if free < least:
        raise GraftError(
            f"only {free / 2**20:,.0f} MiB are free on the disk of Graft's home {home}, and a run "
            f"needs at least {least / 2**20:,.0f} MiB; delete runs or caches on the Runs page, or "
            "set GRAFT_HOME to another disk"
        )


def total_memory() -> int:
    """Bytes of memory that this host has; the limit of a container counts."""
    total = psutil.virtual_memory().total
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_bytes()))
    return total


def memory_limit(home: Path) -> int:
    """Bytes that a run's process may use on this host."""
    return total_memory() * settings.get(home)["memory_limit_percent"] // 100


def limit_memory(limit: int) -> None:
    """Limits the memory of this process, so that it fails alone and harms no other process.

    Private writable memory counts (RLIMIT_DATA, getrlimit(2)), mapped files do not. There is no
    limit on a GPU, whose driver reserves as much address space as it has memory; there only the
    supervisor's checks guard the host. If the host runs out of memory all the same, the kernel ends
    this process before others.

    Args:
        limit: bytes.
    """
    with contextlib.suppress(OSError):  # any user may raise it, but not on every system
        Path("/proc/self/oom_score_adj").write_bytes(b"500")
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
    """Whether an error message, or the last lines of a log, say that the memory ran out."""
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
    smaller = f"resume with a batch size of {batch}" if batch else "use a smaller image size"
    return f"the memory ran out; {smaller}, or use a smaller backbone or memory_budget"
