"""Pooled features of every image of a dataset by a recipe's backbone, computed once and kept.

Heavy: imports Keras, in its functions. The features are in the store that the recipe's fully frozen
stage would use (`engine.features.store`, `engine.features.compute`), so a training run finds what
an inspection computed, and the reverse.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from engine.data.prepared import Dataset
from engine.data.unreadable import READING
from engine.errors import DatasetError
from engine.features.store import FeatureStore
from engine.host.log import PhaseReport, Silent
from engine.host.words import plural
from engine.images import decode
from engine.recipe import Recipe

CHUNK = 1024
"""Images whose records are checked at a time."""


class Features:
    """Pooled features of all images of a dataset, in the dataset's order.

    Attributes:
        key: 16 hexadecimal digits that identify what computed them, not the images: backbone,
            weights, image size, resizing, pooling and runtime.
        width: features of an image.
        missing: bool array (n,), the images that could not be read, and have none.
    """

    def __init__(self, store: FeatureStore, contents: np.ndarray, key: str):
        self.key, self.width = key, store.width
        self._store, self._rows = store, store.rows(contents)
        parts = range(0, len(self._rows), CHUNK)
        known = [store.known(self._rows[i : i + CHUNK]) for i in parts]
        self.missing = ~np.concatenate([np.zeros(0, bool), *known])

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, rows: np.ndarray | slice) -> np.ndarray:
        """float32 array (m, width) of images; NaN for those in `missing`.

        Args:
            rows: int array (m,), or a slice, of the dataset's images.
        """
        found = self._store.read(self._rows[rows])
        found[self.missing[rows]] = np.nan
        return found


@contextlib.contextmanager
def open_features(
    dataset: Dataset, recipe: Recipe, home: Path, report: PhaseReport
) -> Iterator[Features]:
    """The pooled features of all images by the recipe's backbone, with everything frozen.

    Features that are not in the cache are computed. They stay there when `report` raises, and the
    next call continues. For a recipe that continues a run, the backbone is that of the recipe, with
    its weights before the run.

    Args:
        dataset: without overlay, so that all decisions about it share the features.
        recipe: backbone, head.pooling, image_size, resize, precision, seed and, for the layout of
            the store, augmentation are read.
        home: Graft's home.
        report: shows progress; may raise to stop.

    Yields:
        Features, valid inside the `with`.

    Raises:
        BackboneError: an unknown backbone, or weights that are not available.
        DatasetError: if no image can be read any more, or the cache has no room for the features.
    """
    from engine.features import cache, compute, runtime
    from engine.models import boundary, modeling

    report("features", f"Building {recipe.backbone.title}", 0, None)
    _prepare_device(recipe)
    bundle = modeling.build(recipe, list(dataset.classes), home)
    modeling.apply_stage(bundle, recipe.stages[0].model_copy(update={"trainable": "none"}))
    part = boundary.cut_at(bundle, ())
    title = runtime.title_of(bundle, "none", recipe.image_size)
    opened = runtime.open_runtime(bundle, recipe, part, title, home, report)
    with contextlib.ExitStack() as undo:
        undo.callback(opened.close)
        store = compute.open_store(home, recipe, dataset, part, opened, title)
        undo.callback(store.close)
        rows = np.unique(store.rows(dataset.contents))
        store.borrow(rows)
        missing = rows[~store.known(rows)]
        needed = 4 * store.width * len(missing)
        if not cache.make_room(home, needed, keep=store.path):
            raise DatasetError(
                f"the features of {plural(len(missing), 'image')} need {needed / 2**30:.2f} GiB, "
                "more than the cache's limit or the free disk space allows; raise the limit on the "
                "Runs page or free some space"
            )

        def progress(phase: str, text: str, done: int, total: int | None, always: bool = False):
            report(phase, f"Computing features with {recipe.backbone.title}", done, total)

        pixels_of = _pixels_of(dataset, store, recipe)
        compute.fill(store, opened, missing, pixels_of, recipe.image_size, progress)
        identity = (opened.network, opened.name, recipe.resize, store.width)
        found = Features(store, dataset.contents, sha256(repr(identity).encode()).hexdigest()[:16])
        if found.missing.all():
            raise DatasetError(
                f"no image of {dataset.title} can be read any more; put the files back or prepare "
                "the dataset again"
            )
        yield found


def _prepare_device(recipe: Recipe) -> None:
    """Seeds and precision as in a run: they decide random weights, and a GPU's values."""
    import tensorflow as tf

    from engine.models import session

    # On a CPU the frozen part runs in float32 whatever the precision.
    chosen = None if tf.config.list_physical_devices("GPU") else "float32"
    session.prepare_device(recipe, Silent(), chosen)


def _pixels_of(
    dataset: Dataset, store: FeatureStore, recipe: Recipe
) -> Callable[[int], np.ndarray | None]:
    """A function from a row of the store to its image's pixels; None where no copy can be read."""
    places = store.rows(dataset.contents)
    order = np.argsort(places, kind="stable")
    ordered = places[order]

    def pixels_of(row: int) -> np.ndarray | None:
        first, last = np.searchsorted(ordered, [row, row + 1])
        for index in order[first:last].tolist():
            with contextlib.suppress(*READING):  # the next copy is the same image
                return decode.load(dataset.image_bytes(index), recipe.image_size, recipe.resize)
        return None

    return pixels_of
