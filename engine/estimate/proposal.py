"""Which recipe to start from for a dataset: one whose backbone has seen images of its kind.

Light: no TensorFlow. Pages ask when a dataset is chosen, the command `inspect` when no recipe is given.
"""

import socket
import urllib.request
from dataclasses import dataclass

from engine.data.sources import collection
from engine.models import backbones
from engine.recipe import load_preset

DRAWINGS, PHOTOS = "sample", "flowers"
"""The presets for the two kinds of images."""
WEIGHTS_HOST = "storage.googleapis.com"
"""Where Keras downloads the weights of its applications from."""


@dataclass(frozen=True)
class Proposal:
    """A recipe for a dataset.

    Attributes:
        preset: the preset it comes from.
        recipe: plain data, every field of a Recipe; its dataset is the preset's own.
        warning: sentences for people where the preset's backbone had to be replaced, else "".
    """

    preset: str
    recipe: dict
    warning: str = ""


def preset_for(dataset: dict, home) -> str:
    """The preset that suits a dataset: "sample" for the built-in drawings and for what was added to
    them, "flowers" for everything else.

    Args:
        dataset: the recipe's group of that name as plain data; it may still be incomplete.
        home: Graft's home.
    """
    if dataset["source"] == "saved" and dataset["name"] in collection.names(home):
        base = collection.open_(home, dataset["name"]).base
        return preset_for(base, home) if base else PHOTOS
    return DRAWINGS if dataset["source"] == "sample" else PHOTOS


def propose(dataset: dict, home) -> Proposal:
    """The recipe to start from for a dataset.

    Args:
        dataset, home: as for `preset_for`.

    Returns:
        The Proposal. Where the backbone's weights are neither on this host nor can be downloaded,
        its recipe starts from the built-in backbone, and its warning says what that costs.
    """
    name = preset_for(dataset, home)
    recipe = load_preset(name).to_dict()
    spec = recipe["backbone"]
    path = backbones.weights_path(spec["name"], spec["alpha"], recipe["image_size"])
    if path is None or path.exists() or _reachable(WEIGHTS_HOST):
        return Proposal(name, recipe)
    title = backbones.get(spec["name"], spec["alpha"]).title
    own = load_preset(DRAWINGS).to_dict()
    recipe |= {key: own[key] for key in ("backbone", "image_size")}
    return Proposal(
        name,
        recipe,
        f"The ImageNet weights of {title} are not on this host and cannot be downloaded "
        f"({WEIGHTS_HOST} cannot be reached), so this recipe starts from {own['backbone']['name']}, "
        "which has seen only generated drawings: on photos, expect about 15 percentage points less "
        f"accuracy. To get the weights, connect this host to the internet or put {path.name} into "
        f"{path.parent}, then choose the preset {name} on Configure",
    )


def _reachable(host: str) -> bool:
    """Whether a host takes connections; behind a proxy the download itself has to find out."""
    if urllib.request.getproxies():
        return True
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True
