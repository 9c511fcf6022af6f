"""Planted label errors: how many an inspection finds, and which share of its lists is wrong.

Errors are planted at several rates and seeds, either with a class drawn at random or with the class
that the picture resembles most. The severities and sentences of `engine.inspection.label_kinds`
follow these figures.
"""

import numpy as np

from benchmarks import common
from engine.features import of_dataset
from engine.inspection import label_kinds, label_noise, suspects
from engine.predict import embedding
from engine.recipe import DatasetSpec, load_preset

RATES = (0.0, 0.01, 0.03, 0.05, 0.1, 0.2)
SEEDS = 3
BANDS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.001)
"""Limits of the estimated probability that a label is wrong, to compare it with the truth."""
FLOWERS = DatasetSpec(source="tfds", name="tf_flowers")
DRAWINGS = DatasetSpec(source="sample", images=1500)


def run(home, quick) -> dict:
    """Rows of every dataset, backbone, kind of error and rate."""
    # Title, preset with the backbone, dataset, images drawn (None: all), rates, kind of errors.
    cases = [
        ("photos, MobileNetV2 0.35", "flowers", FLOWERS, None, RATES, "random"),
        ("photos, MobileNetV2 0.35", "flowers", FLOWERS, None, (0.03, 0.1), "alike"),
        ("600 photos, MobileNetV2 0.35", "flowers", FLOWERS, 600, (0.0, 0.03, 0.1), "random"),
        ("drawings, GraftSmall", "sample", DRAWINGS, None, (0.0, 0.03, 0.1), "random"),
        ("photos, GraftSmall", "sample", FLOWERS, None, (0.0, 0.03, 0.1), "random"),
    ]
    if quick:
        small = DatasetSpec(source="sample", images=200)
        cases = [("drawings, GraftSmall", "sample", small, None, (0.0, 0.1), "random")]
    rows, figures, known = [], {}, {}
    for title, preset, spec, count, rates, errors in cases:
        if (preset, spec.source) not in known:
            known[preset, spec.source] = features(home, preset, spec)
        for rate in rates:
            common.say(f"{title}: {rate:.0%} {errors} errors")
            found = [
                trial(*known[preset, spec.source], count, rate, errors, seed)
                for seed in range(1 if quick else SEEDS)
            ]
            name = f"{title}: {rate:.0%} wrong labels" + (", by likeness" * (errors == "alike"))
            rows.append(as_row(name, found))
            figures[name] = found
    return {"rows": rows, "figures": figures}


def features(home, preset, spec) -> tuple[np.ndarray, np.ndarray]:
    """(principal components, labels) of all images of a dataset, by a preset's backbone."""
    recipe = load_preset(preset).model_copy(update={"dataset": spec})
    dataset = common.prepared(recipe, home)
    with of_dataset.open_features(dataset, recipe, home, lambda *now: None) as opened:
        rows = np.arange(len(dataset))
        return embedding.reduce(opened, rows, suspects.DIMENSIONS, silent), dataset.labels


def trial(values, labels, count, rate, errors, seed) -> dict:
    """Plants errors, judges the labels, and compares.

    Args:
        values, labels: of `features`.
        count: images drawn from them; None for all.
        rate: share of labels to replace.
        errors: "random", by another class drawn at random; "alike", by the most similar class.
        seed: for the draws.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(labels))[:count])
    right, components = labels[rows].astype(int), values[rows]
    wrong = random.choice(len(rows), round(rate * len(rows)), replace=False)
    given = right.copy()
    if errors == "alike":
        near = embedding.classifier(components, right).predict_proba(components[wrong])
        near[np.arange(len(wrong)), right[wrong]] = 0
        given[wrong] = near.argmax(axis=1)
    else:
        classes = right.max() + 1
        given[wrong] = (right[wrong] + random.integers(1, classes, len(wrong))) % classes
    alone = np.arange(len(rows))
    judged, facts = suspects.judge_labels(components, given, alone, seed, silent)
    planted = np.isin(alone, wrong)
    meant = judged["suggested"] == right
    likely, quiet = label_kinds.lists(judged)
    bands = np.digitize(judged["wrong"], BANDS)
    return {
        "planted": len(wrong),
        "rate": facts["rate"],
        "noticed": facts["noticed"],
        "listed": int(likely.sum()),
        "expected": float(judged["wrong"][likely].sum()),
        "listed_wrong": int((likely & planted).sum()),
        "suggestion_right": int((likely & meant).sum()),
        "quiet": int(quiet.sum()),
        "quiet_wrong": int((quiet & planted).sum()),
        "bands": [
            [int((bands == band).sum()), int((planted & (bands == band)).sum())]
            for band in range(1, len(BANDS))
        ],
    }


def silent(text, done=0, total=None) -> None:
    """Reports nothing."""


def as_row(name, found) -> dict:
    """A row of the table: labels listed as wrong, with all shares in its notes."""
    sums = {k: sum(each[k] for each in found) for k in found[0] if k != "bands"}
    listed, planted = sums["listed"], sums["planted"]
    shown = label_kinds.SEES <= sums["noticed"] / len(found)
    parts = [f"estimated rate {sums['rate'] / len(found):.1%}"]
    if listed:
        parts.append(
            f"wrong {sums['listed_wrong'] / listed:.0%} (expected {sums['expected'] / listed:.0%}),"
            f" suggestion right {sums['suggestion_right'] / listed:.0%}"
        )
    parts.append(f"quiet list {sums['quiet'] / len(found):.0f}")
    if planted:
        parts[-1] += f", wrong {sums['quiet_wrong'] / max(1, sums['quiet']):.0%}"
        parts.append(
            f"of the planted, {sums['listed_wrong'] / planted:.0%} are listed as wrong, "
            f"{sums['quiet_wrong'] / planted:.0%} in the quiet list"
        )
    totals = np.sum([each["bands"] for each in found], axis=0)
    limits = zip(BANDS[:-1], BANDS[1:], totals.tolist(), strict=True)
    shares = [f"{low:g}–{min(high, 1):g}: {hit / n:.0%}" for low, high, (n, hit) in limits if n]
    if planted and shares:
        parts.append("wrong by estimated probability " + ", ".join(shares))
    if not shown:
        parts.append(f"notices {sums['noticed'] / len(found):.0%}, so Graft lists neither")
    usual = f"at {label_noise.USUAL:.0%} wrong, notices {sums['noticed'] / len(found):.0%}"
    return common.row(
        f"{name}: listed as wrong",
        [],
        [each["listed"] for each in found],
        "labels",
        note="; ".join([*parts, usual] if shown else parts),
    )
