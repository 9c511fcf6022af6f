"""The comparison of `engine.inspection.payback`, run by `engine.host.background_worker`.

Heavy: Keras and scikit-learn, in its functions. Multinomial logistic regression with an L2 penalty
of one strength (`engine.predict.embedding`) takes the place of the recipe's head. It is fitted on
the principal components of the frozen backbone's features, without augmentation. It is the same
kind of layer, one softmax, but trained until it converges to its one optimum, so that only the
decisions differ.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.data import datasets, overlay
from engine.errors import DatasetError
from engine.features import of_dataset
from engine.inspection import payback
from engine.predict import embedding

if TYPE_CHECKING:
    from engine.host.background import Report
    from engine.recipe import Recipe

DIMENSIONS = 512
"""Principal components that the heads are fitted on."""
NOTE = (
    "Compared are images that are in the validation part both without and with the decisions, by "
    "their present labels; excluded images do not count. A softmax layer, trained to convergence "
    "on the frozen backbone's features, stands for the recipe's head."
)


def measure(recipe: Recipe, home: Path, report: Report) -> dict[str, Any]:
    """Compares heads trained without and with the decisions of the recipe's dataset.

    Args:
        recipe: a Recipe, whose dataset has an overlay.
        home: Graft's home.
        report: see `Report`.

    Returns:
        Plain data: before and after (accuracies, 0 to 1, on the same validation images, by their
        labels with the decisions), n (how many), difference and interval ([low, high], 95%; see
        `engine.inspection.payback.difference`), better and worse (images that only the head after,
        or before, classified correctly), chance (whether the interval spans zero), text (one
        sentence); counts (how many images are excluded, relabelled and moved); train_before and
        train_after (training images); not_compared (images of the present validation part that are
        left out, since they were in another part before or cannot be read); overlay; backbone; note
        (what was compared, sentences for people); head (what stood for the head) and seconds.

    Raises:
        DatasetError: if no image is in the validation part both times.
    """
    begun, spec = time.time(), recipe.dataset
    decisions = overlay.load(home, spec.overlay)
    plain = datasets.open_dataset(spec.model_copy(update={"overlay": ""}), home)
    curated = datasets.Dataset(plain.path, decisions)
    place = {name: label for label, name in enumerate(plain.classes)}
    labels = np.full(len(plain), -1, np.int64)  # with the decisions, -1 for what they exclude
    labels[curated.rows] = np.array([place[name] for name in curated.classes])[curated.labels]
    before = plain.split(recipe.split)
    after = {part: curated.rows[rows] for part, rows in curated.split(recipe.split).items()}
    without_overlay = recipe.model_copy(update={"dataset": spec.model_copy(update={"overlay": ""})})
    with of_dataset.open_features(
        plain, without_overlay, home, lambda phase, *now: report(*now)
    ) as features:
        there = ~features.missing
        asked = np.intersect1d(before["validation"], after["validation"])
        asked = asked[there[asked]]
        if not len(asked):
            raise DatasetError(
                "no image is in the validation part both without and with the decisions, so there "
                "is nothing to compare on; put images back into it"
            )
        trained = [rows[there[rows]] for rows in (before["train"], after["train"])]
        used = np.unique(np.concatenate([asked, *trained]))
        with embedding.one_thread():
            values = embedding.reduce(features, used, DIMENSIONS, report)
    right = []
    for number, (rows, own) in enumerate(zip(trained, (plain.labels, labels), strict=True)):
        report("Training the head without and with the decisions", number, 2)
        balanced = recipe.class_weights == "balanced"
        chosen = values[np.searchsorted(used, rows)]
        head = embedding.classifier(chosen, own[rows], balanced)
        right.append(head.predict(values[np.searchsorted(used, asked)]) == labels[asked])
    better, worse = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    found, low, high = payback.difference(better, worse, len(asked))
    return {
        "before": float(right[0].mean()),
        "after": float(right[1].mean()),
        "n": len(asked),
        "difference": found,
        "interval": [low, high],
        "better": better,
        "worse": worse,
        "chance": low <= 0 <= high,
        "text": payback.sentence(found, low, high, len(asked)),
        "counts": overlay.counts(decisions["decisions"]),
        "train_before": len(trained[0]),
        "train_after": len(trained[1]),
        "not_compared": len(after["validation"]) - len(asked),
        "overlay": spec.overlay,
        "backbone": recipe.backbone.title,
        "note": NOTE,
        "head": f"softmax, L2, C {embedding.STRENGTH:g}, {values.shape[1]} components",
        "seconds": time.time() - begun,
    }
