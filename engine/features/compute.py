"""The frozen part of a stage, run once: features computed, kept, checked and given to training.

Heavy: imports Keras. Decoding, resizing and the forward pass of different images overlap.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from engine.data.prepared import Dataset
from engine.features import cache
from engine.features import store as features
from engine.features.pixels import Pixels
from engine.features.runtime import Runtime, open_runtime, title_of
from engine.host.log import PhaseReport
from engine.images import augment, depth
from engine.models import boundary
from engine.models.modeling import Bundle
from engine.recipe import Recipe

PROBE_IMAGES = 8
TOLERANCE = 1e-3
"""Largest accepted difference in probability between the cached and the whole network in float32;
LiteRT and TensorFlow differ by about 1e-5."""
HALF_TOLERANCE = 0.1
"""The same in mixed precision, where the whole network's answers are rounded to 8 or 11 bits."""
LARGEST_RECORD = 4
"""A boundary is cached if its record is no larger than the pixels as float32, 4 bytes a value: a
larger one lies so early in the network that reading it costs more than computing it."""

Split = dict[str, np.ndarray]
"""Indices of the images in each part: "train" and "validation" are read here."""


@dataclass(frozen=True)
class Images:
    """The images that a stage's features are computed of.

    Attributes:
        dataset: holds them.
        pixels: decodes those of the training and validation parts.
        split: indices of the images in each part.
        keep: whether the decoded pixels are kept, for a stage that needs them later.
    """

    dataset: Dataset
    pixels: Pixels
    split: Split
    keep: bool = True


@dataclass
class Cached:
    """A stage's features, ready to train on.

    Attributes:
        suffix: the part to train.
        views: number of views of each image.
        exact: whether these are all possible views.
        facts: plain data for the `stage_start` event: path, runtime, views, exact, computed, known,
            borrowed, bytes, seconds, images_per_second, conversion_seconds, difference.
        store: holds the features.
    """

    suffix: keras.Model
    views: int
    exact: bool
    facts: dict
    store: features.FeatureStore
    _rows: np.ndarray
    _shapes: list[tuple[int, ...]]

    def close(self) -> None:
        """Releases the store, which may then be evicted."""
        self.store.close()

    def fetch(self, chosen: tf.Tensor, view: tf.Tensor | None = None):
        """Features of images, inside tf.data.

        Args:
            chosen: int64 tensor (b,), images of the dataset.
            view: int64 tensor (b,), the view of each (`engine.features.store.draw_views`); None for
                the plain ones.

        Returns:
            A float32 tensor (b, ...), or a tuple of them where the boundary has several.
        """

        def read(chosen, view):
            return self.read(chosen, view)

        view = tf.zeros_like(chosen) if view is None else view
        flat = tf.numpy_function(read, [chosen, view], tf.float32, stateful=False)
        parts = self.parts(flat, tf.reshape)
        return parts[0] if len(parts) == 1 else tuple(parts)

    def read(self, chosen: np.ndarray, view: np.ndarray | int) -> np.ndarray:
        """Records of images: float32 array (b, width)."""
        return self.store.read(self._rows[chosen] + view)

    def image(self, index: int) -> int:
        """An image's place in the store, from which its random views are drawn."""
        return int(self._rows[index]) // self.store.views

    def parts(self, flat, reshape: Callable = np.reshape) -> list:
        """Splits records into the boundary's tensors.

        Args:
            flat: (b, width).
            reshape: of the library that `flat` comes from.
        """
        found, place = [], 0
        for shape in self._shapes:
            size = math.prod(shape)
            found.append(reshape(flat[:, place : place + size], (-1, *shape)))
            place += size
        return found


