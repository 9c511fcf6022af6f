"""Recipes in files: the presets that come with Graft, and a user's own."""

from collections.abc import Iterable
from pathlib import Path

from engine.errors import RecipeError
from engine.recipe import paths
from engine.recipe.recipe import Recipe

PRESETS_FOLDER = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """Names of the presets, the default first."""
    return sorted((p.stem for p in PRESETS_FOLDER.glob("*.yaml")), key=lambda n: (n != "sample", n))


def preset_text(name: str) -> str:
    """The preset's YAML with its comments, which give the reason for each value.

    Raises:
        RecipeError: if there is no preset of this name.
    """
    if name not in preset_names():
        raise RecipeError(
            f"there is no preset {name!r}; the presets are {', '.join(preset_names())}"
        )
    return (PRESETS_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def load_preset(name: str, sets: Iterable[str] = ()) -> Recipe:
    """A preset as a recipe, with `path=value` settings applied. Raises RecipeError."""
    return Recipe.from_yaml(preset_text(name), sets)


def load(preset_or_path: str, sets: Iterable[str] = ()) -> Recipe:
    """A recipe from a preset's name or a YAML file's path, with settings as for `load_preset`.

    Raises:
        RecipeError: if there is no such preset or file, or a field breaks a rule.
    """
    path = Path(paths.given(preset_or_path)).expanduser()
    if preset_or_path in preset_names():
        return load_preset(preset_or_path, sets)
    if not path.is_file():
        raise RecipeError(
            f"{preset_or_path!r} is neither a preset ({', '.join(preset_names())}) "
            "nor a recipe file"
        )
    try:
        return Recipe.from_yaml(path.read_text(encoding="utf-8"), sets)
    except UnicodeDecodeError:
        raise RecipeError(f"{preset_or_path} is not a text file; a recipe is YAML") from None
