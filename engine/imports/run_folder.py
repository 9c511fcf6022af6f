"""The files of a foreign run folder, or of a zip of one, that an import keeps. Light.

Only known files are read, within limits. Each is parsed, validated and written again. The converted
network is not kept: it is converted again from final.keras.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from engine import home as homes
from engine.data import overlay
from engine.errors import ImageError, RecipeError, RunError
from engine.host.words import shown
from engine.images import decode
from engine.imports import archive
from engine.imports.archive import Source
from engine.recipe import Recipe
from engine.runs import events, files

MAX_RECIPE = 100_000
MAX_JSON = 5_000_000
MAX_SPLIT = 50_000_000
"""Bytes of split.json, which lists every image; enough for 700,000."""
MAX_EVENTS = 200_000_000
MAX_EVENT = 100_000
"""Bytes of one event; longer ones are skipped."""
MAX_EXAMPLES = 100


def recipe(source: Source) -> Recipe | None:
    """The run's recipe; None if there is none. Raises RunError."""
    content = archive.read(source, files.RECIPE, MAX_RECIPE)
    if content is None:
        return None
    try:
        text = content.decode()
        # References (&a, *a) can expand a small text to gigabytes; Graft writes none.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise RunError(
                "its recipe.yaml uses YAML references (&, *); write the repeated parts out"
            )
        return Recipe.from_yaml(text)
    except RecipeError as error:
        raise RunError(f"its recipe.yaml is not a valid recipe ({shown(str(error))})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"its recipe.yaml cannot be read ({shown(str(error))[:80]})") from None


class _Loose(BaseModel):
    """Fields that pages rely on; other fields are kept unchanged."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


Count = Annotated[int, Field(ge=0, le=10**12)]
Share = Annotated[float, Field(ge=0, le=1)]
Label = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=2000)]


class _Class(_Loose):
    label: Label
    precision: Share | None
    recall: Share | None
    f1: Share | None
    support: Count


class _Figures(_Loose):
    n: Count
    accuracy: Share | None
    interval: tuple[Share, Share]
    loss: float | None
    per_class: list[_Class]
    confusion: list[list[Count]]


class _Evaluation(_Loose):
    test: _Figures
    validation: _Figures


class _Bin(_Loose):
    n: Count
    confidence: Share
    accuracy: Share


class _Reliability(_Loose):
    n: Count
    ece: Share
    binned: Share
    floor: Share
    rows: list[_Bin]


class _Confidence(_Loose):
    temperature: Annotated[float, Field(ge=0.01, le=100)]
    threshold: Annotated[float, Field(ge=0, le=100)]
    before: _Reliability
    after: _Reliability


class _Environment(_Loose):
    packages: dict[str, Text] = {}
    device: dict[str, Any] | None = None


class _Event(BaseModel):
    """The fields that pages read from events of any kind; other fields are kept unchanged."""

    model_config = ConfigDict(extra="allow", strict=True)

    event: Text
    t: Annotated[float, Field(ge=0, le=1e11)]
    text: Text | None = None
    phase: Text | None = None
    name: Text | None = None
    stage: Annotated[int, Field(ge=0, le=1000)] | None = None
    epoch: Count | None = None
    step: Count | None = None
    total_steps: Count | None = None
    steps_per_epoch: Count | None = None
    done: Count | None = None
    total: Count | None = None
    loss: float | None = None
    accuracy: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    best_val_loss: float | None = None
    learning_rate: float | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    classes: list[Label] | None = None
    counts: dict[str, Count] | None = None
    stages: list[dict[str, Any]] | None = None


_NEEDED = {
    "start": ("classes", "counts", "stages", "total_steps", "steps_per_epoch"),
    "stage_start": ("stage", "step", "name"),
    "batch": ("stage", "epoch", "step"),
    "epoch": ("stage", "epoch", "step"),
    "stage_end": ("stage", "step", "text"),
    "resume": ("epoch", "step", "text"),
    "note": ("text",),
    "warning": ("text",),
}
"""The fields that an event of a kind must have."""


Hash = Annotated[str, Field(max_length=128, pattern=r"^[\w:.-]*$")]


class _Split(BaseModel):
    fingerprint: Hash | None = None
    train: list[Hash]
    validation: list[Hash]
    test: list[Hash]


class _Decision(BaseModel):
    content: Hash
    name: Text
    do: Annotated[str, Field(pattern="^(exclude|relabel|move)$")]
    to: Text = ""


class _Overlay(BaseModel):
    id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    decisions: list[_Decision]


class _Backbone(BaseModel):
    name: Text
    alpha: Annotated[float, Field(gt=0, le=10)] | None
    origin: Text
    layer: Text | None


Layer = tuple[Text, Count, Count, bool | Annotated[int, Field(ge=0, le=1)]]


class Architecture(BaseModel):
    """The part of architecture.json that cannot be derived from the model itself."""

    model_config = ConfigDict(allow_inf_nan=False)

    classes: Annotated[list[Label], Field(min_length=2, max_length=100_000)]
    backbone: _Backbone
    preprocessing: Annotated[str, Field(pattern="^(tf|torch|caffe|included)$")]
    min_image_size: Annotated[int, Field(ge=1, le=1024)]
    blocks: Annotated[list[tuple[Text, list[Layer]]], Field(max_length=5000)]
    precision: Text = "float32"


class _Times(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    status: Annotated[str, Field(pattern="^(finished|stopped)$")]
    started: Annotated[float, Field(ge=0, le=1e11)] | None = None
    ended: Annotated[float, Field(ge=0, le=1e11)] | None = None
    spent: Annotated[float, Field(ge=0, le=1e11)] | None = None
    kept_stage: Text | None = None


class _Example(BaseModel):
    file: Annotated[str, Field(pattern=r"^\d{3,6}\.[a-z0-9]{2,8}$")]
    label: Label
    name: Text


_FILES = {
    files.EVALUATION: _Evaluation,
    files.SPLIT: _Split,
    overlay.FILE: _Overlay,
    files.CONFIDENCE: _Confidence,
    files.ENVIRONMENT: _Environment,
}
"""Files that are kept if they exist, and what they must look like."""


def _parsed(source: Source, name: str, shape: Any, most: int = MAX_JSON) -> Any:
    """A JSON file, validated, as plain data; None if there is none. Raises RunError."""
    content = archive.read(source, name, most)
    if content is None:
        return None
    try:
        kind = TypeAdapter(shape)
        # Validated while it is parsed: as plain data, 50 MB of brackets would take a gigabyte.
        return kind.dump_python(kind.validate_json(content), mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its text"
        raise RunError(
            f"its {name} does not look as Graft writes it ({shown(where)}: {shown(first['msg'])})"
        ) from None


def architecture(source: Source) -> dict[str, Any] | None:
    """Classes and backbone from architecture.json; None if there is none. Raises RunError."""
    return _parsed(source, files.ARCHITECTURE, Architecture)


def times(source: Source) -> dict[str, Any]:
    """How and when the run ended, from status.json. Raises RunError if it is not finished."""
    try:
        found = _parsed(source, files.STATUS, _Times)
    except RunError as error:
        raise RunError(f"{error}; only a finished run can be imported") from None
    found = found or {"status": "finished"}
    started, ended = found.get("started"), found.get("ended")
    if started is None or ended is None or started > ended:
        found.pop("started", None)
        found.pop("ended", None)
    return found


def keep(source: Source, target: Path) -> None:
    """Writes the run's other known files to a folder: evaluation, split, overlay, calibration,
    environment, events, examples. Raises RunError."""
    for name, shape in _FILES.items():
        most = MAX_SPLIT if shape is _Split else MAX_JSON
        if (found := _parsed(source, name, shape, most)) is not None:
            homes.write_json(target / name, found)
    _keep_events(source, target / files.EVENTS)
    _keep_examples(source, target / files.EXAMPLES)


def _keep_events(source, target) -> None:
    """The events of known kinds, one by one: together they would take ten times the memory."""
    raw = target.with_name("events.raw")
    if not archive.copy(source, files.EVENTS, raw, MAX_EVENTS):
        return
    with open(raw, "rb") as file, homes.replacing(target) as kept:
        while line := file.readline(MAX_EVENT):
            try:
                event = from_json(line, allow_inf_nan=False)
                _Event.model_validate(event)
            except ValueError:  # not JSON, or not what pages expect
                continue
            needed = _NEEDED.get(event["event"], ())
            if event["event"] in events.KINDS and all(
                event.get(name) is not None for name in needed
            ):
                kept.write(json.dumps(event) + "\n")
    raw.unlink()


def _keep_examples(source, target) -> None:
    """The example images; each is decoded once before it is kept."""
    rows = _parsed(source, f"{files.EXAMPLES}/{files.EXAMPLES_LIST}", list[_Example]) or []
    target.mkdir()
    if len(rows) > MAX_EXAMPLES:
        raise RunError(f"it lists {len(rows):,} example images; a run has at most {MAX_EXAMPLES}")
    for row in rows:
        content = archive.read(source, f"{files.EXAMPLES}/{row['file']}", decode.MAX_BYTES)
        if content is None:
            raise RunError(f"its example image {row['file']} is missing")
        try:
            decode.read(content)
        except ImageError as error:
            raise RunError(f"its example image {row['file']} is refused: {error}") from None
        (target / row["file"]).write_bytes(content)
    homes.write_json(target / files.EXAMPLES_LIST, rows)
