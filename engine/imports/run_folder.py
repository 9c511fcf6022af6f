"""What is taken of a run folder from elsewhere, or of a zip of one; light.

Only known files are opened, by their names and within bounds; no link is followed. Each is parsed, held to
its shape, and written anew. The converted network is not taken at all: it is made again from final.keras.
"""

import json
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from engine import home as homes
from engine.data import overlay
from engine.data.sources.zip_names import shown
from engine.errors import ImageError, RecipeError, RunError
from engine.images import decode
from engine.imports import archive
from engine.predict import calibration
from engine.recipe import Recipe

MAX_RECIPE = 100_000
MAX_JSON = 5_000_000
MAX_SPLIT = 50_000_000
"""Bytes of split.json, which names every image: 700,000 of them."""
MAX_EVENTS = 200_000_000
MAX_EVENT = 100_000
"""Bytes of one event; longer ones are left out."""
MAX_EXAMPLES = 100
KINDS = {
    "start", "phase", "stage_start", "batch", "epoch", "stage_end", "note", "warning", "resume", "end",
}  # fmt: skip
"""Events that are taken (`engine.runs.events`)."""


def recipe(source) -> Recipe | None:
    """The recipe of a run; None if there is none. Raises RunError."""
    content = archive.read(source, "recipe.yaml", MAX_RECIPE)
    if content is None:
        return None
    try:
        text = content.decode()
        # Names for repeated parts (&a, *a) can make a small text stand for gigabytes; Graft writes none.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise RunError(
                "its recipe.yaml repeats parts by reference, as no recipe of Graft's does"
            )
        return Recipe.from_yaml(text)
    except RecipeError as error:
        raise RunError(f"its recipe.yaml is no recipe ({shown(str(error))})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"its recipe.yaml cannot be read ({shown(str(error))[:80]})") from None


class _Loose(BaseModel):
    """Fields that pages rely on; others are kept as they are."""

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
    device: dict[str, object] | None = None


class _Event(BaseModel):
    """What pages read of an event, whatever its kind; other fields are kept as they are."""

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
    eta_seconds: float | None = None
    classes: list[Label] | None = None
    counts: dict[str, Count] | None = None
    stages: list[dict[str, object]] | None = None


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
"""What an event of a kind must hold."""


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
    """The part of architecture.json that cannot be found out from the model itself."""

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
    "evaluation.json": _Evaluation,
    "split.json": _Split,
    overlay.FILE: _Overlay,
    calibration.FILE: _Confidence,
    "environment.json": _Environment,
}
"""Files that are taken where they are there, and the shape that they must have."""


def _parsed(source, name, shape, most=MAX_JSON):
    """A JSON file held to a shape, as plain data; None if there is none. Raises RunError."""
    content = archive.read(source, name, most)
    if content is None:
        return None
    try:
        kind = TypeAdapter(shape)
        # Held to its shape while it is read: as plain data, 50 MB of brackets would be a gigabyte.
        return kind.dump_python(kind.validate_json(content), mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its text"
        raise RunError(
            f"{name} in it is not as Graft writes it ({shown(where)}: {shown(first['msg'])})"
        ) from None


def architecture(source) -> dict | None:
    """What architecture.json says of classes and backbone; None if there is none. Raises RunError."""
    return _parsed(source, "architecture.json", Architecture)


def times(source) -> dict:
    """How the run ended and when, of status.json. Raises RunError if it has no model to import."""
    try:
        found = _parsed(source, "status.json", _Times)
    except RunError as error:
        raise RunError(f"{error}; only a finished run can be imported") from None
    found = found or {"status": "finished"}
    started, ended = found.get("started"), found.get("ended")
    if started is None or ended is None or started > ended:
        found.pop("started", None)
        found.pop("ended", None)
    return found


def take(source, target: Path) -> None:
    """Writes what is known of a run's other files to a folder of ours: figures, split, decisions,
    environment, events, examples. Raises RunError."""
    for name, shape in _FILES.items():
        most = MAX_SPLIT if shape is _Split else MAX_JSON
        if (found := _parsed(source, name, shape, most)) is not None:
            homes.write_json(target / name, found)
    _take_events(source, target / "events.jsonl")
    _take_examples(source, target / "examples")


def _take_events(source, target) -> None:
    """The events of known kinds, one after another: all at once they would take ten times the memory."""
    raw = target.with_name("events.raw")
    if not archive.copy(source, "events.jsonl", raw, MAX_EVENTS):
        return
    with open(raw, "rb") as file, homes.replacing(target) as kept:
        while line := file.readline(MAX_EVENT):
            try:
                event = from_json(line, allow_inf_nan=False)
                _Event.model_validate(event)
            except ValueError:  # no JSON, or not as pages take it
                continue
            needed = _NEEDED.get(event["event"], ())
            if event["event"] in KINDS and all(event.get(name) is not None for name in needed):
                kept.write(json.dumps(event) + "\n")
    raw.unlink()


def _take_examples(source, target) -> None:
    """Example images, each read as Graft reads any image before it is kept."""
    rows = _parsed(source, "examples/examples.json", list[_Example]) or []
    target.mkdir()
    if len(rows) > MAX_EXAMPLES:
        raise RunError(
            f"it names {len(rows):,} example images, and a run keeps at most {MAX_EXAMPLES}"
        )
    for row in rows:
        content = archive.read(source, f"examples/{row['file']}", decode.MAX_BYTES)
        if content is None:
            raise RunError(f"its example image {row['file']} is missing")
        try:
            decode.read(content)
        except ImageError as error:
            raise RunError(f"its example {row['file']} is refused: {error}") from None
        (target / row["file"]).write_bytes(content)
    homes.write_json(target / "examples.json", rows)
