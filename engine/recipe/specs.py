"""The parts of a recipe: frozen pydantic models.

Each field's definition carries its bounds, its unit and its help sentence. Pages, CLI and error
messages all read them from here (`engine.recipe.field_info`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from engine.errors import DatasetError
from engine.recipe import paths

SAVED_NAME = r"[A-Za-z0-9][\w.-]{0,59}"
TRAINABLE_PATTERN = r"^(none|all|last [1-9]\d{0,3} blocks?|from [\w./:-]{1,120})$"
TFDS_NAME = r"[a-z]\w*(/\w[\w.-]*)?(:(\d+|\*)(\.(\d+|\*)){2})?"


def tfds_problem(name: str) -> str | None:
    """What is wrong with a TensorFlow Datasets name, as one sentence; None if nothing is.

    "kaggle:cats" and "huggingface:cats" are refused: TensorFlow Datasets accepts them, but
    downloads and imports code from those sites.
    """
    if re.match(r"[\w-]+:[^\W\d]", name):
        return (
            f"{name!r} is not in the catalogue of TensorFlow Datasets, and its code would be "
            "downloaded and run; give a name without a colon, such as tf_flowers, or download the "
            "images yourself and use them as a folder"
        )
    if not re.fullmatch(TFDS_NAME, name):
        return (
            "source tfds needs a name such as tf_flowers (lower case, optionally "
            f"name/config:version, for example with version 1.0.0); {name!r} was given"
        )
    return None


def described(default: Any, help: str, unit: str = "", **bounds: Any) -> Any:
    """A pydantic field with a help sentence and a unit.

    Args:
        default: its value if it is left out; `...` for a required field.
        help: one sentence.
        unit: for people, "" for none.
        **bounds: pydantic's own, such as ge, le, max_length or pattern.
    """
    extra: dict[str, Any] | None = {"unit": unit} if unit else None
    return Field(default, description=help, json_schema_extra=extra, **bounds)


def submodel(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as tuple[StageSpec, ...], or None."""
    for found in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return None


def field_of(model: type[BaseModel], path: str) -> tuple[type[BaseModel], FieldInfo] | None:
    """The model that holds a field, and the field; None if there is none of this name.

    Args:
        model: where the path begins.
        path: for example "stages.0.epochs", "stages.epochs" or "batch_size".
    """
    *parents, last = [part for part in path.split(".") if not part.isdigit()] or [""]
    for part in parents:
        field = model.model_fields.get(part)
        inner = submodel(field.annotation) if field else None
        if inner is None:
            return None
        model = inner
    return (model, model.model_fields[last]) if last in model.model_fields else None


def _pasted(value: Any) -> Any:
    """What is not text is left to pydantic, which says so."""
    return paths.given(value) if isinstance(value, str) else value


# A folder's name may end with a space.
PathText = Annotated[str, StringConstraints(strip_whitespace=False), BeforeValidator(_pasted)]


