"""A dataset with images of more than 8 bits that an earlier version prepared, which scaled them in
another way, is prepared again; nothing that was kept of the old pixels is used. Others stay."""

from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from engine import home as homes
from engine.data import datasets, prepare_worker
from engine.recipe import DatasetSpec, load_preset
from tests.support.pictures import picture


def prepared(root, home, draw, ending):
    """(spec, its dataset) of a folder, as if an earlier version had prepared it."""
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for i in range(3):
            draw(i + 10 * (label == "dog")).save(root / label / f"{i}.{ending}")
    spec = DatasetSpec(source="folder", path=str(root))
    dataset = prepare_worker.ingest(spec, home)
    assert not datasets.outdated(spec, home)
    manifest = homes.read_json(dataset.path / "manifest.json")
    del manifest["depth"]
    homes.write_json(dataset.path / "manifest.json", manifest)
    (dataset.path / "sums.json").unlink()
    return spec, dataset


def deep(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 4000, (48, 64)).astype("u2"))


def before(dataset):
    """The fingerprint that every version gives to images of 8 bits."""
    labels = [dataset.classes[label] for label in dataset.labels]
    lines = sorted(f"{c}:{label}" for c, label in zip(dataset.contents, labels, strict=True))
    return sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize(
    ("draw", "ending", "again", "same"),
    [
        (lambda seed: picture(seed=seed), "jpg", False, True),
        (lambda seed: picture(seed=seed), "png", True, True),  # it may be deep: only a look says
        (deep, "png", True, False),
    ],
)
def test_only_what_may_be_deep_is_prepared_again(own_home, tmp_path, draw, ending, again, same):
    spec, dataset = prepared(tmp_path / "images", own_home, draw, ending)
    assert datasets.outdated(spec, own_home) == again
    assert (prepare_worker.ingest(spec, own_home).fingerprint == before(dataset)) == same
    assert not again or not datasets.outdated(spec, own_home)


@pytest.mark.parametrize(("draw", "shared"), [(deep, False), (lambda s: picture(seed=s), True)])
def test_features_of_images_scaled_in_another_way_are_not_borrowed(
    own_home, tmp_path, draw, shared
):
    from engine.features import compute

    _, dataset = prepared(tmp_path / "images", own_home, draw, "png")
    recipe = load_preset("sample")
    network = SimpleNamespace(network="n", name="litert")
    part = SimpleNamespace(width=4)

    def store():
        return compute.open_store(own_home, recipe, dataset, part, network, "head")

    now, dataset.bits = dataset.bits, dataset.bits * 0  # as an earlier version opened it
    kept = store()
    rows = kept.rows(dataset.contents)
    for row in rows:
        kept.write(row, np.ones(4))
    kept.close()
    dataset.bits = now
    opened = store()
    opened.borrow(rows)
    assert opened.known(rows).all() == shared
    opened.close()
