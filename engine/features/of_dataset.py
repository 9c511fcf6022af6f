"""What a recipe's backbone sees in every image of a dataset: pooled features, computed once and kept.

Heavy: imports Keras, in its functions. The features lie in the store that the recipe's fully frozen
stage would use (`engine.features.store`, `engine.features.compute`), so that a training run finds what an inspection
computed, and the other way round.
"""

import contextlib
from hashlib import sha256

import numpy as np

from engine.data.unreadable import READING
from engine.errors import DatasetError
from engine.images import decode

CHUNK = 1024
"""Images whose records are looked at in one go."""


class Features:
    """Pooled features of all images of a dataset, in the dataset's order.

    Attributes:
        key: 16 hexadecimal digits that stand for what computed them, not for the images: backbone,
            weights, image size, resizing, pooling and runtime.
        width: features of an image.
        missing: bool array (n,), the images that could not be read, and have none.
    """

    def __init__(self, store, contents, key):
        self.key, self.width = key, store.width
        self._store, self._rows = store, store.rows(contents)
        parts = range(0, len(self._rows), CHUNK)
        known = [store.known(self._rows[i : i + CHUNK]) for i in parts]
        self.missing = ~np.concatenate([np.zeros(0, bool), *known])

    def __len__(self):
        return len(self._rows)

    def read(self, rows) -> np.ndarray:
        """float32 array (m, width) of images, not a number for those in `missing`.

        Args:
            rows: int array (m,), or a slice, of the dataset's images.
        """
        found = self._store.read(self._rows[rows])
        found[self.missing[rows]] = np.nan
        return found


@contextlib.contextmanager
def open_features(dataset, recipe, home, report):
    """The pooled features of all images by the recipe's own backbone, with everything frozen.

    What is not in the cache is computed, and stays there when `report` raises: the next call goes on.
    A recipe that continues a run is looked at through the backbone it names, before that run.

    Args:
        dataset: an open Dataset; without overlay, so that all decisions about it share the features.
        recipe: backbone, head.pooling, image_size, resize, precision, seed and, for the layout of the
            store, augmentation are read.
        home: Graft's home.
        report: called with (phase, text, done, total); may raise to stop.

    Yields:
        Features, valid inside the `with`.

    Raises:
        BackboneError: an unknown backbone, or weights that cannot be had.
        DatasetError: if no image can be read any more, or the cache has no room for the features.
    """
    from engine.features import cache, compute
    from engine.models import boundary, modeling

    report("features", f"Building {recipe.backbone.title}", 0, None)
    _prepare_device(recipe, home)
    bundle = modeling.build(recipe, list(dataset.classes), home)
    modeling.apply_stage(bundle, recipe.stages[0].model_copy(update={"trainable": "none"}))
    part = boundary.cut(bundle, ())
    title = compute.title_of(bundle, "none", recipe.image_size)
    runtime, run, network, closing = compute.open_runtime(bundle, recipe, part, title, home, report)
    with contextlib.ExitStack() as undo:
        undo.callback(closing)
        store = compute.open_store(home, recipe, dataset, part, network, runtime, title)
        undo.callback(store.close)
        rows = np.unique(store.rows(dataset.contents))
        store.borrow(rows)
        missing = rows[~store.known(rows)]
        needed = 4 * store.width * len(missing)
        if not cache.make_room(home, needed, keep=store.path):
            raise DatasetError(
                f"the features of {len(missing):,} images need {needed / 2**30:.2f} GiB, which the "
                "cache's limit or the free space on the disk does not allow; raise the limit on the "
                "Runs page or free some space"
            )

        def tell(phase, text, done, total):
            report(phase, f"Looking at the images with {recipe.backbone.title}", done, total)

        pixels_of = _pixels_of(dataset, store, recipe)
        compute.fill(store, run, missing, pixels_of, recipe.image_size, tell)
        identity = (network, runtime, recipe.resize, store.width)
        found = Features(store, dataset.contents, sha256(repr(identity).encode()).hexdigest()[:16])
        if found.missing.all():
            raise DatasetError(
                f"no image of {dataset.title} can be read any more; put the files back or prepare the "
                "dataset again"
            )
        yield found


def _prepare_device(recipe, home):
    """Seeds and precision as a run has them: they decide random weights, and a GPU's values."""
    import tensorflow as tf

    from engine.models import session

    # On a CPU the frozen part runs in float32 whatever the precision: there is nothing to try.
    chosen = None if tf.config.list_physical_devices("GPU") else "float32"
    session.prepare_device(recipe, session.Silent(), chosen)


def _pixels_of(dataset, store, recipe):
    """A function from a row of the store to its image's pixels; None where no copy can be read."""
    places = store.rows(dataset.contents)
    order = np.argsort(places, kind="stable")
    ordered = places[order]

    def pixels_of(row):
        first, last = np.searchsorted(ordered, [row, row + 1])
        for index in order[first:last].tolist():
            with contextlib.suppress(*READING):  # the next copy is the same image
                return decode.load(dataset.image_bytes(index), recipe.image_size, recipe.resize)
        return None

    return pixels_of
