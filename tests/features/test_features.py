"""Cached features: equal to the whole network, shared, safe, bounded, and cleared on request."""

import os
import threading

import numpy as np
import pytest

from engine import home as homes
from engine import load_preset
from engine.data import datasets, prepare_worker
from engine.errors import GraftError
from engine.features import cache
from engine.features import store as features
from engine.images import augment
from tests.faults import harness
from tests.support.cli import graft
from tests.support.pages import open_page
from tests.support.real_data import has_real_data
from tests.support.training import events, train, trained_once

SMALL = ["dataset.images=100", "augmentation=none"]
TWO = (
    "stages=[{name: frozen, epochs: 2, learning_rate: 0.01},"
    "{name: top, trainable: last 2 blocks, epochs: 2, learning_rate: 0.001}]"
)


def store(home, contents, width=4, views=1, **identity):
    return features.FeatureStore(
        home, {"title": "t", "network": "n"} | identity, contents, "print", views, width
    )


@pytest.fixture
def home(tmp_path):
    return homes.home(tmp_path)


@pytest.fixture(scope="module")
def pair(graft_home):
    """The same recipe on cached features and on the whole network."""
    sets = [*SMALL, TWO]
    return train(graft_home, *sets), train(graft_home, *sets, "feature_cache=off")


def test_cached_and_uncached_stages_give_the_same_predictions(pair):
    """For a frozen backbone and for a boundary in its middle, from the same start."""
    cached, whole = pair
    assert [e["path"] for e in events(cached, "stage_start")] == ["cached features"] * 2
    assert [e["path"] for e in events(whole, "stage_start")] == ["whole network"] * 2
    from engine.predict.classifier import Classifier

    data = [e["path"] for e in cached.examples()]
    answers = [Classifier(run).probabilities(data) for run in pair]
    assert answers[0].std(axis=0).max() > 0.1  # answers that differ from image to image
    assert np.abs(answers[0] - answers[1]).max() < 1e-4
    for a, b in zip(events(cached, "epoch"), events(whole, "epoch"), strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=1e-4)


def test_a_run_records_its_path_and_the_difference_on_a_probe(pair):
    for start in events(pair[0], "stage_start"):
        assert 0 < start["difference"] < 1e-4 and start["exact"] and start["views"] == 1
        assert start["computed"] + start["known"] == 80 and start["runtime"]
    assert any("feature_cache is off" in e["text"] for e in events(pair[1], "note"))


@pytest.mark.skipif(not has_real_data(), reason="needs real weights (README, Tests)")
def test_a_cut_in_mid_backbone_equals_the_whole_on_real_weights():
    """Also at a boundary of several tensors, inside a block with a shortcut."""
    import keras

    from engine.models import boundary, modeling

    recipe = load_preset("flowers")
    bundle = modeling.build(recipe, list("abcde"))
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 224, 224, 3)).astype("float32")
    whole = keras.ops.convert_to_numpy(bundle.model(pixels, training=False))
    for trainable, tensors in (
        ("none", 1),
        ("last 1 block", 1),
        ("last 5 blocks", 1),
        ("from block_8_project", 2),
    ):
        stage = recipe.stages[0].model_copy(update={"trainable": trainable})
        sizes = modeling.apply_stage(bundle, stage)
        part = boundary.cut(bundle)
        assert len(part.shapes) == tensors and not part.prefix.trainable_weights
        learning = sum(int(np.prod(w.shape)) for w in part.suffix.trainable_weights)
        assert learning == sizes["trainable_params"]
        found = part.suffix(part.prefix(pixels, training=False), training=False)
        assert np.abs(keras.ops.convert_to_numpy(found) - whole).max() < 1e-5
    modeling.apply_stage(bundle, recipe.stages[1])
    assert boundary.cut(bundle) is None  # nothing is frozen


def test_dropout_of_the_backbone_is_still_where_it_is_frozen(tmp_path):
    """EfficientNet drops whole paths at random while training: not in its frozen part."""
    import keras

    from engine.models import boundary, modeling

    recipe = load_preset(
        "sample",
        ["backbone={name: EfficientNetB0, weights: none}", "image_size=32", "augmentation=none"],
    )
    bundle = modeling.build(recipe, ["a", "b"])
    rates = {
        layer.name: layer.rate
        for layer in bundle.backbone.layers
        if isinstance(layer, keras.layers.Dropout)
    }
    assert rates and all(rates.values())

    def now():
        return {name: bundle.backbone.get_layer(name).rate for name in rates}

    modeling.apply_stage(bundle, recipe.stages[0].model_copy(update={"trainable": "last 4 blocks"}))
    assert set(now().values()) != {0.0} and 0.0 in now().values()
    pixels = np.ones((2, 32, 32, 3), np.float32)
    prefix = boundary.cut(bundle).prefix
    first, second = (keras.ops.convert_to_numpy(prefix(pixels, training=True)) for _ in range(2))
    assert np.array_equal(first, second)
    modeling.restore_dropout(bundle)
    assert now() == rates


