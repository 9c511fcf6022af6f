"""The devices of the host, found without TensorFlow. Light."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
from typing import Any

import psutil

from engine.host import parallel, words


def describe() -> dict[str, Any]:
    """The device that a run would use.

    Returns:
        A dict: kind "gpu" or "cpu"; host, its name in the network; name; memory_mb (of the GPU, or
        of the host); cores; and text, one line for people. A GPU counts if `nvidia-smi` lists it
        and CUDA_VISIBLE_DEVICES, at the start of the server, does not hide it.
    """
    cores = parallel.cores()
    gpu = None if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") else _nvidia()
    name, memory = gpu or ("CPU", psutil.virtual_memory().total // 2**20)
    about = name if gpu else f"CPU, {words.plural(cores, 'core')}"
    return {
        "kind": "gpu" if gpu else "cpu",
        "host": platform.node(),
        "name": name,
        "memory_mb": memory,
        "cores": cores,
        "text": f"{about}, {memory / 1024:.0f} GB" if memory else about,
    }


def devices() -> list[str]:
    """The devices that runs may use, the one with the most free memory first.

    Returns:
        "gpu:0" and so on, by the numbers of `nvidia-smi`, or "cpu" alone. CUDA_VISIBLE_DEVICES, at
        the start of the server, limits them. Empty while `nvidia-smi` does not answer.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    tool = None if visible in ("", "-1") else shutil.which("nvidia-smi")
    if not tool:
        return ["cpu"]
    query = [tool, "--query-gpu=index,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        return []  # there is a GPU; no run gets it until it answers
    except OSError:
        return ["cpu"]
    found = [line.split(",") for line in answer.stdout.strip().splitlines() if "," in line]
    if visible and all(part.strip().isdigit() for part in visible.split(",")):
        allowed = {part.strip() for part in visible.split(",")}
        found = [row for row in found if row[0].strip() in allowed]
    found.sort(key=lambda row: -int(row[1]) if row[1].strip().isdigit() else 0)
    return [f"gpu:{row[0].strip()}" for row in found] or ["cpu"]


def peak_memory_mb() -> float:
    """The highest resident memory of this process so far, in MiB, including mapped files."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_known: dict[str, tuple[str, int]] = {}
"""The answer of `_nvidia` once there is one: pages ask often."""


def _nvidia() -> tuple[str, int] | None:
    """(name, memory in MiB) of the first NVIDIA GPU, or None.

    A GPU that does not answer in time, on a busy host, is still a GPU; its memory is then 0.
    """
    tool = shutil.which("nvidia-smi")
    if not tool:
        return None
    if "gpu" in _known:
        return _known["gpu"]
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        return "NVIDIA GPU (nvidia-smi does not answer)", 0
    except OSError:
        return None
    first = answer.stdout.strip().splitlines()
    if answer.returncode or not first:
        return None
    name, memory = first[0].rsplit(",", 1)
    _known["gpu"] = name.strip(), int(memory)
    return _known["gpu"]
