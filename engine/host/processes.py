"""Starting processes that outlive this one, and telling one from another.

A pid alone proves nothing: numbers are used again.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from engine.home import PROJECT


def born(pid: int | None) -> float | None:
    """A number that tells a living process from every other that bore, or will bear, its pid; None if
    there is none, or a zombie.

    Made of its start in seconds since the boot, and of the boot's own id (proc(5)). The time of the
    start would not do: it is counted back from the clock, and moves when the clock is set.
    """
    try:
        process = psutil.Process(pid) if pid else None
        if process is None or process.status() == psutil.STATUS_ZOMBIE:
            return None
        boot = int(Path("/proc/sys/kernel/random/boot_id").read_text()[:8], 16)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return boot * 1000.0 + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return None


def identity(pid: int | None = None) -> dict:
    """`{"pid", "born"}` of a process, by default this one: what `alive` and `end` recognize."""
    pid = pid or os.getpid()
    return {"pid": pid, "born": born(pid)}


def alive(who: dict) -> bool:
    """Whether the very process of `identity` lives."""
    started = born(who.get("pid"))
    return started is not None and who.get("born") is not None and abs(started - who["born"]) < 0.05


def end(who: dict, seconds: float = 5) -> None:
    """Kills a process with its whole session, and waits for its end; another process that has
    come to bear the same number is left alone."""
    if not alive(who):
        return
    try:
        process = psutil.Process(who["pid"])
        os.killpg(who["pid"], signal.SIGKILL)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return
    psutil.wait_procs([process], timeout=seconds)


def spawn(module: str, *arguments, log, **environment) -> subprocess.Popen:
    """Starts `python -m module` in a session of its own, so that neither an interrupt of this
    process nor its end reaches it.

    Args:
        module: such as "engine.jobs.worker".
        arguments: of the command, made into text.
        log: path that takes what it prints, at the end.
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
            # The working folder stays, so that relative paths in a recipe mean the same there.
            env=os.environ | {"PYTHONPATH": path} | environment,
        )


def environment() -> dict[str, str]:
    """Variables of a process that computes with TensorFlow; the user's own settings win."""
    wanted = {
        "PYTHONUNBUFFERED": "1",
        # TensorFlow's greetings would bury the lines that matter at the end of the log.
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # TensorFlow leaves oneDNN off on CPUs without AVX-512 VNNI; there it made a training step of
        # MobileNetV2 1.7 times faster (python -m benchmarks --only choices), mostly by keeping memory.
        "TF_ENABLE_ONEDNN_OPTS": "1",
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}
