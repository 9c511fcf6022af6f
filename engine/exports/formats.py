"""The formats that a run can be exported to, and the bounds that an export must keep to. Light."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXTRA = "requirements-export.txt"
PRECISIONS = {
    "float32": "exact, the largest file",
    "float16": "large weights take half the space where answers stay the same; computes in float32",
    "int8": "a quarter of the size and fastest on small devices; slightly less exact",
}
"""Number formats of the weights (int8: of the computation too), and what each is good for."""


@dataclass(frozen=True)
class Format:
    """A format that a model can be exported to.

    Attributes:
        title: for people.
        model: name of the file or folder in the zip.
        runtime: packages that classify.py needs besides numpy and pillow.
        extra: packages of the file `EXTRA` that are needed to write it, or None.
        about: what it is for, in one line.
        precisions: keys of `PRECISIONS`, the default first.
    """

    title: str
    model: str
    runtime: tuple[str, ...]
    extra: tuple[str, ...] | None
    about: str
    precisions: tuple[str, ...] = ("float32",)

    @property
    def suffix(self) -> str:
        """The suffix of the model's file, such as ".tflite"; "" for a folder."""
        return Path(self.model).suffix


FORMATS = {
    "keras": Format(
        "Keras",
        "model.keras",
        ("keras", "tensorflow"),
        None,
        "For Python: look inside, train further, convert.",
    ),
    "saved_model": Format(
        "TensorFlow SavedModel",
        "saved_model",
        ("tensorflow",),
        None,
        "For TensorFlow Serving and other servers: takes the bytes of image files as they are.",
    ),
    "litert": Format(
        "LiteRT (TensorFlow Lite)",
        "model.tflite",
        ("ai-edge-litert",),
        None,
        "For phones and small devices: a small runtime that starts fast, without TensorFlow.",
        tuple(PRECISIONS),
    ),
    "onnx": Format(
        "ONNX",
        "model.onnx",
        ("onnxruntime",),
        ("onnx", "onnxruntime", "tf2onnx"),
        "For other languages and runtimes: C++, C#, Java, JavaScript.",
    ),
}
BOUNDS: dict[str, dict[str, Any]] = {
    # Another order of summation changes answers by about 1e-6; 1e-3 shows as 0.1% in an app.
    "float32": {"equal_labels": 1.0, "largest_difference": 1e-3},
    # Only weights that do not change the answers are float16 (`engine.exports.half`).
    "float16": {"equal_labels": 1.0, "largest_difference": 1e-3},
    # With 8 bits probabilities change a lot; the label is what counts.
    "int8": {"equal_labels": 0.97, "largest_difference": None},
}
"""Bounds for an export of each precision: the minimum share of equal labels, and the maximum
difference in any probability (None for no bound)."""


def missing(format: str) -> list[str]:
    """The extra packages of a format that are not installed on this host."""
    return [name for name in FORMATS[format].extra or () if not importlib.util.find_spec(name)]
