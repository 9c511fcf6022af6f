"""A prepared folder whose files a test may damage."""

from pathlib import Path

import numpy as np

from engine.data import prepare_worker
from engine.data.unreadable import Unreadable
from engine.recipe import DatasetSpec, SplitSpec
from tests.support.pictures import encode, picture

SIZE = 32


class Prepared:
    """A prepared folder whose files may be damaged.

    Attributes:
        dataset, split: of the folder.
        unreadable: an Unreadable of the whole split.
        warnings: the sentences that it gave.
    """

    def __init__(self, folder, own_home):
        self.folder, self.home = Path(folder), own_home
        self.spec = DatasetSpec(source="folder", path=str(folder))
        self.dataset = prepare_worker.ingest(self.spec, own_home)
        self.split = self.dataset.split(SplitSpec())
        self.forget()

    def forget(self):
        """Forgets what could not be read, as another process would."""
        self.warnings = []
        self.unreadable = Unreadable(self.dataset, self.split, self.warnings.append)

    def file(self, index):
        return self.folder / self.dataset.names[index]

    def members(self, part, label):
        """Images of a class in a part, as a list."""
        indices = self.split[part]
        return indices[self.dataset.labels[indices] == label].tolist()

    def damage(self, index, how="gone"):
        """Does to an image's file what may happen to one; returns what it held."""
        path = self.file(index)
        whole = path.read_bytes()
        if how in ("gone", "a folder"):
            path.unlink()
            if how == "a folder":
                path.mkdir()
        else:
            path.write_bytes(
                {
                    "cut off": whole[: len(whole) // 2],
                    "another image": encode(picture(seed=4711), "JPEG"),
                    "same length": whole[:-40] + bytes(38) + whole[-2:],
                    "no image": b"words",
                }[how]
            )
        return whole

    @property
    def used(self):
        return np.concatenate([self.split["train"], self.split["validation"]])

    def pixels(self, budget=64, size=SIZE):
        from engine.train.input_pipeline import Pixels

        return Pixels(self.dataset, self.used, size, "antialias", budget, self.unreadable)

    def features(self, bundle, recipe):
        """The features of a recipe's first stage, an `engine.features.compute.Cached`."""
        from engine.features import compute
        from engine.models import modeling

        modeling.apply_stage(bundle, recipe.stages[0])
        pixels = self.pixels(size=recipe.image_size)
        images = compute.Images(self.dataset, pixels, self.split)
        cached, why = compute.prepare(bundle, recipe, 0, images, self.home, lambda *a: None)
        assert cached, why
        return cached
