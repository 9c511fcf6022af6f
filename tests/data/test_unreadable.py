"""Images that go, are cut off or are overwritten while a run works with them."""

import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from engine.data import unreadable
from engine.data.unreadable import Unreadable
from engine.errors import DatasetError, LostImageError, TrainingError
from engine.features import cache
from engine.host.signals import Paused, Stopped
from engine.predict import evaluation
from engine.recipe import load_preset
from tests.support.unreadable import SIZE, Prepared

DAMAGES = ("gone", "cut off", "another image", "same length", "no image", "a folder")


@pytest.fixture
def prepared(class_folder, own_home):
    return Prepared(class_folder, own_home)


@pytest.fixture
def lenient(monkeypatch):
    """A run that goes on without any number of images."""
    monkeypatch.setattr(unreadable, "UNREADABLE_SHARE", 1.0)


# -- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", DAMAGES)
def test_only_the_bytes_that_were_prepared_are_read(prepared, how):
    prepared.damage(5, how)
    with pytest.raises(LostImageError) as caught:
        prepared.dataset.image_bytes(5)
    text = str(caught.value)
    assert str(prepared.file(5)) in text and "prepare the dataset again" in text
    assert "can no longer be read" in text if how == "gone" else "has changed since" in text
    assert prepared.dataset.names[5] not in caught.value.why


@pytest.mark.parametrize("budget", [0, 64])
@pytest.mark.parametrize("how", DAMAGES)
def test_the_next_of_its_class_takes_the_place_of_a_lost_image(prepared, how, budget):
    train = prepared.split["train"]
    before = prepared.pixels(budget).get(train)
    lost, following, *_ = prepared.members("train", 1)
    prepared.damage(lost, how)
    pixels = prepared.pixels(budget)
    for _ in range(3):
        found = pixels.get(train)
        assert np.array_equal(found[train != lost], before[train != lost])
        assert np.array_equal(found[train == lost], before[train == following])
    assert np.array_equal(pixels.one(lost), pixels.one(following))
    assert pixels.own(lost) is None and pixels.own(following) is not None
    name = prepared.dataset.names[lost]
    assert len(prepared.warnings) == 1
    assert prepared.warnings[0].startswith(f"{name} is skipped from now on: it ")
    assert [row[0] for row in prepared.unreadable.rows(train)] == [name]


def test_without_a_count_of_what_is_lost_an_unreadable_image_is_an_error(prepared):
    prepared.damage(prepared.used[0])
    prepared.unreadable = None
    for budget in (0, 64):
        with pytest.raises(LostImageError):
            prepared.pixels(budget).get(prepared.used)


def test_train_stands_in_for_train_and_validation_for_validation(lenient, prepared):
    whole = prepared.pixels()
    everything = dict(zip(prepared.used.tolist(), whole.get(prepared.used), strict=True))
    train, validation = prepared.members("train", 2), prepared.members("validation", 0)
    instead = {
        train[-1]: train[0],  # round to the first
        train[2]: train[4], train[3]: train[4],  # the next one that is left
        validation[0]: validation[1],
    }  # fmt: skip
    for lost in instead:
        prepared.damage(lost)
    prepared.forget()
    for budget in (0, 64):
        found = prepared.pixels(budget).get(prepared.used)
        for index, values in zip(prepared.used.tolist(), found, strict=True):
            assert np.array_equal(values, everything[instead.get(index, index)])
    assert len(prepared.warnings) == len(instead)


def test_neither_order_nor_threads_nor_memory_change_what_stands_in(lenient, prepared):
    for lost in [*prepared.members("train", 0)[::2], *prepared.members("train", 1)[3:6]]:
        prepared.damage(lost, "cut off")
    found = []
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(prepared.used)
        prepared.forget()
        pixels = prepared.pixels(64 * (seed % 2))
        parts = [pixels.get(chosen) for chosen in np.array_split(order, 5)]
        found.append(np.concatenate(parts)[np.argsort(order)])
    assert all(np.array_equal(other, found[0]) for other in found[1:])


def test_an_identical_file_is_the_same_image(class_folder, own_home):
    first = Prepared(class_folder, own_home)
    name = first.file(first.members("train", 0)[2])
    shutil.copy(name, name.with_name("zz.jpg"))
    prepared = Prepared(class_folder, own_home)
    one, two = (prepared.dataset.names.index(f"blue/{n}") for n in (name.name, "zz.jpg"))
    assert {one, two} <= set(prepared.split["train"].tolist())
    wanted = prepared.pixels().one(two)
    prepared.damage(two)
    for budget in (0, 64):
        pixels = prepared.pixels(budget)
        assert np.array_equal(pixels.own(two), wanted)
        assert np.array_equal(pixels.get(np.array([two, one])), np.stack([wanted, wanted]))


