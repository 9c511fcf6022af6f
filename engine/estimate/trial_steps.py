"""Trial steps of a stage: how long one takes, and how much memory. Part of the preflight.

Heavy: imports TensorFlow. Steps run through `fit`, on the very input pipeline of a run, with random
pixels in the place of decoded ones. The batch size is unknown to the graph, so it is traced once;
small batches come first, and tell how memory grows before the real one is tried.
"""

import contextlib
import subprocess
import time
from pathlib import Path

import keras
import numpy as np
import psutil
import tensorflow as tf

from engine.host import device
from engine.models import modeling
from engine.train import input_pipeline

MOST_SECONDS, MOST_STEPS = 5, 5
"""The real batch is timed for so long at most; it ends earlier after so many steps and a second."""
SHARE = 0.9
"""Of the free memory that a run may plan with: other processes move, and so do allocators."""
TOO_MUCH = (MemoryError, tf.errors.ResourceExhaustedError)


class Clock(keras.callbacks.Callback):
    """Notes the end of each batch, and ends a fit or an evaluation after enough of them.

    Attributes:
        marks: seconds of the beginning and of each batch's end.
    """

    def __init__(self, steps=None, seconds=MOST_SECONDS):
        super().__init__()
        self._steps, self._seconds, self.marks = steps, seconds, []

    def on_train_begin(self, logs=None):
        self.marks = [time.perf_counter()]

    def on_train_batch_end(self, batch, logs=None):
        self.marks.append(time.perf_counter())
        if self.enough():
            self.model.stop_training = True

    def enough(self) -> bool:
        """Whether there are as many steps as wanted; the first is a warm-up."""
        spent, count = self.marks[-1] - self.marks[0], len(self.marks) - 2
        if self._steps is not None:
            return count + 1 >= self._steps
        return spent >= self._seconds or (count >= MOST_STEPS and spent >= 1)

    @property
    def first(self) -> float:
        """Seconds to the end of the first batch."""
        return self.marks[1] - self.marks[0]

    def an_image(self, images: int, batch: int) -> float:
        """Seconds an image, without the first batch if there are more.

        Args:
            images: in an epoch, whose last batch holds what is left.
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
    """Stands for `engine.train.input_pipeline.Pixels` where nothing needs to be decoded."""

    def __init__(self, count, size):
        self._array = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)

    def get(self, indices):
        """uint8 array (n, size, size, 3), a copy like the real one."""
        return self._array[np.arange(len(indices)) % len(self._array)]


def measure(bundle, recipe, number, split, labels, cached, room, held) -> dict:
    """Takes trial steps of a stage; the network's weights change, and are the caller's to restore.

    Args:
        bundle: after `engine.models.modeling.apply_stage`.
        recipe, number: the recipe and the stage's index in it.
        split, labels: of the dataset.
        cached: an `engine.features.compute.Cached` with any records, or None for the whole network.
        room: MiB that a run may take.
        held: MiB that a run holds besides what is measured here.

    Returns:
        A dict: setup_seconds, step_seconds, epoch_seconds (with validation), images_per_second,
        peak_memory_mb, host_memory_mb, validation_setup_seconds, validation_image_seconds,
        proposed_batch_size (int or None).

    Raises:
        MemoryError or ResourceExhaustedError: if not even the smallest batch can be computed.
    """
    stage, train = recipe.stages[number], split["train"]
    classes = bundle.model.output_shape[-1]
    model = cached.suffix if cached else bundle.model
    full = min(recipe.batch_size, len(train))
    small = max(1, full // 4)
    tiny = max(1, small // 4)
    pixels = RandomPixels(full, recipe.image_size)
    per_epoch = -(-len(train) // recipe.batch_size)
    model.compile(
        optimizer=modeling.optimizer(stage, per_epoch),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.head.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    weights = None if recipe.class_weights == "none" else np.ones(classes)

    def with_batch(batch):
        # Epochs enough that the data never runs out.
        endless = [s.model_copy(update={"epochs": 10_000}) for s in recipe.stages]
        return recipe.model_copy(update={"batch_size": batch, "stages": tuple(endless)})

    def fit(batch, steps=None):
        data = input_pipeline.training_batches(
            pixels, train, labels, classes, with_batch(batch), number, 0, weights, cached
        )
        clock = Clock(steps)
        model.fit(data, steps_per_epoch=10_000, epochs=1, verbose=0, callbacks=[clock])
        return clock

    points, setup, an_image, refused, failed = [], None, None, False, False
    for batch in sorted({tiny, small, full}):
        # From two points on it is known how memory grows.
        if len(points) > 1 and grown(points, batch) + held > SHARE * room:
            refused = True
            break
        reset_peak()
        try:
            clock = fit(batch, None if batch == full else 2)
        except TOO_MUCH:
            if not points:
                raise
            refused = failed = True
            break
        points.append((batch, peak_mb()))
        an_image = clock.an_image(len(train), batch)
        if setup is None:
            setup = clock.first - batch * an_image if len(clock.marks) > 2 else 0.0
    proposed = None
    if refused:
        # After a failure, memory does not grow as thought, and half is the first guess.
        limit = full // 2 if failed else full - 1
        proposed = largest_batch(points, SHARE * room - held, max(1, limit))
    peak = grown(points, full) if refused and len(points) > 1 else max(p for _, p in points)
    host = host_peak_mb() if on_gpu() else peak
    measured = points[-1][0]
    first, validation = _evaluate(
        model, pixels, split["validation"], labels, classes, with_batch(measured), cached
    )
    # A run also hashes what is frozen before and after, and copies the weights after each epoch.
    begun = time.perf_counter()
    modeling.frozen_digests(bundle)
    digests, begun = time.perf_counter() - begun, time.perf_counter()
    bundle.model.get_weights()
    copies = stage.epochs * (time.perf_counter() - begun)
    return {
        "setup_seconds": max(0.0, setup) + first + 2 * digests + copies,
        "step_seconds": full * an_image,
        "epoch_seconds": len(train) * an_image + validation,
        "images_per_second": 1 / an_image,
        "peak_memory_mb": peak,
        "host_memory_mb": host,
        "validation_setup_seconds": first,
        "validation_image_seconds": validation / max(1, len(split["validation"])),
        "proposed_batch_size": proposed,
    }


def _evaluate(model, pixels, indices, labels, classes, recipe, cached):
    """(seconds of tracing, seconds of a whole validation pass)."""
    data = input_pipeline.evaluation_batches(pixels, indices, labels, classes, recipe, cached)
    total = -(-len(indices) // recipe.batch_size)
    begun = time.perf_counter()
    model.evaluate(data, steps=1, verbose=0)
    first = time.perf_counter() - begun
    # The passes that follow are timed as a whole: beginning one costs something, too.
    one = max(1e-4, _timed(model, data, 1))
    count = int(np.clip(MOST_SECONDS / 2 / one, 1, total))
    whole = _timed(model, data, count) if count > 1 else one
    return max(0.0, first - one), whole * total / count


def _timed(model, data, steps) -> float:
    begun = time.perf_counter()
    model.evaluate(data, steps=steps, verbose=0)
    return time.perf_counter() - begun


# -- memory -------------------------------------------------------------------------------------


def grown(points, batch: int) -> float:
    """Memory of a batch on the straight line through what was measured.

    Args:
        points: two or more (batch, MiB), growing; the last two count.
        batch: how many images.
    """
    (a, low), (b, high) = points[-2:]
    return high + max(0.0, (high - low) / (b - a)) * (batch - b)


def largest_batch(points, room: float, limit: int) -> int:
    """The largest power of two, up to `limit`, whose memory fits; 1 if none does.

    Args:
        points: (batch, MiB) that were measured, growing.
        room: MiB.
        limit: 1 or more.
    """
    fitting, batch = 1, 2
    while batch <= limit and (len(points) < 2 or grown(points, batch) <= room):
        fitting, batch = batch, 2 * batch
    return fitting


def on_gpu() -> bool:
    """Whether batches live in a GPU's memory."""
    return bool(tf.config.list_physical_devices("GPU"))


