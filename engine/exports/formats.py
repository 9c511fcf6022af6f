"""The formats that a run can be exported to, and what an export in each must keep to. Light."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

EXTRA = "requirements-export.txt"
PRECISIONS = {
    "float32": "exact, the largest file",
    "float16": "large weights in half the size where the answers stay the same; computes in float32",
    "int8": "a quarter of the size and the quickest on small devices; a little less exact",
}
"""Number formats of weights, and of int8 also of what is computed, with what each is good for."""


@dataclass(frozen=True)
class Format:
    """A format that a model can be exported to.

    Attributes:
        title: for people.
        model: name of the file or folder in the zip.
        runtime: packages that classify.py needs beside numpy and pillow.
        extra: packages of `EXTRA` that writing it needs, or None.
        about: what it is for, one line.
        precisions: of `PRECISIONS`, the usual one first.
    """

    title: str
    model: str
    runtime: tuple[str, ...]
    extra: tuple[str, ...] | None
    about: str
    precisions: tuple[str, ...] = ("float32",)

    @property
    def suffix(self) -> str:
        """Of the model's file, such as ".tflite"; "" for a folder."""
        return Path(self.model).suffix


FORMATS = {
    "keras": Format(
        "Keras",
        "model.keras",
        ("keras", "tensorflow"),
        None,
        "To go on in Python: look inside, train further, convert.",
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
        "For phones, small devices and quick starts: a small runtime without TensorFlow.",
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
BOUNDS = {
    # Other orders of summation differ by some 1e-6; 1e-3 is what an app can show as 0.1 %.
    "float32": {"equal_labels": 1.0, "largest_difference": 1e-3},
    # Only those weights are float16 that leave the answers alone (`engine.exports.half`).
    "float16": {"equal_labels": 1.0, "largest_difference": 1e-3},
    # 8 bits move probabilities far; what counts is the answer.
    "int8": {"equal_labels": 0.97, "largest_difference": None},
}
"""What an export must keep to, by precision: the least share of equal labels, and the largest
difference in probability that is allowed."""


def missing(format: str) -> list[str]:
    """The extra packages of a format that are not installed on this host."""
    return [name for name in FORMATS[format].extra or () if not importlib.util.find_spec(name)]