# -- counting ---------------------------------------------------------------------------------


def counted(total):
    """An Unreadable for `total` images, and its warnings."""
    dataset = SimpleNamespace(names=[f"{i}.jpg" for i in range(total)])
    split = {"train": np.arange(total), "validation": np.arange(0), "test": np.arange(0)}
    warnings = []
    return Unreadable(dataset, split, warnings.append), warnings


@pytest.mark.parametrize(("total", "allowed"), [(36, 1), (199, 1), (200, 2), (3458, 34)])
def test_a_run_goes_on_without_one_image_in_a_hundred_and_no_more(total, allowed):
    lost, warnings = counted(total)
    for index in range(allowed):
        lost.note(index, DatasetError("it went"))
        lost.note(index, DatasetError("it went"))  # once more is no other image
    assert lost.pause is None
    with pytest.raises(Paused) as caught:
        lost.note(allowed, DatasetError("it went"))
    text = caught.value.text
    assert text.startswith(
        f"at least {allowed + 1} of the run's {total:,} images can no longer be read"
    )
    assert "0.jpg: it went" in text and "resume the run" in text and "\n" not in text
    assert lost.pause is caught.value


def test_twenty_files_are_named_and_then_every_doubling_told(lenient):
    lost, warnings = counted(200)
    for index in range(199):
        lost.note(index, OSError(5, "Input/output error"))
    named = [text for text in warnings if "is skipped from now on" in text]
    assert named == warnings[:20] and "(Input/output error)" in named[0]
    assert [text.split()[0] for text in warnings[20:]] == ["40", "80", "160"]


def test_threads_that_meet_the_same_file_count_it_once(lenient):
    lost, warnings = counted(64)

    def meet():
        for index in range(20):
            lost.note(index, DatasetError("it went"))

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(warnings) == 20


def test_a_pause_comes_out_of_tf_data_as_it_went_in(prepared):
    from engine.train import input_pipeline

    recipe = load_preset("sample", [f"image_size={SIZE}", "augmentation=none"])
    for lost in prepared.members("train", 0)[:3]:
        prepared.damage(lost)
    pixels, labels = prepared.pixels(), prepared.dataset.labels
    with pytest.raises(Exception) as caught:  # noqa: B017, PT011  one of TensorFlow's, whichever
        examples = input_pipeline.Examples(pixels, prepared.used, labels, 3)
        for _ in input_pipeline.training_batches(examples, recipe, 0):
            pass
    assert not isinstance(caught.value, Paused)
    with pytest.raises(Paused, match="at least 2 of the run's 36 images"):
        prepared.unreadable.reraise(caught.value)
    # What ends a run for another reason keeps that reason.
    for other in (Stopped(), TrainingError("diverged"), Paused("by the user")):
        prepared.unreadable.reraise(other)
    prepared.forget()
    prepared.unreadable.reraise(caught.value)


def test_batches_keep_their_shape_and_their_answers(prepared):
    from engine.train import input_pipeline

    recipe = load_preset("sample", [f"image_size={SIZE}", "batch_size=8"])
    train, labels = prepared.split["train"], prepared.dataset.labels

    def batches():
        examples = input_pipeline.Examples(prepared.pixels(), train, labels, 3)
        found = input_pipeline.training_batches(examples, recipe, 0)
        return [tuple(t.numpy() for t in batch) for batch in found]

    before = batches()
    prepared.damage(prepared.members("train", 1)[2])
    after = batches()
    assert [x.shape for x, _ in before] == [x.shape for x, _ in after]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(before, after, strict=True))
    changed = sum(
        (a[0] != b[0]).any(axis=(1, 2, 3)).sum() for a, b in zip(before, after, strict=True)
    )
    assert changed == recipe.stages[0].epochs  # one image, once in every epoch


def test_a_class_without_any_image_left_pauses_the_run(lenient, prepared):
    for lost in prepared.members("validation", 2):
        prepared.damage(lost)
    pixels = prepared.pixels()
    pixels.get(prepared.split["train"])
    with pytest.raises(Paused, match="no image of red in the validation part .*resume the run"):
        pixels.get(prepared.split["validation"])


# -- features ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """(bundle, recipe) of a frozen stage with two views of every image."""
    from engine.models import modeling

    recipe = load_preset(
        "sample", ["augmentation={flip: horizontal}", "stages=[{name: frozen, epochs: 1}]"]
    )
    return modeling.build(recipe, ["blue", "green", "red"]), recipe


def forget_features(own_home):
    for entry in cache.entries(own_home):
        if entry.kind == "features":
            assert cache.delete(entry)


