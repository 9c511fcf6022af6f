"""The recipe to start from for a dataset: one whose backbone was trained on similar images.

Light: no TensorFlow. Pages use it when a dataset is chosen, the command `inspect` when no recipe is
given.
"""

from __future__ import annotations

import socket
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from engine.data.sources import collection
from engine.errors import GraftError
from engine.models import backbones
from engine.recipe import load_preset

DRAWINGS, PHOTOS = "sample", "flowers"
"""The presets for the two kinds of images."""
WEIGHTS_HOST = "storage.googleapis.com"
"""Where Keras downloads the weights of its applications from."""
PATIENCE = 2
"""Seconds that a click waits for an answer of that host. No answer yet is not a refusal, so it
replaces nothing in the recipe."""


@dataclass(frozen=True)
class Proposal:
    """A recipe for a dataset.

    Attributes:
        preset: the preset it comes from.
        recipe: plain data, every field of a Recipe; its dataset is that of the preset.
        warning: sentences for people if the preset's backbone had to be replaced, or may not be
            available; else "".
    """

    preset: str
    recipe: dict
    warning: str = ""


def preset_for(dataset: dict, home: Path) -> str:
    """The preset for a dataset: "sample" for the built-in drawings and collections based on them,
    "flowers" for everything else.

    Args:
        dataset: the recipe's `dataset` as plain data; it may be incomplete.
        home: Graft's home.
    """
    if dataset["source"] == "saved" and dataset["name"] in collection.names(home):
        try:
            base = collection.open_(home, dataset["name"]).base
        except GraftError:  # a damaged one: the Dataset page says so
            base = None
        return preset_for(base, home) if base else PHOTOS
    return DRAWINGS if dataset["source"] == "sample" else PHOTOS


def propose(dataset: dict, home: Path) -> Proposal:
    """The recipe to start from for a dataset.

    Args:
        dataset, home: as for `preset_for`.

    Returns:
        The Proposal. If the backbone's weights are not on this host and cannot be downloaded, its
        recipe uses the built-in backbone, and its warning says how much accuracy that costs.
    """
    name = preset_for(dataset, home)
    recipe = load_preset(name).to_dict()
    spec = recipe["backbone"]
    path = backbones.weights_path(spec["name"], spec["alpha"], recipe["image_size"])
    if path is None or path.exists() or (reachable := _reachable(WEIGHTS_HOST)):
        return Proposal(name, recipe)
    title = backbones.get(spec["name"], spec["alpha"]).title
    own = load_preset(DRAWINGS).to_dict()
    if reachable is None:
        return Proposal(
            name,
            recipe,
            f"The ImageNet weights of {title} are not on this host, and {WEIGHTS_HOST} has not "
            f"answered within {PATIENCE} s. The run downloads them when it starts; if this host "
            f"has no internet, choose the backbone {own['backbone']['name']} on Configure",
        )
    recipe |= {key: own[key] for key in ("backbone", "image_size")}
    return Proposal(
        name,
        recipe,
        f"The ImageNet weights of {title} are not on this host and cannot be downloaded "
        f"({WEIGHTS_HOST} cannot be reached), so this recipe uses {own['backbone']['name']}, "
        "which was trained on generated drawings only: on photos, expect about 15 percentage "
        "points less accuracy. To get the weights, connect this host to the internet or put "
        f"{path.name} into "
        f"{path.parent}, then press Use the recipe for photos on Configure",
    )


def _reachable(host: str) -> bool | None:
    """Whether a host accepts connections; None if that is not known within `PATIENCE`.

    Behind a proxy, only the download itself can show it, so the answer is True.
    """
    if urllib.request.getproxies():
        return True
    answers: list[bool] = []

    def ask() -> None:
        try:
            socket.create_connection((host, 443), timeout=10 * PATIENCE).close()
            answers.append(True)
        except TimeoutError:
            pass  # the same as no answer yet
        except OSError:
            answers.append(False)

    # A thread, because looking up the host's name has no time limit.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return answers[0] if answers else None
