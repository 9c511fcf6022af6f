"""The reference recipe with MobileNetV2 0.35: plain Keras code and Graft, alternating.

One round: plain code (5 frozen epochs, 1 with all layers); the same work in Graft, with an empty
feature store and batch norm updated; Graft with cached features and batch norm kept, its default.
"""

import json

from benchmarks import common

ROUNDS = 2


def run(home, quick) -> dict:
    epochs = 2 if quick else 5
    frozen = [f"stages.0.epochs={epochs}", "stages.1.epochs=1"]
    keep = "stages.1.batch_norm=keep"
    recipe = common.photos(quick, *frozen)
    common.prepared(recipe, home)
    options = {"frozen_epochs": epochs} | (common.QUICK_SLICES if quick else {})

    # Nothing is cached yet: this run converts the backbone, and gives the test accuracy of the
    # frozen stage alone.
    common.say("Graft, frozen stage alone, nothing cached")
    first = common.trained(one_stage(recipe), home)
    common.say("Graft, frozen stage alone with its own head settings")
    own = common.trained(one_stage(recipe, OWN), home)
    plain, update, kept = [], [], []
    for number in range(1 if quick else ROUNDS):
        common.say(f"round {number + 1}: plain Keras")
        plain.append(common.python("benchmarks.reference", json.dumps(options)))
        common.forget_features(home)
        common.say(f"round {number + 1}: Graft, cold, batch norm updated")
        update.append(common.trained(recipe, home))
        common.say(f"round {number + 1}: Graft, warm, batch norm kept")
        kept.append(common.trained(common.photos(quick, *frozen, keep), home))
    check(update, kept)
    figures = {"plain": plain, "first": first, "own": own, "update": update, "keep": kept}
    return {"rows": rows(figures, epochs), "figures": figures}


OWN = {"optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant", "decay_rate": 0}
"""The optimizer of Graft's own presets, for the time to an accuracy."""


def one_stage(recipe, changes=None):
    """The recipe with its first stage only; with changes, also Graft's dropout."""
    data = recipe.to_dict()
    data["stages"] = [data["stages"][0] | (changes or {})]
    if changes:
        data["head"]["dropout"] = 0.2
    return type(recipe).from_dict(data)


def check(cold, warm) -> None:
    """Raises RuntimeError if a run did not do what its row says."""
    for found in cold:
        if not found["stages"][0]["computed"]:
            raise RuntimeError("a cold run found cached features")
    for found in warm:
        if found["stages"][0]["path"] != "cached features" or found["stages"][0]["computed"]:
            raise RuntimeError("a warm run computed features")


def rows(figures, epochs) -> list:
    plain, first = figures["plain"], figures["first"]
    frozen = [p["frozen_seconds"] for p in plain]
    unfrozen = [p["unfrozen_seconds"] for p in plain]
    cold = [common.stage_seconds(f["stages"][0]) for f in figures["update"]]
    warm = [common.stage_seconds(f["stages"][0]) for f in figures["keep"]]
    keep = [f["stages"][1]["fit_seconds"] for f in figures["keep"]]
    update = [f["stages"][1]["fit_seconds"] for f in figures["update"]]
    title = f"{epochs} frozen epochs, MobileNetV2 0.35"
    whole = first["stages"][0]
    return [
        common.row(f"{title}, cold", frozen, cold, "s", 0.10, "feature pass and fit"),
        common.row(f"{title}, warm", frozen, warm, "s", 0.02, "features cached by an earlier run"),
        common.row(
            f"{title}, the very first time",
            frozen,
            [whole["whole_seconds"]],
            "s",
            note=f"with the backbone's conversion ({whole['conversion_seconds']:.1f} s, once per "
            "host) and the check against the whole network",
        ),
        common.row(
            "test accuracy after the frozen stage",
            [p["frozen_test"] for p in plain],
            [first["test"]],
            "%",
            note=f"{first['test_images']} photos",
        ),
        common.row(
            "1 epoch, all layers, batch norm kept",
            unfrozen,
            keep,
            "s",
            0.42,
            "not equal work: Graft keeps batch norm (its default) and decodes once; the plain code "
            "updates batch norm and decodes in every epoch",
        ),
        common.row(
            "1 epoch, all layers, batch norm updated",
            unfrozen,
            update,
            "s",
            0.42,
            "both update batch norm; Graft decoded the photos in the feature pass, the plain code "
            "decodes them in every epoch",
        ),
        common.row(
            "both stages, process start to end",
            [p["unfrozen_total_seconds"] for p in plain],
            [f["seconds"] for f in figures["update"]],
            "s",
            note="Graft also exports, evaluates validation and test, and checks the export",
        ),
        to_accuracy(figures, cold, keep),
    ]


def to_accuracy(figures, cold, keep) -> dict:
    """Training time until the plain code's best test accuracy."""
    plain = figures["plain"]
    best = common.mean([max(p["frozen_test"], p["unfrozen_test"]) for p in plain])
    needed = [
        p["frozen_seconds"]
        + (p["unfrozen_seconds"] if p["unfrozen_test"] > p["frozen_test"] else 0)
        for p in plain
    ]
    own = figures["own"]
    passes = [f["stages"][0]["feature_seconds"] for f in figures["update"]]
    ways = [
        ("the same frozen stage", figures["first"]["test"], cold),
        (
            "a frozen stage with Adam and dropout",
            own["test"],
            [p + own["stages"][0]["fit_seconds"] for p in passes],
        ),
        (
            "both stages, batch norm kept",
            common.mean([f["test"] for f in figures["keep"]]),
            [a + b for a, b in zip(cold, keep, strict=True)],
        ),
    ]
    words = ", ".join(f"{name} {accuracy:.1%}" for name, accuracy, _ in ways)
    # Half a photo of tolerance: plain Keras counts in float32.
    reached = [way for way in ways if way[1] > best - 0.5 / own["test_images"]]
    if not reached:
        note = f"not reached: {best:.1%}, Graft {words}"
        return common.row("time to the reference's best test accuracy", needed, [], "s", 0.1, note)
    name, _, seconds = min(reached, key=lambda way: common.mean(way[2]))
    note = f"{best:.1%}, reached by {name} (cold); {words}"
    return common.row("time to the reference's best test accuracy", needed, seconds, "s", 0.1, note)
