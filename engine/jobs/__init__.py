"""Jobs: runs in a queue, each in a process of its own. Light, except for the worker.

run = jobs.train(load_preset("sample"))
"""

from engine.jobs.jobs import (
    active,
    continued,
    interrupt_to_stop,
    kill,
    move,
    pause,
    restart_smaller,
    resume,
    start,
    stop,
    supervise,
    train,
    wait,
    waiting,
)

__all__ = [
    "active",
    "continued",
    "interrupt_to_stop",
    "kill",
    "move",
    "pause",
    "restart_smaller",
    "resume",
    "start",
    "stop",
    "supervise",
    "train",
    "wait",
    "waiting",
]
