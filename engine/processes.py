"""Starting processes that outlive this one, and telling one from another.

A pid alone proves nothing: numbers are used again.
"""

import os
import signal
import subprocess
import sys

import psutil

from engine.home import PROJECT


def born(pid: int | None) -> float | None:
    """When a living process was started (unix seconds); None if there is none, or a zombie."""
    try:
        process = psutil.Process(pid) if pid else None
        if process is None or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.create_time()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def identity(pid: int | None = None) -> dict:
    """`{"pid", "born"}` of a process, by default this one: what `alive` and `end` recognize."""
    pid = pid or os.getpid()
    return {"pid": pid, "born": born(pid)}


def alive(who: dict) -> bool:
    """Whether the very process of `identity` lives."""
    started = born(who.get("pid"))
    # Start times are derived from the clock, which may be set right by a second or two.
    return started is not None and who.get("born") is not None and abs(started - who["born"]) < 2


def end(who: dict, seconds: float = 5) -> None:
    """Kills a process with its whole session, and waits for its end; another process that has
    come to bear the same number is left alone."""
    if not alive(who):
        return
    process = psutil.Process(who["pid"])
    try:
        os.killpg(who["pid"], signal.SIGKILL)
    except ProcessLookupError:
        return
    psutil.wait_procs([process], timeout=seconds)


def spawn(module: str, *arguments, log, **environment) -> subprocess.Popen:
    """Starts `python -m module` in a session of its own, so that neither an interrupt of this
    process nor its end reaches it.

    Args:
        module: such as "engine.worker".
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
