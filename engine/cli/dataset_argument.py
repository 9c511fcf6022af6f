"""What people type for a dataset on the command line, as a DatasetSpec."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from engine.data.sources import collection
from engine.errors import DatasetError
from engine.recipe import SAVED_NAME, DatasetSpec, paths, tfds_problem
from engine.recipe.problems import sentences

HELP = (
    "A dataset: sample, a TensorFlow Datasets name, a folder with one folder for each class, a zip "
    "file of class folders, or the name of a dataset built in Graft."
)
"""Help of an argument or option that `spec_of` reads."""
Layout = Annotated[
    Literal["auto", "class", "part/class", "class/part"],
    typer.Option(help="What the folders of a folder or a zip are (see docs/datasets.md)."),
]


def spec_of(text: str, home: Path, layout: str = "auto") -> DatasetSpec:
    """The dataset that a text means.

    An existing folder or file comes first, then `sample`, the names of datasets built in Graft
    (`engine.data.sources.collection`), and names of TensorFlow Datasets. Paths are made absolute.

    Args:
        text: for example "sample", "tf_flowers", "photos/", "photos.zip" or "my-pets".
        home: Graft's home.
        layout: what the folders of a folder or a zip are.

    Raises:
        DatasetError: one sentence, if it is none of them.
    """
    text = paths.given(text)
    found = _path(text)
    if found is not None:
        try:
            source = "folder" if found.is_dir() else "zip"
            return DatasetSpec.model_validate(
                {"source": source, "path": str(found), "layout": layout}
            )
        except ValidationError as error:
            raise DatasetError("; ".join(sentences(error, DatasetSpec).values())) from None
    if text == "sample":
        return DatasetSpec(source="sample")
    if re.fullmatch(SAVED_NAME, text) and text in collection.names(home):
        return DatasetSpec(source="saved", name=text)
    if not _looks_like_a_path(text):
        try:
            return DatasetSpec(source="tfds", name=text)
        except ValidationError:
            # Otherwise the sentence below says more than the field's own.
            if ":" in text and (problem := tfds_problem(text)):
                raise DatasetError(problem) from None
    raise DatasetError(
        f"{text!r} is no dataset: it is neither a folder or zip file here, nor a dataset built in "
        "Graft, nor a TensorFlow Datasets name such as tf_flowers; check the spelling, or see "
        "python -m engine datasets"
    )


def _path(text: str) -> Path | None:
    """The absolute path of an existing folder or file."""
    try:
        path = Path(text).expanduser()
        return path.resolve() if text and (path.is_dir() or path.is_file()) else None
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown ~user
        return None


def _looks_like_a_path(text: str) -> bool:
    """Whether it was meant as a path, though nothing is there."""
    return text.startswith(("/", ".", "~")) or text.endswith(("/", ".zip")) or text.count("/") > 1
