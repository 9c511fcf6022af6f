"""Recipes: plain, validated data that decide a result.

A recipe is a tree of frozen pydantic models (`engine.recipe.specs`) that are read from and written to YAML.

    recipe = load_preset("flowers", ["stages.0.epochs=2"])
    text = recipe.to_yaml()
    assert Recipe.from_yaml(text) == recipe
"""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError, model_validator

from engine.errors import RecipeError
from engine.recipe.specs import (
    AugmentationSpec,
    BackboneSpec,
    DatasetSpec,
    HeadSpec,
    Model,
    SplitSpec,
    StageSpec,
    described,
)

PRESETS_FOLDER = Path(__file__).parent / "presets"


def _none_is_off(value):
    return {} if value in (None, "none", "off") else value


def _off_in_yaml(value):
    """YAML 1.1 reads a bare off as false."""
    return "off" if value is False else value


class Recipe(Model):
    """Everything that decides a result. Field by field help: `python -m engine recipe`."""

    name: str = described(
        "untitled", "A name for people; it does not change the result.", min_length=1, max_length=80
    )
    description: str = described("", "What this recipe is for.", max_length=2000)
    dataset: DatasetSpec = described(DatasetSpec(), "Which labelled images.")
    split: SplitSpec = described(SplitSpec(), "How they are divided.")
    backbone: BackboneSpec = described(BackboneSpec(weights="builtin"), "The pretrained network.")
    image_size: int = described(224, "Height and width the network sees.", "pixels", ge=32, le=1024)
    resize: Literal["antialias", "plain"] = described(
        "antialias",
        "antialias: filtered bilinear, keeps detail honest when shrinking; plain: "
        "unfiltered bilinear, as older code does.",
    )
    batch_size: int = described(32, "Images for each step.", "images", ge=1, le=4096)
    shuffle_buffer: int = described(
        0,
        "Shuffle within a window of this many images; 0 shuffles the whole training set.",
        "images",
        ge=0,
        le=10_000_000,
    )
    augmentation: Annotated[AugmentationSpec, BeforeValidator(_none_is_off)] = described(
        AugmentationSpec(), "Random changes of the training images, or none."
    )
    feature_cache: Annotated[Literal["auto", "off"], BeforeValidator(_off_in_yaml)] = described(
        "auto",
        "auto: where nothing random stands before a stage's frozen part, its outputs are computed "
        "once and kept; off: the whole network runs in every epoch.",
    )
    cached_views: int = described(
        0,
        "With augmentation other than mirroring: cache this many fixed random views of every image "
        "for frozen parts, an approximation of new ones in every epoch; 0 caches none.",
        "views an image",
        ge=0,
        le=64,
    )
    head: HeadSpec = described(HeadSpec(), "What is put on the backbone.")
    class_weights: Literal["none", "balanced"] = described(
        "none", "balanced: rare classes count for more, by n / (classes x n of the class)."
    )
    stages: tuple[StageSpec, ...] = described(
        ..., "The stages, in order.", min_length=1, max_length=10
    )
    continue_from: str = described(
        "",
        "Id of a finished run whose whole model this run goes on from, head included; it needs that "
        "run's backbone, head, classes and split. Empty: begin from the backbone's weights.",
        pattern=r"^[\w.-]{0,120}$",
    )
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = described(
        "auto",
        "Number format of the computation; auto: mixed_float16 on a GPU that is quick at "
        "it, float32 elsewhere.",
    )
    memory_budget: int = described(
        2048,
        "Decoded images are kept in memory up to this size, and decoded anew in every epoch "
        "beyond it.",
        "MiB",
        ge=0,
        le=1_000_000,
    )
    deterministic: bool = described(
        True, "The same recipe gives the same weights on the same machine; slower on some GPUs."
    )
    seed: int = described(
        0,
        "Start of everything random: new weights, order, dropout, augmentation.",
        ge=0,
        le=2**31 - 1,
    )

    @model_validator(mode="after")
    def _stage_names_differ(self):
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two stages are named {name!r}; give each its own name")
        return self

    # -- reading and writing ------------------------------------------------------------------

    @classmethod
    def from_dict(cls, data) -> "Recipe":
        """Validates plain data.

        Raises:
            RecipeError: with one sentence for each field that breaks a rule.
        """
        if not isinstance(data, dict):
            raise RecipeError(
                "a recipe must be a mapping of fields such as dataset: and stages:; "
                f"{type(data).__name__} was given"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise RecipeError(_sentences(error)) from None

    @classmethod
    def from_yaml(cls, text: str, sets=()) -> "Recipe":
        """Reads YAML text, applying `path=value` settings before validation."""
        return cls.from_dict(apply_sets(parse_yaml(text), sets))

    def to_dict(self) -> dict:
        """Plain data, every field spelled out."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """YAML that `from_yaml` reads back to an equal recipe; small groups on one line."""
        return yaml.dump(
            self.to_dict(), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True
        )

    @property
    def hash(self) -> str:
        """12 hexadecimal digits of the SHA-256 of all fields but name and description."""
        data = {k: v for k, v in self.to_dict().items() if k not in ("name", "description")}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


class _Dumper(yaml.SafeDumper):
    """Block style for the recipe and its stages, flow style for leaves that fit a line."""

    def represent_mapping(self, tag, mapping, flow_style=None):
        leaf = not any(isinstance(v, (dict, list)) for v in mapping.values())
        return super().represent_mapping(tag, mapping, flow_style=leaf and len(mapping) < 8)


def parse_yaml(text: str) -> dict:
    """YAML text to plain data, or one sentence that says where it breaks."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(
            f"the YAML cannot be read{where}: {getattr(error, 'problem', error)}"
        ) from None
    if not isinstance(data, dict):
        raise RecipeError(
            "a recipe must be a YAML mapping with fields such as dataset: and stages:"
        )
    return data


