"""The frozen part of a stage, run once: features computed, kept, checked and handed to training.

Heavy: imports Keras. On a CPU the frozen part is converted for LiteRT, several times quicker there
than TensorFlow and equal to about 1e-5; on a GPU TensorFlow runs it. Decoding, resizing and the
forward pass of different images overlap.
"""

import contextlib
import math
import time
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

import keras
import numpy as np
import tensorflow as tf

from engine.features import cache
from engine.features import store as features
from engine.host.parallel import cores, ordered_map
from engine.images import augment
from engine.models import boundary, convert, litert, modeling

PROBE_IMAGES = 8
TOLERANCE = 1e-3
"""Largest difference in probability between the cached and the whole network that is accepted in
float32; LiteRT and TensorFlow differ by about 1e-5."""
HALF_TOLERANCE = 0.1
"""The same in mixed precision, where the whole network's own answers are rounded to 8 or 11 bits."""
GPU_BATCH = 64
LARGEST_RECORD = 4
"""A boundary is cached if its record is no larger than the pixels as float32, 4 bytes a value: a
larger one lies so early in the network that reading it costs more than computing it."""


@dataclass
class Cached:
    """A stage's features, ready to train on.

    Attributes:
        suffix: the part to train.
        views: views of each image.
        exact: whether these are all views there are.
        facts: plain data for the `stage_start` event: path, runtime, computed, known, bytes,
            seconds, images_per_second, conversion_seconds, difference.
    """

    suffix: keras.Model
    views: int
    exact: bool
    facts: dict
    _store: features.FeatureStore
    _rows: np.ndarray
    _shapes: list

    def close(self):
        """Lets the store be evicted."""
        self._store.close()

    def fetch(self, chosen, view=None):
        """Features of images, inside tf.data.

        Args:
            chosen: int64 tensor (b,), images of the dataset.
            view: int64 tensor (b,), the view of each (`engine.features.store.draw_views`); None for the
                plain ones.

        Returns:
            A float32 tensor (b, ...), or a tuple of them where the boundary has several.
        """

        def read(chosen, view):
            return self.read(chosen, view)

        view = tf.zeros_like(chosen) if view is None else view
        flat = tf.numpy_function(read, [chosen, view], tf.float32, stateful=False)
        parts = self.parts(flat, tf.reshape)
        return parts[0] if len(parts) == 1 else tuple(parts)

    def read(self, chosen, view) -> np.ndarray:
        """Records of images: float32 array (b, width)."""
        return self._store.read(self._rows[chosen] + view)

    def image(self, index) -> int:
        """An image's place in the store, which its random views are drawn from."""
        return int(self._rows[index]) // self._store.views

    def parts(self, flat, reshape=np.reshape) -> list:
        """Records taken apart into the boundary's tensors."""
        found, place = [], 0
        for shape in self._shapes:
            size = math.prod(shape)
            found.append(reshape(flat[:, place : place + size], (-1, *shape)))
            place += size
        return found


def prepare(bundle, recipe, number, dataset, pixels, split, home, report, keep_pixels=True):
    """Makes the features of a stage, as far as they are not there yet.

    Args:
        bundle: after `engine.models.modeling.apply_stage`.
        recipe, number: the recipe and the stage's index in it.
        dataset, pixels, split: the images.
        home: Graft's home.
        report: called with (phase, text, done, total); may raise to stop: what was computed stays.
        keep_pixels: whether a later stage needs the decoded pixels.

    Returns:
        (Cached, None), or (None, a sentence's end that says why the whole network runs).
    """
    stage = recipe.stages[number]
    why = features.why_not(recipe, stage.trainable)
    if why:
        return None, why
    part = boundary.cut(bundle)
    if part is None:
        return None, "the network cannot be cut there"
    count, exact = features.views(recipe)
    slots = features.layout(recipe)[0]
    if part.width > LARGEST_RECORD * recipe.image_size**2 * 3 // 4:
        return None, "what the frozen part gives takes more room than the images"
    rows = _rows_needed(dataset, split, slots)
    size = 4 * part.width * len(rows)
    if size > cache.limit(home):
        return None, (
            f"its features would take {size / 2**30:.1f} GiB, above the cache's limit of "
            f"{cache.limit(home) / 2**30:.1f} GiB"
        )
    begun = time.time()
    title = title_of(bundle, stage.trainable, recipe.image_size)
    runtime, run, network, closing = open_runtime(bundle, recipe, part, title, home, report)
    converted = time.time() - begun
    with contextlib.ExitStack() as undo:
        undo.callback(closing)
        store = open_store(home, recipe, dataset, part, network, runtime, title)
        undo.callback(store.close)
        borrowed = store.borrow(rows)
        missing = rows[~store.known(rows)]
        if not cache.make_room(home, 4 * part.width * len(missing), keep=store.path):
            return None, (
                f"its features need {4 * part.width * len(missing) / 2**30:.2f} GiB more, which the "
                "cache's limit or the free space on the disk does not allow"
            )
        pixels_of = _pixels_of(store, recipe, dataset, pixels, split, missing, keep_pixels)
        computed, seconds = fill(store, run, missing, pixels_of, recipe.image_size, report)
        places = _places(store, dataset, pixels, split, slots)
        cached = Cached(part.suffix, count, exact, {}, store, places, part.shapes)
        difference = _difference(cached, bundle, recipe, pixels, split["train"])
        cached.facts = {
            "path": "cached features",
            "runtime": runtime,
            "views": count,
            "exact": exact,
            "computed": computed,
            "known": len(rows) - len(missing),
            "borrowed": borrowed,
            "bytes": size,
            "seconds": seconds,
            "images_per_second": len(missing) / seconds if len(missing) else None,
            "conversion_seconds": converted,
            "difference": difference,
        }
        tolerance = TOLERANCE if keras.config.dtype_policy().name == "float32" else HALF_TOLERANCE
        if not difference <= tolerance:
            return None, (
                f"cached features gave probabilities that differ by {difference:.2g} from the whole "
                "network's"
            )
        # From here on the store is the caller's to close.
        undo.pop_all()
        closing()
        return cached, None


