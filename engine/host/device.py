"""What the host computes with, told without TensorFlow."""

import functools
import os
import platform
import resource
import shutil
import subprocess

import psutil

from engine.host import parallel


def describe() -> dict:
    """The device a run would use.

    Returns:
        A dict: kind "gpu" or "cpu"; host, its name in the network; name; memory_mb (of the GPU, or of the host); cores; and text,
        one line for people. A GPU counts if `nvidia-smi` lists it and CUDA_VISIBLE_DEVICES, as the
        server was started, does not hide it.
    """
    cores = parallel.cores()
    memory = psutil.virtual_memory().total // 2**20
    gpu = None if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") else _nvidia()
    if gpu:
        name, gpu_memory = gpu
        return {
            "kind": "gpu",
            "host": platform.node(),
            "name": name,
            "memory_mb": gpu_memory,
            "cores": cores,
            "text": f"{name}, {gpu_memory / 1024:.0f} GB",
        }
    return {
        "kind": "cpu",
        "host": platform.node(),
        "name": "CPU",
        "memory_mb": memory,
        "cores": cores,
        "text": f"CPU, {cores} core{'s' * (cores != 1)}, {memory / 1024:.0f} GB",
    }


def devices() -> list[str]:
    """Names of the devices that runs may have, the one with the most free memory first: "gpu:0" and
    so on, by `nvidia-smi`'s numbers, or "cpu" alone. CUDA_VISIBLE_DEVICES, as the server was started,
    limits them. Empty while `nvidia-smi` does not answer."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    tool = None if visible in ("", "-1") else shutil.which("nvidia-smi")
    if not tool:
        return ["cpu"]
    query = [tool, "--query-gpu=index,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        return []  # there is a GPU, and nothing is given away until it answers
    except OSError:
        return ["cpu"]
    found = [line.split(",") for line in answer.stdout.strip().splitlines() if "," in line]
    if visible and all(part.strip().isdigit() for part in visible.split(",")):
        allowed = {part.strip() for part in visible.split(",")}
        found = [row for row in found if row[0].strip() in allowed]
    found.sort(key=lambda row: -int(row[1]) if row[1].strip().isdigit() else 0)
    return [f"gpu:{row[0].strip()}" for row in found] or ["cpu"]


def peak_memory_mb() -> float:
    """The highest resident memory of this process so far, in MiB, files mapped into it included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@functools.cache
def _nvidia():
    """(name, memory in MiB) of the first NVIDIA GPU, or None; asked for once, as pages ask often."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return None
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    first = answer.stdout.strip().splitlines()
    if answer.returncode or not first:
        return None
    name, memory = first[0].rsplit(",", 1)
    return name.strip(), int(memory)
