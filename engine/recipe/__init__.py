"""Recipes: plain, validated data that decides a result.

recipe = load_preset("flowers", ["stages.0.epochs=2"])
text = recipe.to_yaml()
assert Recipe.from_yaml(text) == recipe
"""

from engine.recipe.fields import all_fields, field_help, field_info
from engine.recipe.presets import load, load_preset, preset_names, preset_text
from engine.recipe.recipe import Recipe, apply_sets, setting
from engine.recipe.specs import (
    SAVED_NAME,
    AugmentationSpec,
    BackboneSpec,
    DatasetSpec,
    HeadSpec,
    StageSpec,
    tfds_problem,
)
from engine.recipe.split_spec import SplitSpec

__all__ = [
    "SAVED_NAME",
    "AugmentationSpec",
    "BackboneSpec",
    "DatasetSpec",
    "HeadSpec",
    "Recipe",
    "SplitSpec",
    "StageSpec",
    "all_fields",
    "apply_sets",
    "field_help",
    "field_info",
    "load",
    "load_preset",
    "preset_names",
    "preset_text",
    "setting",
    "tfds_problem",
]
