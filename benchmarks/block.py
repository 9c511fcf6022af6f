"""The last block: trained on cached features, and with the whole network in every epoch."""

import json

from benchmarks import common

ROUNDS = 2


def run(home, quick) -> dict:
    epochs = 1 if quick else 3
    stage = {
        "name": "last block",
        "trainable": "last 1 block",
        "epochs": epochs,
        "optimizer": "adam",
        "learning_rate": 1e-4,
    }
    sets = [f"stages={json.dumps([stage])}"]
    cached, whole = (
        common.photos(quick, *sets, f"feature_cache={mode}") for mode in ("auto", "off")
    )
    common.prepared(cached, home)
    without, through = [], []
    for number in range(1 if quick else ROUNDS):
        common.say(f"round {number + 1}: whole network in every epoch")
        without.append(common.trained(whole, home))
        common.forget_features(home)
        common.say(f"round {number + 1}: cached features, cold")
        through.append(common.trained(cached, home))
    for found, path in ((without, "whole network"), (through, "cached features")):
        if any(f["stages"][0]["path"] != path for f in found):
            raise RuntimeError(f"a run did not use the path to be measured ({path})")
    stages = [f["stages"][0] for f in through]
    note = (
        "with the feature pass; baseline: the same stage with feature_cache off; the conversion, "
        f"once, takes {stages[0]['conversion_seconds']:.1f} s more"
    )
    seconds = [common.stage_seconds(f["stages"][0]) for f in without]
    cold = [common.stage_seconds(stage) for stage in stages]
    title = f"last block, {epochs} epochs, cached features, cold"
    return {
        "rows": [
            common.row(title, seconds, cold, "s", 0.35, note),
            common.row(
                "the same: test accuracy",
                [f["test"] for f in without],
                [f["test"] for f in through],
                "%",
                note=f"{through[0]['test_images']} photos",
            ),
        ],
        "figures": {"whole": without, "cached": through},
    }
