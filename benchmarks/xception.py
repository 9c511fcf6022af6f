"""The frozen stage of Xception, 5 epochs, cold: plain Keras code and Graft, alternating.

On a few photos and from random weights: neither changes the time per photo, and the weights are a
download of 80 MB.
"""

import json

import numpy as np

from benchmarks import common
from engine.recipe import load_preset

ROUNDS = 2
IMAGES = {"train": 200, "validation": 50, "test": 25}
QUICK_IMAGES = {"train": 20, "validation": 10, "test": 5}


def run(home, quick) -> dict:
    folder = home / "slice"
    dataset = common.prepared(common.photos(False), home)
    write_slice(dataset, folder, QUICK_IMAGES if quick else IMAGES)
    epochs = 1 if quick else 5
    recipe = load_preset(
        "reference",
        [
            f"dataset={json.dumps({'source': 'folder', 'path': str(folder)})}",
            'split={"method": "source"}',
            "backbone.weights=none",
            f"stages.0.epochs={epochs}",
        ],
    )
    data = recipe.to_dict()
    data["stages"] = data["stages"][:1]
    recipe = type(recipe).from_dict(data)
    common.prepared(recipe, home)
    options = {
        "backbone": "Xception",
        "alpha": None,
        "weights": None,
        "folder": str(folder),
        "frozen_epochs": epochs,
        "unfrozen_epochs": 0,
    }
    plain, graft = [], []
    for number in range(1 if quick else ROUNDS):
        common.say(f"round {number + 1}: plain Keras")
        plain.append(common.python("benchmarks.reference", json.dumps(options)))
        common.forget_features(home)
        common.say(f"round {number + 1}: Graft, cold")
        graft.append(common.trained(recipe, home))
        if not graft[-1]["stages"][0]["computed"]:
            raise RuntimeError("a cold run found cached features")
    stages = [found["stages"][0] for found in graft]
    images = QUICK_IMAGES if quick else IMAGES
    note = (
        f"{images['train']} + {images['validation']} photos, random weights; the conversion, once "
        f"per host, took {stages[0]['conversion_seconds']:.0f} s more"
    )
    seconds = [p["frozen_seconds"] for p in plain]
    what = f"{epochs} frozen epochs, Xception, cold"
    cold = [common.stage_seconds(stage) for stage in stages]
    return {
        "rows": [common.row(what, seconds, cold, "s", 0.13, note)],
        "figures": {"plain": plain, "graft": graft},
    }


def write_slice(dataset, folder, counts) -> None:
    """Writes the first photos of each class into folder/part/class, equally many per class."""
    each = {part: count // len(dataset.classes) for part, count in counts.items()}
    for label, name in enumerate(dataset.classes):
        chosen = iter(np.flatnonzero(dataset.labels == label).tolist())
        for part, count in each.items():
            target = folder / part / name
            target.mkdir(parents=True, exist_ok=True)
            for index, _ in zip(chosen, range(count), strict=False):
                (target / f"{index:05d}.jpg").write_bytes(dataset.image_bytes(index))
