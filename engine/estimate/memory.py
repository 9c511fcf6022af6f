"""Memory of trial steps: how much they take, how much is free, and which batch size fits.

Heavy: imports TensorFlow.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil
import tensorflow as tf

from engine.errors import GraftError
from engine.host import device

Points = Sequence[tuple[int, float]]
"""(batch size, MiB) as measured, growing."""


def grown(points: Points, batch: int) -> float:
    """MiB of a batch on the straight line through the last two measurements.

    Args:
        points: two or more.
        batch: number of images.
    """
    (a, low), (b, high) = points[-2:]
    return high + max(0.0, (high - low) / (b - a)) * (batch - b)


def largest_batch(points: Points, room: float, limit: int) -> int:
    """The largest power of two, up to `limit`, whose memory fits; 1 if none does.

    Args:
        points: measured.
        room: MiB.
        limit: 1 or more.
    """
    fitting, batch = 1, 2
    while batch <= limit and (len(points) < 2 or grown(points, batch) <= room):
        fitting, batch = batch, 2 * batch
    return fitting


def on_gpu() -> bool:
    """Whether batches live in a GPU's memory."""
    return bool(tf.config.list_physical_devices("GPU"))


def reset_peak() -> None:
    """Starts a new measurement of the peak memory."""
    # Where the system does not allow it, the peak so far counts: too much is safer than too little.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_bytes(b"5")
    if on_gpu():
        tf.config.experimental.reset_memory_stats("GPU:0")


def peak_mb() -> float:
    """The peak memory since `reset_peak`, MiB: of the GPU if there is one, else of this process."""
    if on_gpu():
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return host_peak_mb()


def host_peak_mb() -> float:
    """The peak resident memory of this process since `reset_peak`, MiB."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return device.peak_memory_mb()


def available_mb() -> float:
    """MiB that a run may take: free now, or held by this probe, which ends before a run starts.

    Raises:
        GraftError: if the memory of the GPU is not known.
    """
    if on_gpu():
        own = tf.config.experimental.get_memory_info("GPU:0")["current"] / 2**20
        query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        try:
            answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
            return float(answer.stdout.split()[0]) + own
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            # All memory of the GPU, or of the host where there is no nvidia-smi.
            if whole := device.describe()["memory_mb"]:
                return float(whole)
            raise GraftError(
                "the memory of the GPU is not known, as nvidia-smi does not answer; measure again "
                "when the host is less busy"
            ) from None
    own = psutil.Process().memory_info().rss
    free = [psutil.virtual_memory().available]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            cached = _cached_files(Path(limit).parent / "memory.stat")
            free.append(int(Path(limit).read_bytes()) - int(Path(used).read_bytes()) + cached)
    return (min(free) + own) / 2**20


def _cached_files(path: Path) -> int:
    """Bytes of file cache that a control group can release."""
    for line in path.read_text(encoding="utf-8").splitlines():
        name, value = line.split()
        if name in ("total_inactive_file", "inactive_file"):
            return int(value)
    return 0
