"""pydantic's validation errors as sentences for people."""

import difflib

from pydantic import BaseModel, ValidationError

from engine.recipe.specs import submodel


def sentences(error: ValidationError, model: type[BaseModel]) -> dict[str, str]:
    """One sentence for each field: the rule that it breaks, then what was given.

    Args:
        error: raised by validating `model`.
        model: the Recipe class, whose field names a typing mistake is compared with.

    Returns:
        `{field path: sentence}`, for example {"stages.0.epochs": "must be at most 1000"}.
    """
    names = _names(model)
    problems: dict[str, str] = {}
    for item in error.errors():
        # Union members ("float", "constrained-str") are pydantic's own path parts, not fields.
        path = ".".join(str(p) for p in item["loc"] if isinstance(p, int) or p in names)
        kind, context = item["type"], item.get("ctx", {})
        given = item.get("input")
        shown = f"; {given!r} was given" if isinstance(given, (str, int, float, bool)) else ""
        if kind == "extra_forbidden":
            near = difflib.get_close_matches(str(item["loc"][-1]), names, 1)
            path = ".".join(str(p) for p in item["loc"])
            text = "is not a field of a recipe" + (f"; did you mean {near[0]}?" if near else "")
        elif kind == "missing":
            text = "is required"
        elif kind == "greater_than_equal":
            text = f"must be at least {context['ge']:g}{shown}"
        elif kind == "greater_than":
            text = f"must be above {context['gt']:g}{shown}"
        elif kind == "less_than_equal":
            text = f"must be at most {context['le']:g}{shown}"
        elif kind == "literal_error":
            text = f"must be {context['expected']}{shown}"
        elif kind == "string_pattern_mismatch" and path.endswith("trainable"):
            text = f"must be none, all, last N blocks, or from LAYER{shown}"
        elif kind == "string_unicode":
            text = f"has characters that are not UTF-8; rename the file or folder{shown}"
        elif kind == "value_error":
            text = str(context["error"])
        elif kind in ("model_type", "model_attributes_type"):
            text = f"must be a group of fields{shown}"
        else:
            text = item["msg"][0].lower() + item["msg"][1:] + shown
        problems.setdefault(path, text)
    return problems


def _names(model: type[BaseModel]) -> set[str]:
    """The names of a model's fields, and of those of the models inside it."""
    names = set(model.model_fields)
    for field in model.model_fields.values():
        if sub := submodel(field.annotation):
            names |= _names(sub)
    return names
