"""What the views of the Test page share: classifiers and their confidence, kept by the server."""

import hashlib
import io
from dataclasses import dataclass

import streamlit as st

from engine.errors import GraftError
from engine.host import words
from engine.images.memory import return_memory
from engine.predict import calibration, confidence
from engine.predict.classifier import Answer, Classifier
from pages._ui import common

_LOOKS = {
    "sure": ("green", "verified"),
    "likely": ("blue", "thumb_up"),
    "far": ("orange", "help"),
    "unsure": ("orange", "help"),
    "unlike": ("red", "block"),
}
BADGES = {
    kind: f":{colour}[:material/{icon}: {confidence.WORDS[kind]}]"
    for kind, (colour, icon) in _LOOKS.items()
}
"""Markdown for each kind of verdict."""
BOX = (190, 190)
"""Largest width and height of a shown image, in pixels, so that cards line up."""


def coverage() -> float:
    """The target coverage chosen on the Confidence tab, 0 to 1."""
    return st.session_state.get("coverage", round(100 * confidence.COVERAGE)) / 100


def classifier(run) -> Classifier:
    """The classifier of a run, shared by all sessions."""
    return _classifier(str(run.path), _stamps(run), run)


def certainty(run) -> confidence.Confidence | str:
    """The confidence data of a run, shared by all sessions; or a sentence why it has none."""
    try:
        return _certainty(
            str(run.path), _stamp(run, calibration.FILE), _stamp(run, "reference.npz"), run
        )
    except GraftError as error:
        return str(error)


def say_if_uncertain(run) -> None:
    """One line if the run has no confidence data."""
    known = certainty(run)
    if isinstance(known, str):
        text = common.plain(common.sentence(known))
        st.caption(f":material/info: Confidence is not available for this run. {text}")


def _stamp(run, name) -> int:
    try:
        return (run.path / name).stat().st_mtime_ns
    except OSError:
        return 0


def _stamps(run) -> tuple:
    """What the answers depend on: the network and the temperature."""
    return _stamp(run, "inference.tflite"), _stamp(run, calibration.FILE)


@st.cache_resource(max_entries=4, show_spinner="Loading the classifier")
def _classifier(path: str, stamps: tuple, _run) -> Classifier:
    return Classifier(_run)


@st.cache_resource(max_entries=4, show_spinner=False)
def _certainty(path: str, changed: int, reference: int, _run) -> confidence.Confidence:
    return confidence.Confidence(_run)


def digest(image) -> str:
    """A name for an image: bytes, or a path whose file never changes."""
    return hashlib.sha256(image if isinstance(image, bytes) else str(image).encode()).hexdigest()


@dataclass(frozen=True)
class Shown:
    """An image on a card.

    Attributes:
        data: bytes or a path.
        content: its `digest`, computed once, as an upload may be large.
    """

    data: object
    content: str


def shown(image) -> Shown:
    """An image, bytes or a path, for the functions below."""
    return Shown(image, digest(image))


def answer(run, image: Shown) -> Answer:
    """One answer of a finished Run, cached without its image (see `picture`)."""
    return _answered(run, image)[0]


def picture(run, image: Shown, name: str = "") -> None:
    """Shows an image that `answer` could read, within `BOX`; nothing for another."""
    _, encoded, (width, height) = _answered(run, image)
    if encoded:
        width = max(1, round(min(BOX[0], BOX[1] * width / height)))
        st.image(encoded, width=width, alt=words.printable(name) or "image")


def _answered(run, image):
    return _answer(str(run.path), _stamps(run), image.content, run, image.data)


# Enough for four pages of cards, with a second run's answers.
@st.cache_data(max_entries=60, show_spinner=False)
def _answer(path: str, stamps: tuple, content: str, _run, _data):
    """(the Answer, a JPEG of at most twice `BOX`, (width, height) of that JPEG)."""
    found = classifier(_run).predict([_data])[0]
    image, found.image = found.image, None
    if image is None:
        return found, b"", (0, 0)
    small = image.copy()
    small.thumbnail((2 * BOX[0], 2 * BOX[1]))  # sharp on a high-resolution screen too
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=92, subsampling=0)
    del image
    return_memory()  # a photo of 64 million pixels took hundreds of megabytes
    return found, encoded.getvalue(), small.size


def verdict(run, image: Shown) -> confidence.Verdict | None:
    """The cached verdict on the `answer` for an image.

    None if the run has no confidence data or the image could not be read.
    """
    # Stamps first: a verdict from files that are then replaced is not kept under the new stamps.
    stamps = (*_stamps(run), _stamp(run, "reference.npz"))
    known = certainty(run)
    if isinstance(known, str):
        return None
    return _verdict(str(run.path), stamps, image.content, coverage(), known, run, image)


# The distance to thousands of training images takes 10 ms.
@st.cache_data(max_entries=120, show_spinner=False)
def _verdict(path: str, stamps: tuple, content: str, share: float, _known, _run, _image):
    return _known.verdicts([answer(_run, _image)], share)[0]
