"""Trial steps of a stage: their time and memory. Part of the preflight.

Heavy: imports TensorFlow. Steps run through `fit`, compiled and fed as in a run, with random pixels
in place of decoded ones. The batch size is unknown to the graph, so it is traced once; small
batches come first and show how memory grows before the real one is tried.
"""

from __future__ import annotations

import time

import keras
import numpy as np
import tensorflow as tf

from engine.estimate import memory
from engine.features.compute import Cached
from engine.models import modeling, optimizers
from engine.recipe import Recipe
from engine.train import input_pipeline

MOST_SECONDS, MOST_STEPS = 5, 5
"""The real batch is timed for at most this long; it ends earlier after this many steps and 1 s."""
SHARE = 0.9
"""Share of the free memory that a run may plan with: the memory of other processes varies."""
TOO_MUCH = (MemoryError, tf.errors.ResourceExhaustedError)


class Clock(keras.callbacks.Callback):
    """Records the end of each batch, and ends a fit after enough of them.

    Args:
        steps: to take; None for as many as `MOST_SECONDS` and `MOST_STEPS` allow.

    Attributes:
        marks: seconds of the beginning and of each batch's end.
    """

    def __init__(self, steps: int | None = None):
        super().__init__()
        self._steps, self.marks = steps, list[float]()

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Starts the clock."""
        self.marks = [time.perf_counter()]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Records a step."""
        self.marks.append(time.perf_counter())
        if self.enough():
            self.model.stop_training = True

    def enough(self) -> bool:
        """Whether enough steps were taken; the first is a warm-up."""
        spent, count = self.marks[-1] - self.marks[0], len(self.marks) - 2
        if self._steps is not None:
            return count + 1 >= self._steps
        return spent >= MOST_SECONDS or (count >= MOST_STEPS and spent >= 1)

    @property
    def first(self) -> float:
        """Seconds to the end of the first batch."""
        return self.marks[1] - self.marks[0]

    def an_image(self, images: int, batch: int) -> float:
        """Seconds for an image, without the first batch if there are more.

        Args:
            images: in an epoch, whose last batch holds the rest.
            batch: images in a batch.
        """
        a_pass = -(-images // batch)
        sizes = [
            batch if (i + 1) % a_pass or not images % batch else images % batch
            for i in range(len(self.marks) - 1)
        ]
        skip = 1 if len(sizes) > 1 else 0
        return (self.marks[-1] - self.marks[skip]) / sum(sizes[skip:])


class RandomPixels:
    """Replaces `engine.features.pixels.Pixels` where nothing needs to be decoded."""

    def __init__(self, count: int, size: int):
        self._array = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)

    def get(self, indices: np.ndarray) -> np.ndarray:
        """uint8 array (n, size, size, 3), a copy like the real one."""
        return self._array[np.arange(len(indices)) % len(self._array)]


