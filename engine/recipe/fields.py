"""What each field of a recipe means, and its bounds: the same words on pages and in the CLI."""

from typing import Any

from pydantic import BaseModel

from engine.recipe.recipe import Recipe
from engine.recipe.specs import field_of, submodel


def field_info(path: str) -> dict[str, Any]:
    """Describes a field.

    Args:
        path: for example "stages.0.epochs", "stages.epochs" or "batch_size".

    Returns:
        A dict with path, help, unit, default, minimum, maximum (inclusive or exclusive bounds as
        given, None where there is none) and choices (list, or None).
    """
    found = field_of(Recipe, path)
    assert found, f"a recipe has no field {path}"
    model, field = found
    last = path.rpartition(".")[2]
    schema = model.model_json_schema(mode="validation")["properties"][last]
    options = schema.get("anyOf", [schema]) if "allOf" not in schema else schema["allOf"]
    extra = field.json_schema_extra

    def first(*keys: str) -> Any:
        return next((o[k] for o in options for k in keys if k in o), None)

    return {
        "path": path,
        "help": field.description,
        "unit": extra.get("unit", "") if isinstance(extra, dict) else "",
        "default": None if field.is_required() else field.default,
        "minimum": first("minimum", "exclusiveMinimum"),
        "maximum": first("maximum", "exclusiveMaximum"),
        "choices": first("enum"),
    }


def field_help(path: str) -> str:
    """One line for a tooltip: the help sentence, the bounds and the unit."""
    info = field_info(path)
    low, high = info["minimum"], info["maximum"]
    bounds = f"{low:g} to {high:g}" if low is not None and high is not None else ""
    extra = " ".join(x for x in (bounds, info["unit"]) if x)
    return f"{info['help']} ({extra})" if extra else info["help"]


def all_fields() -> list[dict[str, Any]]:
    """`field_info` of every leaf field, in the order of the YAML."""

    def walk(model: type[BaseModel], prefix: str):
        for name, field in model.model_fields.items():
            if sub := submodel(field.annotation):
                yield from walk(sub, f"{prefix}{name}." + ("0." if name == "stages" else ""))
            else:
                yield field_info(prefix + name)

    return list(walk(Recipe, ""))