def test_mirroring_is_exact_and_other_augmentation_is_not_cached_unasked():
    flips = load_preset("sample", ["augmentation={flip: both}"])
    assert features.views(flips) == (4, True)
    drawn = augment.draw(flips.augmentation, 400, 1)
    view = features.draw_views(flips, drawn, 2)
    assert set(view.tolist()) == {0, 1, 2, 3}
    picture = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    mirrored = [picture, picture[:, ::-1], picture[::-1], picture[::-1, ::-1]]
    for i in range(20):
        assert np.array_equal(augment.apply(picture, drawn[i]), mirrored[view[i]])
    turned = load_preset("sample", ["augmentation={rotation: 10}"])
    assert features.views(turned)[0] == 0
    assert "every epoch" in features.why_not(turned, "none")
    views = load_preset("sample", ["augmentation={rotation: 10}", "cached_views=3"])
    assert features.views(views) == (3, False)
    assert set(features.draw_views(views, drawn, 2).tolist()) == {1, 2, 3}


def test_fixed_random_views_are_named_as_the_approximation_they_are(
    graft_home, tmp_path_factory, worker_id
):
    """In the run of the tests of faults, whose first stage is cached."""
    run = trained_once(harness.recipe(), graft_home, tmp_path_factory, worker_id)
    start = events(run, "stage_start")[0]
    assert start["views"] == 2 and not start["exact"] and start["difference"] < 1e-4
    assert any("approximates new augmentation" in e["text"] for e in events(run, "note"))


def prepare(recipe, home, report=lambda *_: None):
    """What a run does before its first stage, in this process."""
    from engine.features import compute
    from engine.features.pixels import Pixels
    from engine.models import modeling

    dataset = prepare_worker.ingest(recipe.dataset, home)
    split, bundle = dataset.split(recipe.split), modeling.build(recipe, list(dataset.classes))
    modeling.apply_stage(bundle, recipe.stages[0])
    pixels = Pixels(dataset, np.arange(len(dataset)), recipe.image_size, recipe.resize, 64)
    images = compute.Images(dataset, pixels, split)
    cached, why = compute.prepare(bundle, recipe, 0, images, home, report)
    if cached:
        cached.close()
    return cached, why


def test_a_second_recipe_starts_from_the_cache(pair, graft_home):
    sets = ["head={hidden: 8}", "seed=3", "split.seed=1", "stages=[{name: other, epochs: 1}]"]
    facts = prepare(load_preset("sample", [*SMALL, *sets]), graft_home)[0].facts
    # Another split asks for images that were test images before; all others are there.
    assert facts["known"] > 0 and facts["computed"] < 30
    assert facts["computed"] + facts["known"] == 80


def test_looking_at_a_dataset_takes_what_training_computed(pair, graft_home):
    """The features of an inspection and those of a frozen stage lie in the same store."""
    from engine.features import of_dataset

    recipe = load_preset("sample", [*SMALL, TWO])
    dataset = datasets.open_dataset(recipe.dataset, graft_home)
    stores = len(cache.entries(graft_home))
    # At most the 20 test images, which training never asks for, are computed; then none.
    for most in (20, 0):
        totals = [0]

        def report(phase, text, done, total, totals=totals):
            totals.append(total or 0)

        with of_dataset.open_features(dataset, recipe, graft_home, report) as found:
            everything = found.read(np.arange(len(dataset)))
            assert not found.missing.any() and everything.shape == (100, found.width)
            assert np.isfinite(everything).all() and everything.std(axis=0).max() > 0
        assert max(totals) <= most
    assert len(cache.entries(graft_home)) == stores


# -- the store --------------------------------------------------------------------------------


def test_a_record_that_was_torn_is_computed_again(home):
    names = [f"{i:064x}" for i in range(6)]
    kept = store(home, names)
    rows = kept.rows(names)
    for row in rows:
        kept.write(row, np.full(4, row + 1))
    assert kept.known(rows).all()
    kept.close()
    with open(kept.path / "records.f32", "r+b") as file:
        file.seek(16 * 2)
        file.write(b"\0\0\0\7")  # half of record 2, as a power cut leaves it
    again = store(home, names[::-1])  # the order in which images are named does not matter
    assert again.path == kept.path
    assert again.known(rows).tolist() == [True, True, False, True, True, True]
    again.write(2, np.full(4, 3.0))
    assert np.array_equal(again.read(rows)[:, 0], [1, 2, 3, 4, 5, 6])
    again.close()


def test_different_decisions_have_different_stores(home):
    names = ["a" * 64, "b" * 64]
    stores = [
        store(home, names), store(home, names, views=2), store(home, names, width=5),
        store(home, names, network="m"), store(home, names, runtime="other"),
    ]  # fmt: skip
    assert len({s.path for s in stores}) == 5
    for s in stores:
        s.close()