class Trial:
    """A stage, compiled as in training, to take steps of.

    Args:
        bundle: after `engine.models.modeling.apply_stage`; training changes its weights, and the
            caller restores them.
        recipe, number: the recipe and the stage's index in it.
        split, labels: of the dataset.
        cached: features with any records, or None for the whole network.
    """

    def __init__(
        self,
        bundle: modeling.Bundle,
        recipe: Recipe,
        number: int,
        split: dict[str, np.ndarray],
        labels: np.ndarray,
        cached: Cached | None,
    ):
        self.bundle, self.recipe, self.number = bundle, recipe, number
        self.split, self.labels, self.cached = split, labels, cached
        self.stage, self.train = recipe.stages[number], split["train"]
        self.model = cached.suffix if cached else bundle.model
        self._classes = bundle.model.output_shape[-1]
        self._weights = None if recipe.class_weights == "none" else np.ones(self._classes)
        self.full = min(recipe.batch_size, len(self.train))
        self._pixels = RandomPixels(self.full, recipe.image_size)
        steps = -(-len(self.train) // recipe.batch_size)
        optimizers.compile_(self.model, self.stage, steps, recipe.head.label_smoothing)

    def _with_batch(self, batch: int) -> Recipe:
        """The recipe in batches of another size, with enough epochs that the data never ends."""
        stages = [s.model_copy(update={"epochs": 10_000}) for s in self.recipe.stages]
        return self.recipe.model_copy(update={"batch_size": batch, "stages": tuple(stages)})

    def _examples(
        self, indices: np.ndarray, weights: np.ndarray | None = None
    ) -> input_pipeline.Examples:
        return input_pipeline.Examples(
            self._pixels, indices, self.labels, self._classes, weights, self.cached
        )

    def fit(self, batch: int, steps: int | None = None) -> Clock:
        """Takes training steps with batches of a size."""
        examples = self._examples(self.train, self._weights)
        data = input_pipeline.training_batches(examples, self._with_batch(batch), self.number)
        clock = Clock(steps)
        self.model.fit(data, steps_per_epoch=10_000, epochs=1, verbose=0, callbacks=[clock])
        return clock

    def evaluate(self, batch: int) -> tuple[float, float]:
        """(seconds of tracing, seconds of a whole validation pass)."""
        indices = self.split["validation"]
        data = input_pipeline.evaluation_batches(self._examples(indices), self._with_batch(batch))
        total = -(-len(indices) // batch)
        first = _timed(self.model, data, 1)
        # The passes that follow are timed as a whole: starting one takes some time too.
        one = max(1e-4, _timed(self.model, data, 1))
        count = int(np.clip(MOST_SECONDS / 2 / one, 1, total))
        whole = _timed(self.model, data, count) if count > 1 else one
        return max(0.0, first - one), whole * total / count

    def overhead(self) -> float:
        """Seconds for hashing what is frozen before and after a run's fit, and for copying the
        weights after each epoch."""
        begun = time.perf_counter()
        modeling.frozen_digests(self.bundle)
        digests, begun = time.perf_counter() - begun, time.perf_counter()
        self.bundle.model.get_weights()
        return 2 * digests + self.stage.epochs * (time.perf_counter() - begun)


def measure(trial: Trial, room: float, held: float) -> dict:
    """Takes trial steps of a stage.

    Args:
        trial: the stage.
        room: MiB that a run may take.
        held: MiB that a run holds besides what is measured here.

    Returns:
        A dict: setup_seconds, step_seconds, epoch_seconds (with validation), images_per_second,
        peak_memory_mb, host_memory_mb, validation_setup_seconds, validation_image_seconds,
        proposed_batch_size (int or None).

    Raises:
        MemoryError or ResourceExhaustedError: if not even the smallest batch can be computed.
    """
    full, images = trial.full, len(trial.train)
    small = max(1, full // 4)
    points: list[tuple[int, float]] = []
    setup, an_image, refused, failed = 0.0, 0.0, False, False
    for batch in sorted({max(1, small // 4), small, full}):
        # Two points show how memory grows.
        if len(points) > 1 and memory.grown(points, batch) + held > SHARE * room:
            refused = True
            break
        memory.reset_peak()
        try:
            clock = trial.fit(batch, None if batch == full else 2)
        except TOO_MUCH:
            if not points:
                raise
            refused = failed = True
            break
        an_image = clock.an_image(images, batch)
        if not points and len(clock.marks) > 2:
            setup = clock.first - batch * an_image
        points.append((batch, memory.peak_mb()))
    proposed = None
    if refused:
        # After a failure, memory does not grow as expected, so half is the first guess.
        limit = full // 2 if failed else full - 1
        proposed = memory.largest_batch(points, SHARE * room - held, max(1, limit))
    peak = max(p for _, p in points)
    if refused and len(points) > 1:
        peak = memory.grown(points, full)
    first, validation = trial.evaluate(points[-1][0])
    return {
        "setup_seconds": max(0.0, setup) + first + trial.overhead(),
        "step_seconds": full * an_image,
        "epoch_seconds": images * an_image + validation,
        "images_per_second": 1 / an_image,
        "peak_memory_mb": peak,
        "host_memory_mb": memory.host_peak_mb() if memory.on_gpu() else peak,
        "validation_setup_seconds": first,
        "validation_image_seconds": validation / max(1, len(trial.split["validation"])),
        "proposed_batch_size": proposed,
    }


def _timed(model: keras.Model, data: tf.data.Dataset, steps: int) -> float:
    begun = time.perf_counter()
    model.evaluate(data, steps=steps, verbose=0)
    return time.perf_counter() - begun
