"""Workers as processes of this host. A token is `{"pid", "born"}` (`engine.host.processes`)."""

import os
import subprocess
from typing import Any

import psutil

from engine.host import processes
from engine.runs import files
from engine.runs.runs import Run

TOKEN: tuple[str, ...] = ("pid", "born")
_children: dict[str, subprocess.Popen] = {}


def launch(run: Run, device: str) -> dict[str, Any]:
    """Starts a run's worker on a device; returns its token."""
    # GPU numbers as nvidia-smi has them; the worker sees no GPU of another run.
    environment = processes.environment() | {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": device.removeprefix("gpu:") if device.startswith("gpu:") else "-1",
    }
    log = run.path / files.LOG
    child = processes.spawn("engine.jobs.worker", run.path, log=log, **environment)
    _children[run.id] = child
    who = processes.identity(child.pid)
    # Without a birth it has already ended; its log says why.
    return who if who["born"] is not None else who | {"born": 0.0}


def alive(token: dict[str, Any]) -> bool:
    """Whether the worker lives."""
    return processes.alive(token)


def end(token: dict[str, Any]) -> None:
    """Kills the worker with its children and waits for its end."""
    processes.end(token)


def mine(token: dict[str, Any]) -> bool:
    """Whether the token belongs to the process that asks."""
    return token["pid"] == os.getpid()


def memory(token: dict[str, Any]) -> int | None:
    """Bytes of memory (RSS) that the worker takes; None if it has ended."""
    try:
        return psutil.Process(token["pid"]).memory_info().rss
    except psutil.NoSuchProcess:
        return None


def ended() -> list[tuple[str, str]]:
    """(run id, reason) of workers that this process started and that ended since the last call."""
    gone = [(run, child.returncode) for run, child in _children.items() if child.poll() is not None]
    for run, _ in gone:
        del _children[run]
    return [(run, f"exit code {code}" if code else "") for run, code in gone]