def prepare(
    bundle: Bundle,
    recipe: Recipe,
    number: int,
    images: Images,
    home: Path,
    report: PhaseReport,
) -> tuple[Cached | None, str | None]:
    """Computes the features of a stage that are not in the cache yet.

    Args:
        bundle: after `engine.models.modeling.apply_stage`.
        recipe, number: the recipe and the stage's index in it.
        images: the training and validation images.
        home: Graft's home.
        report: shows progress; may raise to stop: computed features stay.

    Returns:
        (Cached, None), or (None, a clause that says why the stage runs the whole network).
    """
    stage = recipe.stages[number]
    why = features.why_not(recipe, stage.trainable)
    if why:
        return None, why
    part = boundary.cut(bundle)
    if part is None:
        return None, "the network cannot be cut there"
    slots = features.layout(recipe)[0]
    rows = rows_needed(images.dataset, images.split, slots)
    if why := _too_large(part, recipe, len(rows), home):
        return None, why
    begun = time.time()
    title = title_of(bundle, stage.trainable, recipe.image_size)
    runtime = open_runtime(bundle, recipe, part, title, home, report)
    converted = time.time() - begun
    with contextlib.ExitStack() as undo:
        undo.callback(runtime.close)
        store = open_store(home, recipe, images.dataset, part, runtime, title)
        undo.callback(store.close)
        facts, why = _complete(store, runtime, recipe, images, home, report)
        if why:
            return None, why
        places = _places(store, images, slots)
        count, exact = features.views(recipe)
        cached = Cached(part.suffix, count, exact, facts, store, places, part.shapes)
        difference = _difference(cached, bundle, recipe, images)
        facts |= {
            "path": "cached features",
            "runtime": runtime.name,
            "views": count,
            "exact": exact,
            "conversion_seconds": converted,
            "difference": difference,
        }
        if why := _too_different(difference):
            return None, why
        # From here on the caller closes the store.
        undo.pop_all()
        runtime.close()
        return cached, None


def _complete(
    store: features.FeatureStore,
    runtime: Runtime,
    recipe: Recipe,
    images: Images,
    home: Path,
    report: PhaseReport,
) -> tuple[dict, str]:
    """Computes what a store lacks; (facts about it, "") or ({}, why there is no room for it)."""
    rows = rows_needed(images.dataset, images.split, store.views)
    borrowed = store.borrow(rows)
    missing = rows[~store.known(rows)]
    needed = 4 * store.width * len(missing)
    if not cache.make_room(home, needed, keep=store.path):
        return {}, (
            f"its features need {needed / 2**30:.2f} GiB more, and the cache's limit or the "
            "free disk space does not allow it"
        )
    pixels_of = _pixels_of(store, recipe, images, missing)
    computed, seconds = fill(store, runtime, missing, pixels_of, recipe.image_size, report)
    return {
        "computed": computed,
        "known": len(rows) - len(missing),
        "borrowed": borrowed,
        "bytes": 4 * store.width * len(rows),
        "seconds": seconds,
        "images_per_second": len(missing) / seconds if len(missing) else None,
    }, ""


def _too_large(part: boundary.Cut, recipe: Recipe, records: int, home: Path) -> str | None:
    """Why features are not worth their size or do not fit into the cache; None if they do."""
    if part.width > LARGEST_RECORD * recipe.image_size**2 * 3 // 4:
        return "the outputs of the frozen part are larger than the images"
    size, limit = 4 * part.width * records, cache.limit(home)
    if size > limit:
        return (
            f"its features would take {size / 2**30:.1f} GiB, more than the cache's limit of "
            f"{limit / 2**30:.1f} GiB"
        )
    return None


def _too_different(difference: float) -> str | None:
    """Why features cannot stand for the whole network; None if they can."""
    tolerance = TOLERANCE if keras.config.dtype_policy().name == "float32" else HALF_TOLERANCE
    if difference <= tolerance:
        return None
    return (
        f"probabilities from cached features differ by {difference:.2g} from those of the "
        "whole network"
    )


def rows_needed(dataset: Dataset, split: Split, slots: int) -> np.ndarray:
    """Rows of all training and validation images: every view of the former, the plain one of the
    latter. int64 array, sorted."""
    order = np.unique(np.asarray(dataset.contents, dtype="S64"))
    place = np.searchsorted(order, np.asarray(dataset.contents, dtype="S64")) * slots
    train = place[split["train"]][:, None] + np.arange(slots)
    return np.unique(np.concatenate([train.ravel(), place[split["validation"]]]))


def open_store(
    home: Path, recipe: Recipe, dataset: Dataset, part: boundary.Cut, runtime: Runtime, title: str
) -> features.FeatureStore:
    """The store of a frozen part's features over a dataset.

    Args:
        home: Graft's home.
        recipe: resize, augmentation, cached_views and seed are read (see `store.layout`).
        dataset: the images.
        part: the Cut.
        runtime: computes the features.
        title: of `title_of`.
    """
    slots, drawn = features.layout(recipe)
    identity = {
        "title": f"{dataset.title}, {title}",
        "network": runtime.network,
        "runtime": runtime.name,
        "resize": recipe.resize,
        **({"depth": depth.VERSION} if dataset.bits.any() else {}),
    }
    return features.FeatureStore(
        home, identity | drawn, dataset.contents, dataset.fingerprint, slots, part.width
    )


