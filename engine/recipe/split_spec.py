"""The part of a recipe that says how images are divided."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.recipe.specs import Model, described

Percent = Annotated[float, Field(ge=0, le=100)]
Slice = Annotated[str, Field(max_length=200)]


class SplitSpec(Model):
    """How the images are divided into train, validation and test."""

    method: Literal["auto", "stratified", "slices", "source"] = described(
        "auto",
        "auto: the source's own parts if it has train and at least one of validation and test (a "
        "missing part is taken from train by its percentage), else stratified; stratified: "
        "percentages of each class, decided by each image's content; parts of the source are "
        "ignored, so its test images may be trained on; slices: TFDS expressions such as "
        "train[:10%]; source: the source's own parts, an error if it has no train.",
    )
    test: Percent | Slice = described(
        10.0, "Share of images that only the final measurement uses.", "%"
    )
    validation: Percent | Slice = described(
        15.0, "Share of images that decides which weights are best, and when to stop early.", "%"
    )
    train: Percent | Slice = described(75.0, "Share of images that the weights learn from.", "%")
    seed: int = described(
        0, "Another number gives another split by percentage.", ge=0, le=2**31 - 1
    )
    group_by: str = described(
        "copies",
        "Images that stay together in one part when they are divided by percentage. copies: near "
        "copies (resized, re-encoded or slightly cropped); folder: also images in one folder below "
        "their class, such as a patient or a scene; a regular expression with one group, such as "
        "(patient\\d+): also images whose names have the same text in it; none: only identical "
        "files.",
        min_length=1,
        max_length=200,
    )

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, data: Any) -> Any:
        """Recipes that Graft itself wrote have all fields. Those of before there were groups keep
        their split exactly, so that what was tested stays untrained."""
        fields = set(cls.model_fields) - {"group_by"}
        if isinstance(data, dict) and set(data) == fields:
            return {**data, "group_by": "none"}
        return data

    @field_validator("group_by")
    @classmethod
    def _group_by_is_known(cls, value: str) -> str:
        if value in ("copies", "folder", "none"):
            return value
        form = "write copies, folder, none, or a regular expression with one group, such as "
        form += "(patient\\d+)"
        if "(" not in value:
            raise ValueError(f"{value!r} is not known; {form}")
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"this regular expression is not valid ({error}); {form}") from None
        if groups != 1:
            raise ValueError(f"this regular expression has {groups} groups, not one; {form}")
        # Repeated groups may take years to match.
        if re.search(r"\)[*+{]", value):
            raise ValueError(f"a group of a regular expression may not be repeated; {form}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> SplitSpec:
        values = {k: getattr(self, k) for k in ("test", "validation", "train")}
        texts = [k for k, v in values.items() if isinstance(v, str)]
        if self.method == "slices":
            if len(texts) != 3:
                raise ValueError(
                    "method slices needs a TFDS expression such as train[:10%] for each of test, "
                    "validation and train"
                )
            return self
        if texts:
            raise ValueError(
                f"method {self.method} needs percentages; {texts[0]} is {values[texts[0]]!r} "
                "(set method: slices to use expressions)"
            )
        total = sum(values.values())
        if self.method in ("auto", "stratified") and abs(total - 100) > 0.01:
            raise ValueError(
                f"test, validation and train must add up to 100%; they add up to {total:g}%"
            )
        empty = [k for k, v in values.items() if v <= 0]
        if empty:
            raise ValueError(f"{empty[0]} must be above 0%: Graft needs all three parts")
        return self
