"""Starts processes that outlive this one, and identifies them.

A pid alone proves nothing: the system uses it again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from engine.home import PROJECT

_PARENT_DEATH_SIGNAL = 1  # linux/prctl.h


def born(pid: int | None) -> float | None:
    """A number that distinguishes a living process from all others that ever have its pid.

    It combines the start in seconds since the boot and the boot's id (proc(5)). The time of the
    start would not do: it is derived from the clock, and changes when the clock is set.

    Returns:
        The number; None if there is no such process, or it is a zombie.
    """
    try:
        process = psutil.Process(pid) if pid else None
        if process is None or process.status() == psutil.STATUS_ZOMBIE:
            return None
        boot = int(Path("/proc/sys/kernel/random/boot_id").read_bytes()[:8], 16)
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return boot * 1000.0 + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return None


def identity(pid: int | None = None) -> dict[str, Any]:
    """`{"pid", "born"}` of a process, by default this one, for `alive` and `end`."""
    pid = pid or os.getpid()
    return {"pid": pid, "born": born(pid)}


def alive(who: dict[str, Any]) -> bool:
    """Whether the process of an `identity` is running."""
    started = born(who.get("pid"))
    return started is not None and who.get("born") is not None and abs(started - who["born"]) < 0.05


def mark() -> str:
    """A part of a file's name, up to the next dot, that says which process writes it."""
    who = identity()
    return f"{who['pid']}-{round(100 * who['born'])}."


def abandoned(path: Path) -> bool:
    """Whether the process that wrote a file or folder `.KIND.MARK…` has ended, by its `mark`.

    A name without a mark is one of an earlier version, which no process still writes.
    """
    pid, _, born = path.name.split(".")[2].partition("-")
    if not (pid.isdecimal() and born.isdecimal()):
        return True
    return not alive({"pid": int(pid), "born": int(born) / 100})


def end_with(parent: int) -> None:
    """Makes the kernel kill this process as soon as the one that started it ends, however that
    happens (prctl(2), PR_SET_PDEATHSIG; strictly, when the thread that started it ends).

    Args:
        parent: the pid of that process, which may have ended by now.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot be made to end with its parent")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def end(who: dict[str, Any], seconds: float = 5) -> None:
    """Kills the process of an `identity` with its whole session, and waits until it has ended.
    Another process with the same pid is left alone.

    Args:
        who: of `identity`.
        seconds: how long to wait at most.
    """
    if not alive(who):
        return
    try:
        process = psutil.Process(who["pid"])
        os.killpg(who["pid"], signal.SIGKILL)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return
    psutil.wait_procs([process], timeout=seconds)


LOGGED = "utf-8:backslashreplace"
"""How a process writes its log, whatever the locale: a name in it must not end the work."""


def spawn(
    module: str, *arguments: object, log: Path, **environment: str
) -> subprocess.Popen[bytes]:
    """Starts `python -m module` in its own session, so that neither an interrupt nor the end of
    this process reaches it.

    Args:
        module: such as "engine.jobs.worker".
        arguments: of the command, converted to text.
        log: its output is appended to this file.
        environment: variables to change.
    """
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # The working folder is the same, so relative paths in a recipe mean the same there.
            env=os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": LOGGED} | environment,
        )


def environment() -> dict[str, str]:
    """Variables for a process that uses TensorFlow; the user's own settings win."""
    wanted = {
        "PYTHONUNBUFFERED": "1",
        # TensorFlow's startup messages would hide the lines that matter at the end of the log.
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # TensorFlow turns oneDNN off on CPUs without AVX-512 VNNI. There it makes a training step
        # of MobileNetV2 1.7 times faster (python -m benchmarks --only choices), mostly because it
        # keeps memory.
        "TF_ENABLE_ONEDNN_OPTS": "1",
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}