def _rows_needed(dataset, split, slots):
    """Rows of all training and validation images: every view of the former, the plain one of the
    latter."""
    order = np.unique(np.asarray(dataset.contents, dtype="S64"))
    place = np.searchsorted(order, np.asarray(dataset.contents, dtype="S64")) * slots
    train = place[split["train"]][:, None] + np.arange(slots)
    return np.unique(np.concatenate([train.ravel(), place[split["validation"]]]))


def _name(bundle) -> str:
    return f"{bundle.name} {bundle.alpha:g}" if bundle.alpha else bundle.name


def title_of(bundle, trainable: str, size: int) -> str:
    """A frozen part for people: "MobileNetV2 0.35 frozen, 224 px"."""
    words = "frozen" if trainable == "none" else f"frozen below {trainable}"
    return f"{_name(bundle)} {words}, {size} px"


def open_store(home, recipe, dataset, part, network, runtime, title) -> features.FeatureStore:
    """The store of a frozen part's features over a dataset.

    Args:
        recipe: resize, augmentation, cached_views and seed are read (`engine.features.store.layout`).
        part: the Cut.
        network, runtime: of `open_runtime`.
        title: of `title_of`.
    """
    slots, drawn = features.layout(recipe)
    identity = {
        "title": f"{dataset.title}, {title}",
        "network": network,
        "runtime": runtime,
        "resize": recipe.resize,
    }
    return features.FeatureStore(
        home, identity | drawn, dataset.contents, dataset.fingerprint, slots, part.width
    )


# -- the runtime ------------------------------------------------------------------------------


def network_key(bundle, part, pooling) -> str:
    """Hash of everything that decides what a frozen part gives for given pixels: the backbone, its
    weights, the boundary, the image size, preprocessing, pooling, and Keras' version."""
    identity = sha256()
    for value in (
        bundle.name, bundle.alpha, bundle.preprocessing, bundle.image_size, part.place, part.shapes,
        pooling if part.place == () else None, keras.__version__, tf.__version__,
    ):  # fmt: skip
        identity.update(repr(value).encode())
    for weight in part.prefix.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        identity.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    return identity.hexdigest()


def open_runtime(bundle, recipe, part, title, home, report):
    """What computes features here.

    Args:
        bundle: the built model; recipe: its head is read.
        part: the Cut, whose prefix is run.
        title: of `title_of`.
        home: Graft's home, where a converted network is kept.
        report: called with (phase, text, done, total).

    Returns:
        (its name, a function from an iterable of pixels to an iterator of flat records, the
        network's hash, a function that gives it up).
    """
    network = network_key(bundle, part, recipe.head.pooling)
    if tf.config.list_physical_devices("GPU"):
        name = f"TensorFlow, {keras.config.dtype_policy().name}"
        return name, lambda images: _in_batches(part.prefix, images), network, lambda: None
    path, lock = cache.acquire(
        home,
        "networks",
        {"title": title, "network": network, "runtime": "litert"},
    )
    model = path / "network.tflite"
    if not model.exists():
        report("features", "Converting the frozen part for this host, once", 0, None)
        convert.to_litert(_float32_prefix(bundle, recipe, part), model)
    interpreter = litert.Network(model)

    def run(images):
        def one(values):
            return np.concatenate([output.ravel() for output in interpreter(values())])

        return ordered_map(one, images, interpreter.threads)

    return "LiteRT, float32", run, network, lock.close


def _float32_prefix(bundle, recipe, part):
    """The frozen part computing in float32: what LiteRT runs, whatever the stage trains in."""
    policy = keras.config.dtype_policy().name
    if policy == "float32":
        return part.prefix
    keras.config.set_dtype_policy("float32")
    try:
        return boundary.cut(modeling.rebuilt(bundle, recipe.head), part.place).prefix
    finally:
        keras.config.set_dtype_policy(policy)


