"""The kinds of findings about labels, and how their severity follows the share that is wrong.

The shares come from `engine.inspection.label_noise`; docs/inspection.md compares them with planted
errors, and `python -m benchmarks --only labels` repeats that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from engine.host import words
from engine.inspection.kinds import Finding, Seen, Severity, none, ranked

LIKELY = 0.5
"""Probability from which a label is listed as wrong. In trials, 74% to 96% of these were."""
SERIOUS = 0.7
"""Share of a list expected to be wrong from which it is serious, and its suggestions are offered:
below it, accepting all of them would make too many new errors."""
ODDS = 5.0
"""How many times as probable as the label another class must be, out of fold, for the label to be
in the quiet list. 3 made the list of clean flowers longer by 59%, and found 4 to 6 points more of
the planted errors."""
QUIET = 0.3
"""Share of the quiet list of clean flowers that was wrong: a person found 9 of 30 drawn from 171
wrong, all of them pictures of no class (a building, snow), and 4 arguable."""
SEES = 0.25
"""Share of randomly wrong labels that a backbone must notice for its doubts to be listed. On photos
of flowers, MobileNetV2 0.35 notices 58%, and the built-in GraftSmall 7%: of the labels that it
would list as wrong, none was on clean photos, and 37% with 3% planted errors."""


def lists(features: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Which labels look wrong, and which belong in the quiet list: two bool arrays (n,).

    Args:
        features: of `engine.inspection.suspects.analyse`.
    """
    with np.errstate(invalid="ignore"):
        likely = features["wrong"] >= LIKELY
        doubted = features["suggested_probability"] > ODDS * features["given_probability"]
    return likely, doubted & ~likely


def mislabelled(seen: Seen) -> Iterator[Finding]:
    """Labels of which most are wrong."""
    if not _sees(seen):
        return
    chance = seen.features["wrong"]
    chosen = np.flatnonzero(lists(seen.features)[0] & _open(seen))
    if not len(chosen):
        return
    share = float(chance[chosen].mean())
    severity: Severity = "high" if share >= SERIOUS else "medium"
    for finding in ranked(
        chosen, chance, "mislabelled", "Labels that look wrong", severity,
        f"About {_tenths(share)} of 10 labels like these were wrong in trials. Look at them, the "
        f"most likely errors first, and relabel or leave out the wrong ones. {_judged(seen)}",
    ):  # fmt: skip
        yield replace(finding, expected=share)


def doubtful(seen: Seen) -> Iterator[Finding]:
    """Labels that another class fits better, most of them correct all the same."""
    if not _sees(seen):
        return
    chosen = np.flatnonzero(lists(seen.features)[1] & _open(seen))
    for finding in ranked(
        chosen, 1 - seen.features["given_probability"], "doubtful", "Labels to look through", "low",
        f"Most are correct: about {_tenths(QUIET)} of 10 labels like these were wrong in a trial, "
        "nearly all on pictures of no class. Look through them if you have time, the most doubtful "
        f"first, and leave out what belongs to no class. {_judged(seen)}",
    ):  # fmt: skip
        yield replace(finding, expected=QUIET)


def unjudged(seen: Seen) -> Iterator[Finding]:
    """The backbone cannot tell the images apart, so its doubts mean nothing."""
    if "wrong" in seen.features and np.isnan(seen.facts["noticed"]):
        yield Finding(
            "unjudged", "Labels not checked: each class has too few different images", "low",
            len(seen.part), none(), None,
            "A label is judged by a classifier trained on other images of its class. Add images, "
            "then inspect again.",
        )  # fmt: skip
    elif "wrong" in seen.features and not _sees(seen):
        backbone = seen.facts.get("backbone", "The backbone")
        accuracy = seen.facts.get("accuracy", float("nan"))
        yield Finding(
            "unjudged", f"Labels not checked: {backbone} cannot judge these images", "low",
            len(seen.part), none(), None,
            f"It classifies {words.percent(accuracy, 0)} of them correctly and would notice "
            f"{words.percent(seen.facts['noticed'], 0)} of wrong labels, so nearly all labels that "
            "it doubts are correct. Choose another backbone on Configure, for photos one with "
            "ImageNet weights, then inspect again.",
        )  # fmt: skip


def _sees(seen: Seen) -> bool:
    return "wrong" in seen.features and seen.facts["noticed"] >= SEES


def _open(seen: Seen) -> np.ndarray:
    """Images whose label a backbone may doubt: those that no person has relabelled."""
    of_source = {name: i for i, name in enumerate(seen.dataset.source_classes)}
    given = np.array([of_source[name] for name in seen.dataset.classes])[seen.dataset.labels]
    suggested = seen.features["suggested"]
    return (suggested >= 0) & (suggested != given) & (given == seen.before)


def _judged(seen: Seen) -> str:
    noticed = _tenths(seen.facts["noticed"])
    return (
        f"Judged with {seen.facts['backbone']}, which notices about {noticed} of 10 labels that "
        "are wrong by chance."
    )


def _tenths(share: float) -> int:
    return round(10 * share)


KINDS = {"mislabelled": mislabelled, "doubtful": doubtful, "unjudged": unjudged}
"""Each kind of finding about labels, in the order of a list of equal severity."""
