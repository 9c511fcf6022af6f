"""Settings of a host for all runs: `python -m engine settings`, or the Runs page."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any

from engine import home as homes
from engine import roots
from engine.errors import DamagedFile, GraftError

DATA = "data"
"""A folder of the home for images of yours, which pages may read."""
DEFAULTS: dict[str, Any] = {
    "runs_per_device": 1,
    "auto_resume": False,
    "memory_limit_percent": 90,
    "min_free_mb": 256,
    "allowed_roots": None,
    "trusted_proxies": None,
    "upload_session_mb": 600,
    "upload_user_mb": 1_200,
    "upload_total_mb": 2_000,
}
HELP = {
    "runs_per_device": "Runs at the same time on one GPU, or on the CPU (1 to 16).",
    "auto_resume": "Resume interrupted runs automatically (true or false).",
    "memory_limit_percent": "Share of the host's memory that a run may use. A run that uses more "
    "is stopped, to protect the server (10 to 100%).",
    "min_free_mb": "If less disk space is free, in MiB, no run starts, and runs pause "
    "(0 to 1,000,000).",
    "allowed_roots": "Folders that pages may read datasets, zips and weights from, separated by "
    "colons. null: the folder data of Graft's home, and your own home folder while Graft serves "
    "only this host. Commands may read all that you may.",
    "trusted_proxies": "Addresses and networks of proxies before Graft, separated by commas: who "
    "asks, and whether by HTTPS, is taken from their headers X-Forwarded-For and "
    "X-Forwarded-Proto. From the next start on.",
    "upload_session_mb": "Uploads in memory from one browser tab, in MB (1 to 1,000,000); as all "
    "three, at most a quarter of the memory.",
    "upload_user_mb": "Uploads in memory from one user, in MB (1 to 1,000,000).",
    "upload_total_mb": "Uploads in memory from all users, in MB (1 to 1,000,000).",
}
ROOTS_VARIABLE = "GRAFT_ALLOWED_ROOTS"
"""The environment variable that stands for `allowed_roots` where the setting is null."""
_BOUNDS = {
    "runs_per_device": (1, 16),
    "memory_limit_percent": (10, 100),
    "min_free_mb": (0, 1_000_000),
    "upload_session_mb": (1, 1_000_000),
    "upload_user_mb": (1, 1_000_000),
    "upload_total_mb": (1, 1_000_000),
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
    if isinstance(text := changes.get("allowed_roots"), str):
        changes["allowed_roots"] = text.split(os.pathsep)
    if isinstance(text := changes.get("trusted_proxies"), str):
        changes["trusted_proxies"] = [each.strip() for each in text.split(",")]
    _check(changes)
    found = get(home) | changes
    homes.write_json(_path(home), found)
    return found


def reads(home: Path, loopback: bool) -> roots.Limits:
    """What pages may read, for `engine.roots`.

    Args:
        home: Graft's home.
        loopback: whether Graft serves only this host. Whoever opens its pages is then a user of
            this host, and the folder of the one who started it is not kept from them.
    """
    below = get(home)["allowed_roots"]
    if below is None and (given := os.environ.get(ROOTS_VARIABLE)):
        below = given.split(os.pathsep)
        _check_roots(below)
    if below is None:
        own = os.path.expanduser("~")  # "/" for some services, and "~" if there is none
        below = [str(Path(home) / DATA), *([own] if loopback and own not in ("/", "~") else [])]
    return roots.Limits(home=str(home), below=[os.path.expanduser(path) for path in below])


def _check(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name not in DEFAULTS:
            raise GraftError(f"there is no setting {name!r}; there are {', '.join(DEFAULTS)}")
        if name == "allowed_roots":
            _check_roots(value)
        elif name == "trusted_proxies":
            _check_proxies(value)
        elif name in _BOUNDS:
            low, high = _BOUNDS[name]
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not low <= value <= high:
                raise GraftError(
                    f"{name} must be a whole number from {low} to {high:,}; {value!r} was given"
                )
        elif not isinstance(value, bool):
            raise GraftError(f"{name} must be true or false; {value!r} was given")


def _check_roots(value: Any) -> None:
    """Raises GraftError unless the value is None or a list of absolute paths."""
    listed = value if isinstance(value, list) else [value]
    for path in listed if value is not None else ():
        if not isinstance(path, str) or not (path == "~" or path.startswith(("/", "~/"))):
            raise GraftError(
                "allowed_roots must be absolute paths of folders, separated by colons, or null for "
                f"the default; {path!r} was given"
            )


def _check_proxies(value: Any) -> None:
    """Raises GraftError unless the value is None or a list of addresses and networks. A name would
    not do: what it means may change."""
    listed = value if isinstance(value, list) else [value]
    for each in listed if value is not None else ():
        try:
            ipaddress.ip_network(each if isinstance(each, str) else "")
        except ValueError:
            raise GraftError(
                "trusted_proxies must be addresses or networks, such as 10.0.0.7 or 10.0.0.0/24, "
                f"separated by commas, or null for none; {each!r} was given"
            ) from None


def _path(home: Path) -> Path:
    return Path(home) / homes.SETTINGS
