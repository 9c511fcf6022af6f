"""The backbone that judges a dataset's images: one trained on images of that kind. Light."""

from __future__ import annotations

from pathlib import Path

from engine.estimate import proposal
from engine.models import backbones
from engine.recipe import BackboneSpec, DatasetSpec, Recipe

LARGEST = 30
"""Megabytes of weights. Larger backbones are used only if the recipe names them: on two cores, the
feature pass of Xception (83 MB) takes thirty times as long as that of MobileNetV2 0.35."""


def of(recipe: Recipe, spec: DatasetSpec, home: Path) -> Recipe:
    """The recipe to inspect a dataset with.

    It is the given one if its backbone was trained on images of that kind; training then reuses the
    features. A backbone with random weights, or the built-in one on photos, says nothing about
    labels, so the most accurate one whose ImageNet weights are on this host replaces it.

    Args:
        recipe: a Recipe.
        spec: the dataset, which may be another than the recipe's.
        home: Graft's home.

    Returns:
        A Recipe; the given one, too, if no ImageNet weights are on this host.
    """
    drawings = proposal.preset_for(spec.model_dump(), home) == proposal.DRAWINGS
    if recipe.backbone.weights not in ("builtin", "none") or drawings:
        return recipe
    best, chosen = -1.0, recipe
    for name, alpha in backbones.variants():
        entry = backbones.get(name, alpha)
        path = backbones.weights_path(name, alpha, entry.image_size)
        if path is None or entry.weights_mb > LARGEST or (entry.top1 or 0) <= best:
            continue
        if path.exists():
            best = entry.top1 or 0
            chosen = recipe.model_copy(
                update={
                    "backbone": BackboneSpec(name=name, alpha=alpha, weights="imagenet"),
                    "image_size": entry.image_size,
                }
            )
    return chosen


def replaced(recipe: Recipe, backbone: str) -> str:
    """A sentence for people if another backbone judged the images, else "".

    Args:
        recipe: the one that was asked for.
        backbone: `engine.inspection.inspection.Inspection.backbone`.
    """
    if not backbone or backbone == recipe.backbone.title:
        return ""
    return (
        f"Labels and outliers were judged with {backbone}: the recipe's {recipe.backbone.title} "
        "was not trained on photos."
    )