def read_all(cached, prepared):
    """All records that training reads, by (image, view)."""
    train, validation = prepared.split["train"], prepared.split["validation"]
    chosen = [
        *((i, v) for i in train.tolist() for v in (0, 1)),
        *((i, 0) for i in validation.tolist()),
    ]
    images, views = np.array(chosen).T
    return dict(zip(chosen, cached.read(images, views), strict=True))


def test_features_of_a_lost_image_are_its_neighbour_s_and_never_kept_as_its_own(
    lenient, prepared, network
):
    whole = prepared.features(*network)
    wanted = read_all(whole, prepared)
    whole.close()
    forget_features(prepared.home)
    train, validation = prepared.members("train", 1), prepared.members("validation", 0)
    instead = {train[1]: train[2], train[-1]: train[0], validation[1]: validation[0]}
    held = {lost: prepared.damage(lost) for lost in instead}

    for computed in (len(wanted) - 5, 0):  # the second time as another process does
        prepared.forget()
        cached = prepared.features(*network)
        assert cached.facts["computed"] == computed and cached.facts["difference"] < 1e-4
        for (index, view), record in read_all(cached, prepared).items():
            assert np.array_equal(record, wanted[instead.get(index, index), view])
        store = cached.store
        for lost in instead:
            rows = store.rows(prepared.dataset.contents[[lost]]) + np.arange(2)
            assert not store.known(rows).any()
        cached.close()

    for lost, data in held.items():
        prepared.file(lost).write_bytes(data)
    prepared.forget()
    cached = prepared.features(*network)
    assert cached.facts["computed"] == 5 and not prepared.warnings
    for key, record in read_all(cached, prepared).items():
        assert np.array_equal(record, wanted[key])
    cached.close()


def test_features_that_are_known_need_no_file(prepared, network):
    cached = prepared.features(*network)
    wanted = read_all(cached, prepared)
    cached.close()
    prepared.damage(prepared.members("train", 0)[0])
    prepared.forget()
    cached = prepared.features(*network)
    assert cached.facts["computed"] == 0 and cached.facts["difference"] < 1e-4
    for key, record in read_all(cached, prepared).items():
        assert np.array_equal(record, wanted[key])
    cached.close()


def test_features_of_a_copy_that_is_left_are_the_image_s_own(class_folder, own_home, network):
    first = Prepared(class_folder, own_home)
    name = first.file(first.members("train", 0)[2])
    shutil.copy(name, name.with_name("zz.jpg"))
    prepared = Prepared(class_folder, own_home)
    cached = prepared.features(*network)
    wanted = read_all(cached, prepared)
    cached.close()
    forget_features(own_home)
    prepared.damage(prepared.dataset.names.index("blue/zz.jpg"))
    prepared.forget()
    cached = prepared.features(*network)
    for key, record in read_all(cached, prepared).items():
        assert np.array_equal(record, wanted[key])
    cached.close()


# -- testing ----------------------------------------------------------------------------------


@pytest.fixture
def colours():
    """A classifier of a kind: the share of blue, green and red in the picture."""

    def outputs(pixels):
        mean = pixels.mean(axis=(0, 1))[::-1]
        return (mean / mean.sum(), None, None)

    return SimpleNamespace(
        size=SIZE, resize="antialias", outputs=outputs, classes=["blue", "green", "red"]
    )


def test_test_images_that_are_lost_are_left_out_and_named(prepared, colours):
    def measure(part):
        dataset, indices = prepared.dataset, prepared.split[part]
        read, rows = evaluation.gather(colours, dataset, indices, prepared.unreadable)
        figures = evaluation.measure(rows, dataset.labels[read], dataset.classes)
        return figures | {"unreadable": prepared.unreadable.rows(indices)}

    before = measure("test")
    assert before["n"] == len(prepared.split["test"]) and before["unreadable"] == []
    lost = int(prepared.split["test"][0])
    prepared.damage(lost, "cut off")
    after = measure("test")
    assert after["n"] == before["n"] - 1 == np.sum(after["confusion"])
    assert after["unreadable"] == [
        [prepared.dataset.names[lost], "it has changed since the dataset was prepared"]
    ]
    assert measure("validation")["unreadable"] == []
    readable = [index for index, _ in prepared.unreadable.readable(prepared.split["test"])]
    assert readable == prepared.split["test"][1:].tolist()


def test_nothing_left_to_test_on_pauses_the_run(lenient, prepared, colours):
    for lost in prepared.split["test"]:
        prepared.damage(lost)
    with pytest.raises(Paused, match="images to test on .*resume the run"):
        evaluation.gather(colours, prepared.dataset, prepared.split["test"], prepared.unreadable)
