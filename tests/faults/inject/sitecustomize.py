"""Faults inside a worker, without a line for them in the product.

Python imports this module when it starts with this folder in PYTHONPATH.

GRAFT_FAULTS names a JSON file. It is read at every check, so changes also reach the workers of a
supervisor that is already running. Its keys:

- {"in_write": N} kills the worker in the N-th call of fsync, rename or write of a checkpoint;
- {"allocate": true} makes it allocate memory without limit once it trains;
- {"before_status": "finished"} kills it just before status.json says "finished".
"""

import json
import os
import signal
import sys
import threading
import time


def _wanted():
    try:
        with open(os.environ["GRAFT_FAULTS"], encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):  # it is being rewritten
        return {}


def _die_inside_checkpoint_writes():
    """Counts the steps of checkpoint writes, and dies in the one that is wanted."""
    real = {name: getattr(os, name) for name in ("fsync", "rename", "mkdir")}
    calls = [0]

    def step(name):
        def call(*arguments, **named):
            frame, inside = sys._getframe(1), False
            while frame is not None and not inside:
                inside = frame.f_code.co_filename.endswith("engine/runs/checkpoint.py")
                frame = frame.f_back
            if inside:
                calls[0] += 1
                if calls[0] == _wanted().get("in_write"):
                    os.kill(os.getpid(), signal.SIGKILL)
            return real[name](*arguments, **named)

        return call

    for name in real:
        setattr(os, name, step(name))


def _die_before_a_status():
    """Dies where the file of the wanted status is about to take its place."""
    replace = os.replace

    def call(source, target, **named):
        if str(target).endswith("/status.json") and (status := _wanted().get("before_status")):
            with open(source, encoding="utf-8") as file:
                if json.load(file)["status"] == status:
                    os.kill(os.getpid(), signal.SIGKILL)
        return replace(source, target, **named)

    os.replace = call


def _allocate():
    """Eats memory once TensorFlow is there."""
    while "engine.train.training" not in sys.modules or not _wanted().get("allocate"):
        time.sleep(0.2)
    eaten, size = [], 64 << 20
    while True:
        try:
            eaten.append(bytearray(size))
        except MemoryError:
            size = max(size // 2, 1024)  # every last byte: the others are to feel it
        time.sleep(0.01)


if "engine.jobs.worker" in sys.orig_argv and os.environ.get("GRAFT_FAULTS"):
    _die_inside_checkpoint_writes()
    _die_before_a_status()
    if _wanted().get("allocate"):
        threading.Thread(target=_allocate, daemon=True).start()
