"""What a person types for a dataset on the command line, as a DatasetSpec."""

import re
from pathlib import Path

from pydantic import ValidationError

from engine.data.sources import collection
from engine.errors import DatasetError
from engine.recipe import SAVED_NAME, DatasetSpec, tfds_problem

HELP = (
    "A dataset: sample, a TensorFlow Datasets name, a folder with one folder for each class, a zip "
    "file of such folders, or the name of a dataset put together in Graft."
)
"""Help of an argument or option that `spec_of` reads."""


def spec_of(text: str, home) -> DatasetSpec:
    """The dataset that a text means.

    What exists as a folder or a file is that; then come `sample`, the names of datasets put together
    in Graft (`engine.data.sources.collection`), and names of TensorFlow Datasets. A path is made absolute, so that it
    means the same from everywhere.

    Args:
        text: such as "sample", "tf_flowers", "photos/", "photos.zip" or "my-pets".
        home: Graft's home.

    Raises:
        DatasetError: one sentence, if it can be none of them.
    """
    text = text.strip()
    found = _path(text)
    if found is not None:
        return DatasetSpec(source="folder" if found.is_dir() else "zip", path=str(found))
    if text == "sample":
        return DatasetSpec(source="sample")
    if re.fullmatch(SAVED_NAME, text) and text in collection.names(home):
        return DatasetSpec(source="saved", name=text)
    if not _looks_like_a_path(text):
        try:
            return DatasetSpec(source="tfds", name=text)
        except ValidationError:
            # Else the sentence below says more than that of the field.
            if ":" in text and (problem := tfds_problem(text)):
                raise DatasetError(problem) from None
    raise DatasetError(
        f"{text!r} is no dataset: there is no folder or zip file of that name here, none was put "
        "together in Graft under it, and it is no TensorFlow Datasets name such as tf_flowers; check "
        "its spelling, or see python -m engine datasets"
    )


def _path(text: str) -> Path | None:
    """The absolute path of a folder or a file that is there."""
    try:
        path = Path(text).expanduser()
        return path.resolve() if text and (path.is_dir() or path.is_file()) else None
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown ~user
        return None


def _looks_like_a_path(text: str) -> bool:
    """Whether it was meant as a path, though nothing is there."""
    return text.startswith(("/", ".", "~")) or text.endswith(("/", ".zip")) or text.count("/") > 1