def test_a_dataset_that_has_grown_borrows_what_is_known(home):
    old = [f"{i:064x}" for i in range(5)]
    first = store(home, old, views=2)
    for row in range(10):
        first.write(row, np.full(4, row))
    new = [*old, "f" * 64]
    second = features.FeatureStore(
        home, {"title": "other", "network": "n"}, new, "another print", 2, 4
    )
    rows = np.concatenate([second.rows(new), second.rows(new, 1)])
    assert second.borrow(rows) == 10
    assert second.known(rows).sum() == 10
    assert np.array_equal(second.read(second.rows(old, 1)), first.read(first.rows(old, 1)))
    first.close(), second.close()


def test_two_writers_at_once_leave_a_whole_store(home):
    names = [f"{i:064x}" for i in range(200)]
    failed = []

    def fill():
        try:
            mine = store(home, names, width=64)
            for row in range(200):
                mine.write(row, np.full(64, row))
            mine.close()
        except Exception as error:
            failed.append(error)

    writers = [threading.Thread(target=fill) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    reader = store(home, names, width=64)
    assert reader.known(np.arange(200)).all()
    assert np.array_equal(reader.read(np.arange(200))[:, 5], np.arange(200))
    reader.close()
    assert len(cache.entries(home)) == 1


def test_a_pass_that_broke_off_goes_on_where_it_was(home):
    sets = ["dataset.images=100", "augmentation={flip: both}", "stages=[{name: one, epochs: 1}]"]
    recipe = load_preset("sample", sets)

    def break_off(phase, text, done, total, always=False):
        if phase == "features" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, home, break_off)
    facts = prepare(recipe, home)[0].facts
    assert facts["known"] >= 16 and facts["difference"] < 1e-4
    assert facts["known"] + facts["computed"] == 4 * 65 + 15  # all views of training images only


# -- the bound --------------------------------------------------------------------------------


def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(home):
    stores = []
    for i in range(3):
        made = store(home, [f"{j:064x}" for j in range(64)], width=4096, network=str(i))
        for row in range(64):
            made.write(row, np.ones(4096))
        os.utime(made.path / "used", (1000 + i, 1000 + i))
        stores.append(made)
    stores[1].close()
    stores[2].close()  # the first, the oldest, stays open
    assert [e.busy for e in sorted(cache.entries(home), key=lambda e: e.used)] == [
        True, False, False,
    ]  # fmt: skip
    cache.set_limit(home, 2.5 * 2**20 / 2**30)  # room for two of the three
    left = {e.path for e in cache.entries(home)}
    assert left == {stores[0].path, stores[2].path}
    freed, stay = cache.clear(home)
    assert freed > 2**20 and stay == 1
    stores[0].close()
    assert cache.clear(home)[1] == 0 and not cache.entries(home)
    with pytest.raises(GraftError, match="0 to 100000"):
        cache.set_limit(home, -1)


def test_features_above_the_limit_are_not_cached_and_it_is_said(home):
    cache.set_limit(home, 0)
    recipe = load_preset("sample", ["dataset.images=60", "augmentation=none"])
    cached, why = prepare(recipe, home)
    # A stage that runs the whole network notes why; see `test_a_run_records_its_path`.
    assert cached is None and "more than the cache's limit" in why
    assert not cache.entries(home)


def test_the_command_line_shows_bounds_and_clears_the_cache(home):
    store(home, ["a" * 64]).close()

    def engine(*arguments):
        return graft("cache", *arguments, home=home)

    assert "1 entry" in engine("--limit", "3").stdout
    assert cache.limit(home) == 3 * 2**30
    assert "0 entries" in engine("--clear").stdout
    wrong = engine("--limit", "-2")
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1


def test_the_runs_page_shows_bounds_and_clears_the_cache(home, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(home))
    app = open_page("runs")
    assert any("Nothing is cached yet" in c.value for c in app.caption)
    kept = store(home, ["a" * 64], network="one")
    kept.close()
    app = open_page("runs")
    assert app.dataframe[-1].value["What"].tolist() == ["t"]
    app.number_input(key="cache_limit").set_value(4.0).run()
    assert cache.limit(home) == 4 * 2**30
    app.button(key="clear_cache").click().run()
    assert not cache.entries(home) and not app.exception


def test_pixels_are_decoded_once_and_only_when_asked_for(graft_home):
    from engine.train.input_pipeline import Pixels

    spec = load_preset("sample", ["dataset.images=100"]).dataset
    dataset = prepare_worker.ingest(spec, graft_home)
    assert datasets.state(spec, graft_home)["state"] == "ready"
    chosen = np.arange(10, 40)
    roomy, tight = (Pixels(dataset, chosen, 96, "antialias", mb) for mb in (64, 0))
    assert roomy.cached and not tight.cached
    assert np.array_equal(roomy.get(chosen[:7]), tight.get(chosen[:7]))
    assert np.array_equal(roomy.get(chosen), tight.get(chosen))
    assert np.shares_memory(roomy.one(12), roomy.one(12))
