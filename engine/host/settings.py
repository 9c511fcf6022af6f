"""Settings of a host for all runs: `python -m engine settings`, or the Runs page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine import home as homes
from engine.errors import DamagedFile, GraftError

DEFAULTS = {
    "runs_per_device": 1,
    "auto_resume": False,
    "memory_limit_percent": 90,
    "min_free_mb": 256,
}
HELP = {
    "runs_per_device": "Runs at the same time on one GPU, or on the CPU (1 to 16).",
    "auto_resume": "Resume interrupted runs automatically (true or false).",
    "memory_limit_percent": "Share of the host's memory that a run may use. A run that uses more "
    "is stopped, to protect the server (10 to 100%).",
    "min_free_mb": "If less disk space is free, in MiB, no run starts, and runs pause "
    "(0 to 1,000,000).",
}
_BOUNDS = {
    "runs_per_device": (1, 16),
    "memory_limit_percent": (10, 100),
    "min_free_mb": (0, 1_000_000),
}


def get(home: Path) -> dict[str, Any]:
    """The settings of a home; see DEFAULTS and HELP. Raises GraftError if the file is damaged."""
    path = _path(home)
    try:
        found = homes.read_json(path, {})
    except DamagedFile:
        found = None
    if not isinstance(found, dict):
        raise GraftError(f"{path} is damaged; delete it to return to the defaults")
    found = {k: v for k, v in found.items() if k in DEFAULTS}
    _check(found)
    return DEFAULTS | found


def change(home: Path, **changes: Any) -> dict[str, Any]:
    """Changes settings and returns all of them.

    Raises:
        GraftError: for an unknown name or a value out of bounds.
    """
    _check(changes)
    found = get(home) | changes
    homes.write_json(_path(home), found)
    return found


def _check(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name not in DEFAULTS:
            raise GraftError(f"there is no setting {name!r}; there are {', '.join(DEFAULTS)}")
        if name in _BOUNDS:
            low, high = _BOUNDS[name]
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not low <= value <= high:
                raise GraftError(
                    f"{name} must be a whole number from {low} to {high:,}; {value!r} was given"
                )
        elif not isinstance(value, bool):
            raise GraftError(f"{name} must be true or false; {value!r} was given")


def _path(home: Path) -> Path:
    return Path(home) / homes.SETTINGS