class Model(BaseModel):
    """Base of the recipe and its parts: frozen, and strict about unknown fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, str_strip_whitespace=True
    )


class DatasetSpec(Model):
    """Which labelled images."""

    source: Literal["sample", "tfds", "folder", "zip", "saved"] = described(
        "sample",
        "Where the images come from: the built-in sample, a TensorFlow Datasets name, a folder on "
        "the host with one subfolder per class, a zip file of class folders, or a dataset created "
        "in Graft (saved).",
    )
    name: str = described(
        "",
        "For source tfds: a TensorFlow Datasets name such as tf_flowers, with an optional config "
        "and version (name/config:1.0.0). For source saved: the name of the dataset.",
        max_length=200,
    )
    path: PathText = described(
        "",
        "For source folder: a folder on the host with one subfolder per class. For source zip: a "
        "zip file of class folders.",
        max_length=4096,
    )
    layout: Literal["auto", "class", "part/class", "class/part"] = described(
        "auto",
        "What the folders of a folder or a zip are, from the top. auto: as their names and "
        "contents say, and a question where they contradict; class: a folder per class; "
        "part/class: train, validation and test, with a folder per class in each; class/part: a "
        "folder per class, with train, validation and test in each.",
    )
    images: int = described(
        600,
        "Number of images that the built-in sample draws; for source sample only.",
        "images",
        ge=50,
        le=100_000,
    )
    overlay: str = described(
        "",
        "Id of the decisions made on the Dataset page (images excluded, relabelled or moved to "
        "another part). Empty: the images as the source has them.",
        pattern=r"^([0-9a-f]{16})?$",
    )

    @model_validator(mode="after")
    def _complete(self) -> DatasetSpec:
        if self.source == "tfds" and (problem := tfds_problem(self.name)):
            raise ValueError(problem)
        if self.source == "folder" and not self.path:
            raise ValueError("source folder needs a path, a folder with one subfolder per class")
        if self.source == "zip" and not self.path:
            raise ValueError("source zip needs a path, a zip file with one folder per class")
        if self.source == "saved" and not re.fullmatch(SAVED_NAME, self.name):
            raise ValueError(
                "source saved needs the name of a dataset created in Graft (at most 60 letters, "
                f"digits, dots, dashes or underscores); {self.name!r} was given"
            )
        return self

    @classmethod
    def stored(cls, data: dict[str, Any]) -> DatasetSpec:
        """A spec from plain data in the home. Raises DatasetError if it is no longer valid."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise DatasetError(f"this saved dataset cannot be used: {why}") from None

    @property
    def title(self) -> str:
        """A short name for people: "tf_flowers", a folder's or a zip's name, or "sample"."""
        if self.source == "sample":
            return "sample"
        path = Path(self.path)
        return {"folder": path.name, "zip": path.stem}.get(self.source, self.name)


