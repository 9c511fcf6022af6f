"""A finished run, ready to predict, without TensorFlow.

The run's inference model runs in LiteRT, which starts in a moment. The page, the command line and
the published evaluation all use this module, so they give the same answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from engine.errors import DamagedFile, DamagedModel, ImageError, RunError
from engine.host.parallel import cores, ordered_map
from engine.host.words import printable
from engine.images import decode
from engine.predict import calibration
from engine.runs import files

if TYPE_CHECKING:
    from engine.runs.runs import Run

Source = bytes | str | Path | Image.Image
"""An image to classify: encoded bytes, a path, or a PIL image."""
OFF = 0.01
"""How far probabilities may be from adding up to 1; rounding is a thousandth of that."""


@dataclass
class Answer:
    """The classifier's answer for one image.

    Attributes:
        name: the file's name, or "image 1", "image 2", …
        classes: class names.
        probabilities: float32 array (classes,), adding up to 1, after temperature scaling
            (`engine.predict.calibration`); empty on error.
        features: float32 array (features,), the pooled vector the head sees; empty on error.
        feature_map: float32 array (height, width, features) before pooling; empty unless asked for.
        image: the decoded image, a PIL image of mode RGB, upright; None on error, or if not kept.
        seconds: from bytes to probabilities.
        error: one sentence, or None.
    """

    name: str
    classes: list[str]
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    features: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    feature_map: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    image: Image.Image | None = None
    seconds: float = 0.0
    error: str | None = None

    def top(self, k: int = 3) -> list[tuple[str, float]]:
        """The k most probable classes, best first: (label, probability 0 to 1)."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]


class Classifier:
    """Predicts with a finished run; decodes, resizes and preprocesses the images itself.

        answers = Classifier(run).predict(["photo.jpg"])
        answers[0].top(3)

    Args:
        run: a finished Run.
        threads: images classified at once; by default, one for each core.

    Raises:
        RunError: if the run has no model, or its calibration is damaged.
        DamagedModel: if the model file is damaged. Every method that predicts raises it too, if the
            model gives no probabilities.

    Attributes:
        run, threads: as given.
        classes: class names.
        size: side of the network's square input, pixels.
        resize: how images are resized to it (`decode.to_pixels`).
        temperature: for temperature scaling; 1 for a run that was never calibrated.
    """

    def __init__(self, run: Run, threads: int | None = None):
        try:
            model, architecture = run.checked(files.LITERT), run.architecture
        except DamagedFile as error:
            raise DamagedModel(run.id, f"{error.path.name}: {error.why}") from None
        if not model.exists():
            raise RunError(
                f"run {run.id} has no model to predict with (status: {run.status}); choose a "
                "finished run"
            )
        from engine.models.litert import Network

        if not architecture:
            raise DamagedModel(run.id, f"{files.ARCHITECTURE} is missing")
        self.run = run
        self.classes = list(architecture["classes"])
        self.size = architecture["image_size"]
        self.resize = run.recipe.resize
        self.temperature = calibration.temperature_of(run)
        self.threads = threads or cores()
        try:
            self._network = Network(model, self.threads)
        except (ValueError, RuntimeError) as error:
            raise DamagedModel(run.id, str(error)) from None

    def predict(
        self,
        sources: Iterable[Source],
        progress: Callable[[int], object] | None = None,
        keep_images: bool = True,
    ) -> list[Answer]:
        """Classifies images.

        Args:
            sources: bytes, paths or PIL images.
            progress: called with the number done so far.
            keep_images: whether answers hold the decoded images; thousands of photos would fill the
                memory.

        Returns:
            One Answer for each, in order; one that cannot be read has an `error` instead of
            probabilities.
        """
        answers = []
        for answer in self.stream(sources, keep_images):
            answers.append(answer)
            if progress:
                progress(len(answers))
        return answers

    def stream(
        self, sources: Iterable[Source], keep_images: bool = False, keep_maps: bool = False
    ) -> Iterator[Answer]:
        """Yields an Answer for each image, in order; memory does not grow with their number.

        Args:
            sources, keep_images: as for `predict`.
            keep_maps: whether answers hold the feature map, which explanations need.
        """

        def one(numbered):
            answer = self._answer(numbered, keep_maps)
            if not keep_images:
                answer.image = None
            return answer

        return ordered_map(one, enumerate(sources, 1), self.threads)

    def outputs(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs the network on prepared pixels.

        Args:
            pixels: uint8 or float array (size, size, 3), 0 to 255.

        Returns:
            probabilities (classes,) before temperature scaling, features (features,) and feature
            map (height, width, channels), all float32.

        Raises:
            DamagedModel: if the network fails, or its output is no probabilities.
        """
        try:
            probabilities, features, feature_map = self._network(pixels)
        except (ValueError, RuntimeError) as error:
            why = str(error).strip() or "it does not run"
            raise DamagedModel(self.run.id, f"{files.LITERT}: {why}") from None
        # Comparisons with what is not a number are false.
        if (
            probabilities.shape != (len(self.classes),)
            or not ((probabilities >= 0) & (probabilities <= 1 + OFF)).all()
            or not abs(float(probabilities.sum()) - 1) <= OFF
            or not np.isfinite(features).all()
        ):
            raise DamagedModel(
                self.run.id, f"{files.LITERT}: its answers are not probabilities that add up to 1"
            )
        return probabilities, features, feature_map

    def probabilities(self, sources: Iterable[Source]) -> np.ndarray:
        """Class probabilities alone; memory does not grow with the size of the images.

        Args:
            sources: bytes, paths or PIL images.

        Returns:
            float32 array (n, classes).

        Raises:
            ImageError: for the first image that cannot be read.
        """

        def one(source):
            return self.outputs(decode.load(source, self.size, self.resize))[0]

        rows = list(ordered_map(one, sources, self.threads))
        return calibration.scaled(
            np.array(rows, np.float32).reshape(-1, len(self.classes)), self.temperature
        )

    def _answer(self, numbered, keep_map=False) -> Answer:
        number, source = numbered
        is_path = isinstance(source, (str, Path))
        answer = Answer(printable(str(source)) if is_path else f"image {number}", self.classes)
        begun = time.perf_counter()
        try:
            answer.image = decode.read(source)
        except ImageError as error:
            answer.error = str(error)
        else:
            pixels = decode.to_pixels(answer.image, self.size, self.resize)
            probabilities, answer.features, feature_map = self.outputs(pixels)
            answer.probabilities = calibration.scaled(probabilities, self.temperature)
            if keep_map:
                answer.feature_map = feature_map
        answer.seconds = time.perf_counter() - begun
        return answer