# -- the pass ---------------------------------------------------------------------------------


def _view(values: np.ndarray, recipe: Recipe, view: int, exact: bool, place: int) -> np.ndarray:
    """One view of an image: uint8 array (size, size, 3)."""
    if view == 0:
        return values
    if exact:
        values = values[:, ::-1] if view & 1 else values
        return values[::-1] if view & 2 else values
    drawn = augment.draw(recipe.augmentation, 1, [recipe.seed, 7919, place, view])
    return augment.apply(values, drawn[0])


def _pixels_of(
    store: features.FeatureStore, recipe: Recipe, images: Images, missing: np.ndarray
) -> Callable[[int], np.ndarray | None]:
    """A function that gives the pixels of a missing row's image and view, or None."""
    split = images.split
    slots, exact = store.views, features.views(recipe)[1]
    found_at = np.zeros(int(missing.max()) // slots + 1 if len(missing) else 0, np.int64)
    used = np.concatenate([split["train"], split["validation"]])
    rows = store.rows(images.dataset.contents[used]) // slots
    found_at[rows[rows < len(found_at)]] = used[rows < len(found_at)]

    def pixels_of(row):
        found = images.pixels.own(int(found_at[row // slots]), images.keep)
        return None if found is None else _view(found, recipe, row % slots, exact, row // slots)

    return pixels_of


def fill(
    store: features.FeatureStore,
    runtime: Runtime,
    missing: np.ndarray,
    pixels_of: Callable[[int], np.ndarray | None],
    size: int,
    report: PhaseReport,
) -> tuple[int, float]:
    """Computes missing records; returns (how many, seconds).

    An image that can no longer be read gets none: every later run would trust another image's
    features under its content's hash.

    Args:
        store: takes the records.
        runtime: computes them.
        missing: int64 array, rows of the store.
        pixels_of: gives a row's pixels, uint8 array (size, size, 3), or None if its image cannot be
            read; called in threads.
        size: of the images.
        report: shows progress; may raise to stop: computed records stay.
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
    for done, (row, record) in enumerate(zip(order, runtime.run(map(ask, order)), strict=True), 1):
        if row not in lost:
            store.write(row, record)
        if done % 16 == 0 or done == len(order):
            report("features", "Preparing features", done, len(order))
    return len(order) - len(lost), time.time() - begun


def _places(store: features.FeatureStore, images: Images, slots: int) -> np.ndarray:
    """First row of each image, int64 array; for an image without records, that of the next one of
    its class and part that has them (`engine.data.unreadable`).

    This depends on what the store holds, not on what this process could read, so it is the same
    when the run is resumed.
    """
    dataset, split = images.dataset, images.split
    rows, lost = store.rows(dataset.contents), images.pixels.unreadable
    places = rows.copy()
    for part, views in (("train", slots), ("validation", 1)):
        indices = split[part]
        there = np.zeros(len(dataset), bool)
        there[indices] = store.known(rows[indices][:, None] + np.arange(views)).all(axis=1)
        for index in indices[~there[indices]].tolist():
            assert lost is not None  # without it, reading the image raised
            peer = next((p for p in lost.peers(index) if there[p]), None)
            if peer is None:
                lost.none_left(index)
            places[index] = rows[peer]
    return places


def _difference(cached: Cached, bundle: Bundle, recipe: Recipe, images: Images) -> float:
    """Largest difference in probability between cached features and the whole network, on a few
    training images, and their last view."""
    pixels, train = images.pixels, images.split["train"]
    step = max(1, len(train) // PROBE_IMAGES)
    # Evenly spread images first; further ones only in place of those that can no longer be read.
    order = np.concatenate([train[begin::step] for begin in range(step)]).tolist()
    readable = ((i, found) for i in order if (found := pixels.own(i)) is not None)
    probes = dict(islice(readable, PROBE_IMAGES))
    if not probes:
        assert pixels.unreadable is not None
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