def apply_sets(data: dict, sets) -> dict:
    """Returns `data` with settings such as "stages.0.epochs=3" applied.

    A value is read as YAML, so numbers, true, lists and JSON work. Raises RecipeError for a
    setting without "=" or a path that does not exist.
    """
    data = json.loads(json.dumps(data))
    for setting in sets:
        path, equals, raw = setting.partition("=")
        if not equals or not path:
            raise RecipeError(f"a setting must look like stages.0.epochs=3; {setting!r} was given")
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError:
            raise RecipeError(f"the value of {path} is not valid YAML or JSON: {raw!r}") from None
        *parents, last = path.split(".")
        target = data
        for key in parents:
            if isinstance(target, dict):
                target = target.setdefault(key, {})
            elif isinstance(target, list) and key.isdigit() and int(key) < len(target):
                target = target[int(key)]
            else:
                raise RecipeError({path: f"there is no {key!r} to set in this recipe"})
        if isinstance(target, dict):
            target[last] = value
        elif isinstance(target, list) and last.isdigit() and int(last) < len(target):
            target[int(last)] = value
        else:
            raise RecipeError({path: f"there is no {last!r} to set in this recipe"})
    return data


def preset_names() -> list[str]:
    """Names of the presets, the default first."""
    names = sorted(p.stem for p in PRESETS_FOLDER.glob("*.yaml"))
    return sorted(names, key=lambda n: n != "sample")


def preset_text(name: str) -> str:
    """The preset's YAML with its comments, which give the reason for each value."""
    path = PRESETS_FOLDER / f"{name}.yaml"
    if name not in preset_names():
        raise RecipeError(
            f"there is no preset {name!r}; the presets are {', '.join(preset_names())}"
        )
    return path.read_text()


def load_preset(name: str, sets=()) -> Recipe:
    """A preset as a recipe, with `path=value` settings applied."""
    return Recipe.from_yaml(preset_text(name), sets)


def load(preset_or_path: str, sets=()) -> Recipe:
    """A recipe from a preset's name or a YAML file's path."""
    path = Path(preset_or_path)
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


# -- help, the same words everywhere ----------------------------------------------------------


def field_info(path: str) -> dict:
    """What is known of a field.

    Args:
        path: such as "stages.0.epochs", "stages.epochs" or "batch_size".

    Returns:
        A dict with path, help, unit, default, minimum, maximum (inclusive or exclusive bounds as
        given, None where there is none) and choices (list, or None).
    """
    model = Recipe
    *parents, last = [part for part in path.split(".") if not part.isdigit()]
    for part in parents:
        model = _submodel(model.model_fields[part].annotation)
    field = model.model_fields[last]
    schema = model.model_json_schema(mode="validation")["properties"][last]
    options = schema.get("anyOf", [schema]) if "allOf" not in schema else schema["allOf"]

    def first(*keys):
        return next((o[k] for o in options for k in keys if k in o), None)

    return {
        "path": path,
        "help": field.description,
        "unit": (field.json_schema_extra or {}).get("unit", ""),
        "default": None if field.is_required() else field.default,
        "minimum": first("minimum", "exclusiveMinimum"),
        "maximum": first("maximum", "exclusiveMaximum"),
        "choices": first("enum"),
    }


def field_help(path: str) -> str:
    """One line for a tooltip: the sentence, the unit and the bounds."""
    info = field_info(path)
    low, high = info["minimum"], info["maximum"]
    bounds = f"{low:g} to {high:g}" if low is not None and high is not None else ""
    extra = " ".join(x for x in (bounds, info["unit"]) if x)
    return f"{info['help']} ({extra})" if extra else info["help"]


def all_fields() -> list[dict]:
    """`field_info` of every leaf field, in the order of the YAML."""
    rows = []

    def walk(model, prefix):
        for name, field in model.model_fields.items():
            sub = _submodel(field.annotation)
            if sub:
                walk(sub, f"{prefix}{name}." + ("0." if name == "stages" else ""))
            else:
                rows.append(field_info(prefix + name))

    walk(Recipe, "")
    return rows


def _submodel(annotation):
    """The pydantic model inside an annotation such as tuple[StageSpec, ...], or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return None


def _sentences(error: ValidationError) -> dict:
    """pydantic's errors as `{path: sentence}`: the rule, then what was given."""
    problems = {}
    for item in error.errors():
        # Union members ("float", "constrained-str") are pydantic's own path parts, not fields.
        path = ".".join(str(p) for p in item["loc"] if isinstance(p, int) or p in _NAMES)
        kind, context = item["type"], item.get("ctx", {})
        given = item.get("input")
        shown = f"; {given!r} was given" if isinstance(given, (str, int, float, bool)) else ""
        if kind == "extra_forbidden":
            unknown = str(item["loc"][-1])
            near = difflib.get_close_matches(unknown, _NAMES, 1)
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
        elif kind == "value_error":
            text = str(context["error"])
        elif kind in ("model_type", "model_attributes_type"):
            text = f"must be a group of fields{shown}"
        else:
            text = item["msg"][0].lower() + item["msg"][1:] + shown
        problems.setdefault(path, text)
    return problems


_NAMES = {
    name
    for model in (
        Recipe,
        DatasetSpec,
        SplitSpec,
        BackboneSpec,
        AugmentationSpec,
        HeadSpec,
        StageSpec,
    )
    for name in model.model_fields
}