def _in_batches(prefix, images):
    """Runs a Keras model over an iterator of functions that give pixels; decoding runs ahead."""
    forward = tf.function(lambda x: keras.tree.flatten(prefix(x, training=False)))
    decoded = ordered_map(lambda values: values(), images, cores())
    while batch := list(islice(decoded, GPU_BATCH)):
        values = np.stack(batch).astype(np.float32)
        values = np.concatenate([values, np.zeros((GPU_BATCH - len(batch), *values.shape[1:]))])
        outputs = [np.asarray(o, np.float32) for o in forward(tf.constant(values, tf.float32))]
        for i in range(len(batch)):
            yield np.concatenate([output[i].ravel() for output in outputs])


# -- the pass ---------------------------------------------------------------------------------


def _view(values, recipe, view, exact, place):
    """One view of an image: uint8 array (size, size, 3)."""
    if view == 0:
        return values
    if exact:
        values = values[:, ::-1] if view & 1 else values
        return values[::-1] if view & 2 else values
    drawn = augment.draw(recipe.augmentation, 1, [recipe.seed, 7919, place, view])
    return augment.apply(values, drawn[0])


def _pixels_of(store, recipe, dataset, pixels, split, missing, keep):
    """A function that gives the pixels of a missing row's image and view, or None."""
    slots, exact = store.views, features.views(recipe)[1]
    images = np.zeros(int(missing.max()) // slots + 1 if len(missing) else 0, np.int64)
    used = np.concatenate([split["train"], split["validation"]])
    rows = store.rows(dataset.contents[used]) // slots
    images[rows[rows < len(images)]] = used[rows < len(images)]

    def pixels_of(row):
        found = pixels.own(int(images[row // slots]), keep)
        return None if found is None else _view(found, recipe, row % slots, exact, row // slots)

    return pixels_of


def fill(store, run, missing, pixels_of, size, report) -> tuple[int, float]:
    """Computes missing records; returns (how many, seconds).

    An image that can no longer be read gets none: another one's features under its content's hash
    would be believed by every later run.

    Args:
        store: the FeatureStore.
        run: of `open_runtime`.
        missing: int64 array, rows of the store.
        pixels_of: gives a row's pixels, uint8 array (size, size, 3), or None if its image cannot be
            read; called in threads.
        size: of the images.
        report: called with (phase, text, done, total); may raise to stop: what was computed stays.
    """
    order, lost = missing.tolist(), set()

    def ask(row):
        def values():
            found = pixels_of(row)
            if found is None:
                lost.add(row)  # before its record, which is thrown away, comes out
                return np.zeros((size, size, 3), np.uint8)
            return found

        return values

    begun = time.time()
    for done, (row, record) in enumerate(zip(order, run(map(ask, order)), strict=True), 1):
        if row not in lost:
            store.write(row, record)
        if done % 16 == 0 or done == len(order):
            report("features", "Computing features, once for all epochs", done, len(order))
    return len(order) - len(lost), time.time() - begun


def _places(store, dataset, pixels, split, slots) -> np.ndarray:
    """First row of each image, int64 array; of an image without records, that of the next one of
    its class and part that has them (`engine.data.unreadable`).

    What the store holds decides, not what this process could read: so it comes out the same when the
    run is taken up.
    """
    rows = store.rows(dataset.contents)
    places = rows.copy()
    for part, views in (("train", slots), ("validation", 1)):
        indices = split[part]
        there = np.zeros(len(dataset), bool)
        there[indices] = store.known(rows[indices][:, None] + np.arange(views)).all(axis=1)
        for index in indices[~there[indices]].tolist():
            peer = next((p for p in pixels.unreadable.peers(index) if there[p]), None)
            if peer is None:
                pixels.unreadable.none_left(index)
            places[index] = rows[peer]
    return places


def _difference(cached, bundle, recipe, pixels, train) -> float:
    """Largest difference in probability between cached features and the whole network, on a few
    training images, and their last view."""
    step = max(1, len(train) // PROBE_IMAGES)
    # Evenly spread ones first; further ones only in the place of those that can no longer be read.
    order = np.concatenate([train[begin::step] for begin in range(step)]).tolist()
    readable = ((i, found) for i in order if (found := pixels.own(i)) is not None)
    probes = dict(islice(readable, PROBE_IMAGES))
    if not probes:
        pixels.unreadable.give_up("no training image can be read any more")
    slots = cached.views if cached.exact else cached.views + 1
    values = [
        _view(found, recipe, slots - 1, cached.exact, cached.image(i))
        for i, found in probes.items()
    ]
    whole = bundle.model(np.stack(values).astype(np.float32), training=False)
    parts = cached.parts(cached.read(np.array(list(probes)), slots - 1))
    ours = cached.suffix(parts[0] if len(parts) == 1 else parts, training=False)
    return float(np.abs(np.asarray(whole, np.float32) - np.asarray(ours, np.float32)).max())