def reset_peak() -> None:
    """Begins a new measurement of the highest memory."""
    # Where the system does not allow it, the highest so far counts: too much rather than too little.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if on_gpu():
        tf.config.experimental.reset_memory_stats("GPU:0")


def peak_mb() -> float:
    """The most memory taken since `reset_peak`, MiB: of the GPU, or of this process on the host."""
    if on_gpu():
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return host_peak_mb()


def host_peak_mb() -> float:
    """The most resident memory of this process since `reset_peak`, MiB."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return device.peak_memory_mb()


def available_mb() -> float:
    """MiB that a run may take: free now, or held by this probe, which will have ended by then."""
    if on_gpu():
        own = tf.config.experimental.get_memory_info("GPU:0")["current"] / 2**20
        query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        try:
            answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
            return float(answer.stdout.split()[0]) + own
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return float(device.describe()["memory_mb"])  # no such tool: all that the GPU has
    own = psutil.Process().memory_info().rss
    free = [psutil.virtual_memory().available]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            cached = _cached_files(Path(limit).parent / "memory.stat")
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()) + cached)
    return (min(free) + own) / 2**20


def _cached_files(path: Path) -> int:
    """Bytes of file cache that a control group gives back when asked."""
    for line in path.read_text().splitlines():
        name, value = line.split()
        if name in ("total_inactive_file", "inactive_file"):
            return int(value)
    return 0
