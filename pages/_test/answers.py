"""What the views of the Test page share: classifiers and their certainty, kept by the server."""

import hashlib
import io
from dataclasses import dataclass

import streamlit as st

from engine.errors import GraftError
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
"""An image is shown no larger, so that cards line up; in pixels."""


def coverage() -> float:
    """The coverage that the user chose on the tab about certainty."""
    return st.session_state.get("coverage", round(100 * confidence.COVERAGE)) / 100


def classifier(run) -> Classifier:
    """The classifier of a run, shared by all sessions."""
    return _classifier(str(run.path), _stamps(run), run)


def certainty(run) -> confidence.Confidence | str:
    """What a run knows of its certainty, shared by all sessions; or a sentence, if it knows nothing."""
    try:
        return _certainty(
            str(run.path), _stamp(run, calibration.FILE), _stamp(run, "reference.npz"), run
        )
    except GraftError as error:
        return str(error)


def say_if_uncertain(run) -> None:
    """One line if the run knows nothing of its certainty."""
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
    """What decides answers: the network, and the temperature."""
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
        content: its `digest`, worked out once: an upload may be large.
    """

    data: object
    content: str


def shown(image) -> Shown:
    """An image, bytes or a path, for the functions below."""
    return Shown(image, digest(image))


def answer(run, image: Shown) -> Answer:
    """One answer of a finished Run, kept so that a rerun does not classify again; its image is not
    (`picture`)."""
    return _answered(run, image)[0]


def picture(run, image: Shown, name: str = "") -> None:
    """Shows an image that `answer` could read, within `BOX`; nothing for another."""
    _, encoded, (width, height) = _answered(run, image)
    if encoded:
        width = max(1, round(min(BOX[0], BOX[1] * width / height)))
        st.image(encoded, width=width, alt=name or "image")


def _answered(run, image):
    return _answer(str(run.path), _stamps(run), image.content, run, image.data)


# Four pages of cards and a second run's.
@st.cache_data(max_entries=60, show_spinner=False)
def _answer(path: str, stamps: tuple, content: str, _run, _data):
    """(the Answer, a picture of at most twice `BOX` as JPEG, width and height of that)"""
    found = classifier(_run).predict([_data])[0]
    image, found.image = found.image, None
    if image is None:
        return found, b"", (0, 0)
    small = image.copy()
    small.thumbnail((2 * BOX[0], 2 * BOX[1]))  # sharp on a dense screen too
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=92, subsampling=0)
    del image
    return_memory()  # a photo of 64 million pixels took hundreds of megabytes
    return found, encoded.getvalue(), small.size


def verdict(run, image: Shown) -> confidence.Verdict | None:
    """What may be said of the `answer` for an image, kept too; None where the run knows nothing of its
    certainty, or the image could not be read."""
    # Stamps first: a verdict by what is replaced meanwhile is not kept under the new name.
    stamps = (*_stamps(run), _stamp(run, "reference.npz"))
    known = certainty(run)
    if isinstance(known, str):
        return None
    return _verdict(str(run.path), stamps, image.content, coverage(), known, run, image)


# The distance to thousands of training images takes 10 ms.
@st.cache_data(max_entries=120, show_spinner=False)
def _verdict(path: str, stamps: tuple, content: str, share: float, _known, _run, _image):
    return _known.verdicts([answer(_run, _image)], share)[0]