class BackboneSpec(Model):
    """The pretrained network without its top."""

    name: str = described(
        "GraftSmall",
        "A name from the catalogue of backbones, GraftSmall (built in, works offline), or run:ID "
        "for the backbone of a finished run.",
        min_length=1,
        max_length=120,
    )
    alpha: float | None = described(
        None,
        "Width multiplier of the MobileNet families; smaller is faster and less accurate.",
        "x",
        gt=0,
        le=2,
    )
    weights: PathText | None = described(
        None,
        "imagenet, builtin, none (random), or the path of a local weights file, which is checked "
        "and read in a separate process; if left out, the backbone's own pretrained weights.",
        max_length=4096,
    )

    @model_validator(mode="before")
    @classmethod
    def _default_weights(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("weights") is None:
            name = str(data.get("name", "GraftSmall"))
            own = {"GraftSmall": "builtin"}.get(name, "imagenet")
            return {**data, "weights": "run" if name.startswith("run:") else own}
        return data

    @model_validator(mode="after")
    def _weights_fit(self) -> BackboneSpec:
        if self.name == "GraftSmall" and self.weights == "imagenet":
            raise ValueError("GraftSmall has no ImageNet weights: set weights to builtin or none")
        if self.name != "GraftSmall" and self.weights == "builtin":
            raise ValueError(
                f"only GraftSmall has builtin weights: set weights to imagenet, none or "
                f"a file for {self.name}"
            )
        if self.name.startswith("run:") != (self.weights == "run"):
            raise ValueError("a backbone named run:ID needs weights: run, and no other may have it")
        return self

    @property
    def weights_file(self) -> str | None:
        """The path that `weights` is; None if it is a word."""
        return None if self.weights in ("imagenet", "builtin", "none", "run") else self.weights

    @property
    def title(self) -> str:
        """The name with its width, for people: "MobileNetV2 0.35"."""
        return f"{self.name} {self.alpha:g}" if self.alpha else self.name


class AugmentationSpec(Model):
    """Random changes of the training images. Validation, test and prediction use none."""

    flip: Literal["none", "horizontal", "both"] = described(
        "none", "Mirror half of the images: left to right, or also top to bottom."
    )
    rotation: float = described(
        0, "Rotate by up to this angle in either direction.", "degrees", ge=0, le=180
    )
    zoom: float = described(
        0, "Enlarge or shrink by up to this fraction.", "fraction", ge=0, le=0.9
    )
    translation: float = described(
        0, "Move by up to this fraction of the image in any direction.", "fraction", ge=0, le=0.5
    )
    contrast: float = described(
        0, "Multiply the contrast by 1 plus or minus up to this fraction.", "fraction", ge=0, le=0.9
    )
    brightness: float = described(
        0, "Add or subtract up to this fraction of the full range.", "fraction", ge=0, le=0.9
    )

    @property
    def active(self) -> bool:
        """Whether anything random happens."""
        return self != AugmentationSpec()


class HeadSpec(Model):
    """The layers on top of the backbone."""

    pooling: Literal["avg", "max"] = described(
        "avg", "How the last feature map becomes one vector."
    )
    hidden: int = described(
        0, "Units of an extra hidden layer (ReLU); 0 for no such layer.", "units", ge=0, le=8192
    )
    dropout: float = described(
        0.2,
        "Share of features dropped at each training step, to reduce overfitting.",
        "fraction",
        ge=0,
        le=0.9,
    )
    label_smoothing: float = described(
        0,
        "Probability taken from the true label, to reduce overconfidence.",
        "fraction",
        ge=0,
        le=0.5,
    )


class StageSpec(Model):
    """One phase of training with its own trainable part, optimizer and schedule."""

    name: str = described(
        "stage",
        "Name of this stage in charts and reports.",
        min_length=1,
        max_length=40,
        pattern=r"^[\w .-]+$",
    )
    trainable: str = described(
        "none",
        "Part of the backbone that is trained: none, all, last N blocks, or from LAYER. The head "
        "is always trained.",
        pattern=TRAINABLE_PATTERN,
    )
    batch_norm: Literal["keep", "update"] = described(
        "keep",
        "keep: batch-normalization layers stay exactly as pretrained, the safe choice for small "
        "data; update: trainable ones are trained, with statistics of the new images.",
    )
    epochs: int = described(5, "Passes over the training images.", "epochs", ge=1, le=1000)
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = described(
        "adam", "The algorithm that updates the weights."
    )
    learning_rate: float = described(
        1e-3, "Learning rate at the start, after the warm-up.", "", gt=0, le=10
    )
    schedule: Literal["constant", "inverse_time", "cosine", "exponential"] = described(
        "constant", "How the learning rate changes over the stage."
    )
    warmup_epochs: float = described(
        0,
        "Epochs in which a cosine schedule rises from 0 to the learning rate.",
        "epochs",
        ge=0,
        le=100,
    )
    warmup_rate: float = described(
        0,
        "Highest rate of the warm-up, at most the learning rate; 0: the learning rate itself.",
        "",
        ge=0,
        le=10,
    )
    warmup_below: int = described(
        0,
        "Warm up only if an epoch has fewer steps than this: with few images, the optimizer's "
        "first steps are a large part of the training; 0: always.",
        "steps",
        ge=0,
        le=1_000_000,
    )
    decay_rate: float = described(
        0,
        "inverse_time: rate / (1 + decay x step); exponential: rate x decay ^ epoch.",
        "",
        ge=0,
        le=10,
    )
    momentum: float = described(
        0.9, "Weight of earlier steps, for sgd and rmsprop.", "fraction", ge=0, le=0.999
    )
    weight_decay: float = described(
        0, "Decay of the weights towards zero at each step (decoupled).", "", ge=0, le=1
    )
    early_stopping: int = described(
        0,
        "Stop after this many epochs without a better validation loss; 0 never stops early.",
        "epochs",
        ge=0,
        le=1000,
    )

    @model_validator(mode="after")
    def _schedule_fits(self) -> StageSpec:
        if self.schedule in ("inverse_time", "exponential") and self.decay_rate == 0:
            raise ValueError(f"schedule {self.schedule} needs a decay_rate above 0")
        if self.schedule == "exponential" and self.decay_rate > 1:
            raise ValueError(
                "an exponential schedule with a decay_rate above 1 would grow without limit; use "
                "0.5 to halve the rate every epoch"
            )
        if self.warmup_epochs and self.schedule != "cosine":
            raise ValueError(
                "only the cosine schedule has warmup_epochs; set schedule: cosine or 0"
            )

        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below epochs ({self.epochs})")
        return self
