"""The recipe: a tree of frozen pydantic models, read from and written to YAML.

recipe = load_preset("flowers", ["stages.0.epochs=2"])
text = recipe.to_yaml()
assert Recipe.from_yaml(text) == recipe
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ValidationError, model_validator

from engine.errors import RecipeError
from engine.recipe.problems import sentences
from engine.recipe.specs import (
    AugmentationSpec,
    BackboneSpec,
    DatasetSpec,
    HeadSpec,
    Model,
    StageSpec,
    described,
    field_of,
)
from engine.recipe.split_spec import SplitSpec


def _none_is_off(value: Any) -> Any:
    return {} if value in (None, "none", "off") else value


def _off_in_yaml(value: Any) -> Any:
    """YAML 1.1 reads off without quotes as false."""
    return "off" if value is False else value


class Recipe(Model):
    """Everything that decides a result. `python -m engine recipe` explains each field."""

    name: str = described(
        "untitled", "A name for people; it does not change the result.", min_length=1, max_length=80
    )
    description: str = described("", "What this recipe is for.", max_length=2000)
    dataset: DatasetSpec = described(DatasetSpec(), "Which labelled images.")
    split: SplitSpec = described(SplitSpec(), "How they are divided.")
    backbone: BackboneSpec = described(BackboneSpec(weights="builtin"), "The pretrained network.")
    image_size: int = described(
        224, "Height and width of the network's input.", "pixels", ge=32, le=1024
    )
    resize: Literal["antialias", "plain"] = described(
        "antialias",
        "antialias: bilinear with a filter, which avoids artefacts when shrinking; plain: bilinear "
        "without a filter, as in older code.",
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
        "auto: if nothing random comes before a stage's frozen part, its outputs are computed once "
        "and reused in every epoch; off: the whole network runs in every epoch.",
    )
    cached_views: int = described(
        0,
        "With augmentation other than mirroring: cache this many fixed random views of each image "
        "for frozen parts, instead of new ones in every epoch; 0 caches none.",
        "views per image",
        ge=0,
        le=64,
    )
    head: HeadSpec = described(HeadSpec(), "The layers on top of the backbone.")
    class_weights: Literal["none", "balanced"] = described(
        "none",
        "balanced: rare classes weigh more in the loss: images / (classes x images of the class).",
    )
    stages: tuple[StageSpec, ...] = described(
        ..., "The stages, in order.", min_length=1, max_length=10
    )
    continue_from: str = described(
        "",
        "Id of a finished run to continue from, head included; the backbone, head, classes and "
        "split must be the same. Empty: start from the backbone's weights.",
        pattern=r"^[\w.-]{0,120}$",
    )
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = described(
        "auto",
        "Number format of the computation; auto: mixed_float16 on a GPU that is fast with it, "
        "float32 elsewhere.",
    )
    memory_budget: int = described(
        2048,
        "Decoded images are kept in memory up to this size; the others are decoded again in every "
        "epoch.",
        "MiB",
        ge=0,
        le=1_000_000,
    )
    deterministic: bool = described(
        True, "The same recipe gives the same weights on the same machine; slower on some GPUs."
    )
    seed: int = described(
        0,
        "Seed of everything random: new weights, order, dropout, augmentation.",
        ge=0,
        le=2**31 - 1,
    )

    @model_validator(mode="after")
    def _stage_names_differ(self) -> Recipe:
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two stages are named {name!r}; give each its own name")
        return self

    @classmethod
    def from_dict(cls, data: Any) -> Recipe:
        """Validates plain data, such as a dict from YAML or JSON.

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
            raise RecipeError(sentences(error, cls)) from None

    @classmethod
    def from_yaml(cls, text: str, sets: Iterable[str] = ()) -> Recipe:
        """Reads YAML text and applies `path=value` settings before validation.

        Raises:
            RecipeError: if the text is not YAML, or a field breaks a rule.
        """
        return cls.from_dict(apply_sets(parse_yaml(text), sets))

    def to_dict(self) -> dict[str, Any]:
        """Plain data with every field, defaults included."""
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

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        leaf = not any(isinstance(v, (dict, list)) for v in mapping.values())
        return super().represent_mapping(tag, mapping, flow_style=leaf and len(mapping) < 8)


def parse_yaml(text: str) -> dict[str, Any]:
    """YAML text to plain data. Raises RecipeError, which says where the text is wrong."""
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


def setting(path: str, value: Any) -> str:
    """A value of plain data as a setting that `apply_sets` reads back."""
    kinds = _kinds(path)
    if str in kinds and (isinstance(value, str) or value is None):
        return f"{path}={value or ''}"
    return f"{path}={json.dumps(value, ensure_ascii=False)}"


def _kinds(path: str) -> tuple[Any, ...]:
    """The types that a field accepts, without their bounds; none for an unknown field."""
    found = field_of(Recipe, path)
    if found is None:
        return ()
    annotation = found[1].annotation
    return tuple(
        getattr(kind, "__origin__", kind)
        for kind in (getattr(annotation, "__args__", None) or (annotation,))
    )


def _value(path: str, raw: str) -> Any:
    """The value of a setting, by its field's type."""
    kinds = _kinds(path)
    if str in kinds:
        if path not in _FREE_TEXT and raw[:1] == '"':
            raw = _unquoted(raw)
        if type(None) in kinds and raw in ("", "null"):
            return None
        if float not in kinds:
            return raw
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError:
        if str in kinds:
            return raw
        raise RecipeError(f"the value of {path} is not valid YAML or JSON: {raw!r}") from None
    return raw if str in kinds and not isinstance(value, (int, float)) else value


_FREE_TEXT = ("name", "description")
"""Fields whose text may begin and end with quotes."""


def _unquoted(raw: str) -> str:
    """Addresses of earlier versions have texts as JSON."""
    try:
        value = json.loads(raw)
    except ValueError:
        return raw
    return value if isinstance(value, str) else raw


def apply_sets(data: dict[str, Any], sets: Iterable[str]) -> dict[str, Any]:
    """Returns a copy of `data` with settings such as "stages.0.epochs=3" applied.

    A text field takes the text as it is: `name=yes`, `dataset.path=/photos #2`. Other values are
    read as YAML, so numbers, true, lists and JSON work.

    Raises:
        RecipeError: for a setting without "=", or a path that does not exist.
    """
    data = json.loads(json.dumps(data))
    for setting in sets:
        path, equals, raw = setting.partition("=")
        if not equals or not path:
            raise RecipeError(f"a setting must look like stages.0.epochs=3; {setting!r} was given")
        value = _value(path, raw)
        *parents, last = path.split(".")
        target: Any = data
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
