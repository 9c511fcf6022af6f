"""Executors: where workers run. Jobs, supervisor and worker ask here, by a run's `Handle`.

A new executor is a module (or object) with the functions of `Executor`, added to `EXECUTORS`.
"""

from typing import Any, Protocol

from engine.errors import GraftError
from engine.jobs.executors import local
from engine.runs.queue import Handle
from engine.runs.runs import Run


class Executor(Protocol):
    """What runs workers. The token of a Handle is plain JSON data that only its executor reads."""

    TOKEN: tuple[str, ...]
    """Fields of a token."""

    def launch(self, run: Run, device: str) -> dict[str, Any]:
        """Starts a run's worker on a device ("cpu", "gpu:0"); returns its token.

        What the worker prints goes to the end of worker.log in the run's folder.
        """

    def alive(self, token: dict[str, Any]) -> bool:
        """Whether the worker lives."""

    def end(self, token: dict[str, Any]) -> None:
        """Kills the worker and waits for its end; does nothing if it has ended."""

    def mine(self, token: dict[str, Any]) -> bool:
        """Whether the token belongs to the process that asks."""

    def memory(self, token: dict[str, Any]) -> int | None:
        """Bytes of memory that the worker takes; None if it has ended."""

    def ended(self) -> list[tuple[str, str]]:
        """Workers of this process that ended since the last call.

        Returns:
            (run id, reason) each; the reason is "exit code N", or "" after a normal exit.
        """


EXECUTORS: dict[str, Executor] = {"local": local}


def _executor(name: str) -> Executor:
    if name not in EXECUTORS:
        raise GraftError(
            f"a run was started by the executor {name!r}, which this version of Graft does not "
            "have; use the version that started it"
        )
    return EXECUTORS[name]


def launch(run: Run, device: str, executor: str = "local") -> Handle:
    """Starts a run's worker on a device; returns its handle."""
    return Handle(executor, _executor(executor).launch(run, device))


def alive(handle: Handle) -> bool:
    """Whether a worker lives."""
    return _executor(handle.executor).alive(handle.token)


def end(handle: Handle) -> None:
    """Kills a worker and waits for its end."""
    _executor(handle.executor).end(handle.token)


def mine(handle: Handle) -> bool:
    """Whether the handle belongs to the process that asks."""
    return _executor(handle.executor).mine(handle.token)


def memory(handle: Handle) -> int | None:
    """Bytes of memory that a worker takes; None if it has ended."""
    return _executor(handle.executor).memory(handle.token)


def ended() -> list[tuple[str, str]]:
    """(run id, reason) of workers of this process that ended since the last call."""
    return [found for executor in EXECUTORS.values() for found in executor.ended()]


def recorded(state: dict[str, Any]) -> Handle:
    """The handle of a run's last worker.

    Args:
        state: the content of status.json, which has the fields of the token beside others.
    """
    executor = state.get("executor", "local")
    return Handle(executor, {name: state.get(name) for name in _executor(executor).TOKEN})
