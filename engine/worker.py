"""The process that executes one run: `python -m engine.worker RUN_FOLDER`.

Whatever happens, it leaves a status and one sentence in the run's folder.
"""

import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path

from engine import device, processes
from engine import home as homes
from engine.errors import GraftError
from engine.events import EventLog
from engine.runs import Run


def main(folder: str) -> int:
    run = Run(Path(folder))
    _await_registration(run)
    events = EventLog(run.path / "events.jsonl")
    stop = _stop_signal(run)
    begun = time.time()
    run.update(status="running", started=begun, **processes.identity())
    homes.write_json(run.path / "environment.json", environment())
    try:
        events.write("phase", phase="model", text="Starting TensorFlow", done=0, total=None)
        from engine import training

        result = training.train(run, run.path.parent.parent, events, stop)
    except GraftError as error:
        result = {"status": "failed", "error": str(error), "text": str(error)}
    except Exception as error:
        if type(error).__name__ == "Stopped":
            text = "Stopped before the first training step, so there is no model."
            result = {"status": "stopped", "text": text}
        else:
            traceback.print_exc()
            text = sentence(error)
            result = {"status": "failed", "error": text, "text": text}
    seconds = time.time() - begun
    events.write(
        "end",
        status=result["status"],
        text=result["text"],
        seconds=seconds,
        kept_stage=result.get("kept_stage"),
    )
    run.update(
        status=result["status"],
        ended=time.time(),
        error=result.get("error"),
        kept_stage=result.get("kept_stage"),
    )
    return 1 if result["status"] == "failed" else 0


def environment() -> dict:
    """Versions, device and git commit, for whoever wants to repeat the run."""
    packages = ("tensorflow", "keras", "tensorflow-datasets", "ai-edge-litert", "numpy", "pillow")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in packages},
        "device": device.describe(),
        "git_commit": _commit(),
    }


def _commit():
    """The project's commit, with + if files differ; None outside a git checkout."""

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", homes.PROJECT, *arguments], capture_output=True, text=True
        )

    try:
        commit = git("rev-parse", "HEAD")
        if commit.returncode:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
        return commit.stdout.strip() + ("+" if changed else "")
    except OSError:  # no git on this host
        return None


def _await_registration(run):
    """Waits until whoever started this process has written down its pid: two writers at once
    would lose one's words."""
    until = time.monotonic() + 30
    while homes.read_json(run.path / "status.json", {}).get("pid") != os.getpid():
        if time.monotonic() > until:
            return
        time.sleep(0.02)


def _stop_signal(run):
    """True once a `stop` file lies in the folder, or the process was asked to terminate."""
    asked = [False, 0.0]
    signal.signal(signal.SIGTERM, lambda *_: asked.__setitem__(0, True))
    path = run.path / "stop"

    def stop():
        if not asked[0] and time.monotonic() - asked[1] > 0.2:
            asked[:] = path.exists(), time.monotonic()
        return asked[0]

    return stop


def sentence(error: Exception) -> str:
    """What went wrong, in one sentence with a remedy; the traceback is in the log."""
    text = str(error)
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == "ResourceExhaustedError":
        return "the memory ran out; set a smaller batch_size or image_size, or a smaller backbone"
    if isinstance(error, OSError) and error.strerror:
        return f"a file could not be read or written ({error.strerror}: {error.filename}); check space and rights"
    # An exception of our own, raised inside tf.data, arrives wrapped in one of TensorFlow's.
    for line in text.splitlines():
        for name in ("DatasetError: ", "ImageError: "):
            if name in line:
                return line.split(name, 1)[1]
    first = text.strip().splitlines()[0] if text.strip() else ""
    return f"training broke off ({kind}: {first[:200]}); the end of the log says where"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
