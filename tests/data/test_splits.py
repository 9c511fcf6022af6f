"""How images are divided into parts."""

import shutil

import numpy as np
import pytest

from engine.data import datasets, prepare_worker, splits
from engine.data import groups as data_groups
from engine.errors import DatasetError, RecipeError
from engine.recipe import DatasetSpec, Recipe, SplitSpec, load_preset
from tests.support.pictures import encode, picture


def arrays(count=200, classes=4, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    contents = np.array([f"content-{i}" for i in range(count)])
    return labels, contents, np.full(count, "train"), [f"class {i}" for i in range(classes)]


def divided(spec, labels, contents, sources, classes, generations=None, groups=None):
    """Parts of images; those of the same content are one group, as near copies are."""
    if generations is None:
        generations = np.zeros(len(labels), int)
    if groups is None and spec.group_by != "none":
        groups = np.unique(contents, return_inverse=True)[1]
    images = splits.Images(labels, contents, sources, generations, groups)
    return splits.split(spec, images, classes)


def test_stratified_splits_are_disjoint_complete_seeded_and_even():
    labels, contents, sources, classes = arrays()
    first = divided(SplitSpec(), labels, contents, sources, classes)
    again = divided(SplitSpec(), labels, contents, sources, classes)
    other = divided(SplitSpec(seed=1), labels, contents, sources, classes)
    everything = np.concatenate(list(first.values()))
    assert sorted(everything) == list(range(200))
    assert all(np.array_equal(first[p], again[p]) for p in first)
    assert not np.array_equal(first["test"], other["test"])
    for part, share in (("test", 0.10), ("validation", 0.15), ("train", 0.75)):
        for label in range(4):
            wanted = share * (labels == label).sum()
            assert abs((labels[first[part]] == label).sum() - wanted) <= 1.01


OWN = {
    "train test": "The source has its own train and test; validation (15%) is taken from train.",
    "train val": "The source has its own train and validation; test (10%) is taken from train.",
    "train dev testing": "The source has its own train, validation and test.",
    "train test extra": "The source has its own train and test; "
    "validation (15%) is taken from train; its extra (100 images) is not used.",
    "train test added": "The source has its own train and test; "
    "validation (15%) is taken from train; images added here are divided by percentage.",
}


@pytest.mark.parametrize("names", OWN)
def test_the_parts_of_a_source_are_its_parts_by_default(names):
    labels, contents, _, classes = arrays()
    sources = np.array([names.split()[min(i // 50, names.count(" "))] for i in range(200)])
    parts = divided(SplitSpec(), labels, contents, sources, classes)
    where = {part: set(indices.tolist()) for part, indices in parts.items()}
    stay = {"val": "validation", "dev": "validation", "test": "test", "testing": "test"}
    for own, part in stay.items():
        assert set(np.flatnonzero(sources == own).tolist()) <= where[part]
    train = set(np.flatnonzero(sources == "train").tolist())
    for part in set(splits.PARTS) - {stay.get(name, name) for name in names.split()}:
        share = getattr(SplitSpec(), part) / 100
        assert abs(len(train & where[part]) - share * len(train)) <= 4
    used = set.union(*where.values())
    assert used == set(np.flatnonzero(sources != "extra").tolist())
    assert splits.in_words(SplitSpec(), sources) == OWN[names]


@pytest.mark.parametrize("names", ["train", "test", "train added", "train extra", "val test"])
def test_a_source_without_train_and_another_part_is_divided_by_percentage(names):
    labels, contents, _, classes = arrays()
    sources = np.array([names.split()[i % (1 + names.count(" "))] for i in range(200)])
    found = divided(SplitSpec(), labels, contents, sources, classes)
    wanted = divided(SplitSpec(method="stratified"), labels, contents, sources, classes)
    for part in splits.PARTS:
        assert np.array_equal(found[part], wanted[part])
    assert "not have both train and test parts" in splits.in_words(SplitSpec(), sources)


def test_stratified_mixes_the_parts_of_a_source_and_says_so():
    labels, contents, sources, classes = arrays()
    own = np.repeat(["train", "test"], [150, 50])
    spec = SplitSpec(method="stratified")
    mixed = divided(spec, labels, contents, own, classes)
    plain = divided(spec, labels, contents, sources, classes)
    assert all(np.array_equal(mixed[part], plain[part]) for part in splits.PARTS)
    assert "source's own test images may be trained on" in splits.in_words(spec, own)


def test_a_class_that_the_own_train_part_lacks_is_named_with_the_way_out():
    labels, contents, sources, classes = arrays()
    own = np.where(labels == 2, "test", sources)
    with pytest.raises(DatasetError, match="no training image is left for class 2.*stratified"):
        divided(SplitSpec(), labels, contents, own, classes)


def test_the_split_follows_content_and_copies_stay_together():
    labels, contents, sources, classes = arrays()
    parts = divided(SplitSpec(), labels, contents, sources, classes)
    order = np.random.default_rng(1).permutation(200)
    shuffled = divided(SplitSpec(), labels[order], contents[order], sources, classes)
    for part in parts:
        assert set(contents[parts[part]]) == set(contents[order][shuffled[part]])
    contents[100:] = contents[:100]  # every image twice, some under another label
    parts = divided(SplitSpec(), labels, contents, sources, classes)
    found = [set(contents[i]) for i in parts.values()]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])


@pytest.mark.parametrize("seed", range(4))
def test_what_was_there_before_keeps_its_part_when_images_are_added(seed):
    labels, contents, sources, classes = arrays(400, seed=seed)
    spec, old = SplitSpec(seed=seed, test=20, validation=20, train=60), 150
    generations = np.array([0] * old + [1] * 3 + [2] * 47 + [3] * 200)
    contents[-5:] = contents[:5]  # added again, perhaps under another label
    before = divided(spec, labels[:old], contents[:old], sources[:old], classes)
    after = divided(spec, labels, contents, sources, classes, generations)
    for part in before:
        assert np.array_equal(before[part], after[part][after[part] < old])
        assert set(np.flatnonzero(np.isin(contents[:5], contents[after[part]]))) == set(
            before[part][before[part] < 5]
        )
    for part, share in (("test", 0.2), ("validation", 0.2), ("train", 0.6)):
        for label in range(4):
            wanted = share * (labels == label).sum()
            assert abs((labels[after[part]] == label).sum() - wanted) <= 3


def test_moved_images_are_in_their_part_whatever_the_method():
    labels, contents, sources, classes = arrays()
    moved = np.full(200, "", "U10")
    moved[:8] = "test"
    slices = SplitSpec(
        method="slices", test="train[:10%]", validation="train[10%:25%]", train="train[25%:]"
    )
    for spec in (SplitSpec(), slices):
        parts = splits.move(divided(spec, labels, contents, sources, classes), moved)
        assert set(range(8)) <= set(parts["test"].tolist())
        assert sorted(np.concatenate(list(parts.values()))) == list(range(200))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"train": "train[5%:]"}, "share"), ({"test": "train[:0%]"}, "empty"),
     ({"test": "tset[:10%]"}, "no split 'tset'"), ({"test": "train[10%]"}, "not a slice")],
)  # fmt: skip
def test_bad_slices_get_a_sentence(changes, words):
    labels, contents, sources, classes = arrays()
    spec = load_preset("reference").split.model_copy(update=changes)
    with pytest.raises(DatasetError, match=words):
        divided(spec, labels, contents, sources, classes)


@pytest.mark.parametrize(
    "expression",
    ["train[:10%]", "train[10%:25%]", "train[25%:]", "train[-7:]", "train[3:8]+test", "test[33%:]"],
)
def test_slices_mean_what_tfds_means(expression):
    import tensorflow_datasets as tfds

    counts, starts = {"train": 347, "test": 91}, {"train": 0, "test": 347}
    sources = np.repeat(["train", "test"], [347, 91])
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[count], num_bytes=0)
        for name, count in counts.items()
    }
    wanted = []
    for part in tfds.core.ReadInstruction.from_spec(expression).to_absolute(infos):
        low = part.from_ or 0
        high = counts[part.splitname] if part.to is None else part.to
        wanted += [starts[part.splitname] + i for i in range(low, high)]
    assert splits._slice(expression, sources).tolist() == sorted(wanted)


def test_recipes_of_before_there_were_groups_keep_their_parts_exactly():
    # Such a recipe names every field that there was.
    of_before = {"method": "auto", "test": 10, "validation": 15, "train": 75, "seed": 0}
    spec = SplitSpec.model_validate(of_before)
    assert spec.group_by == "none" and SplitSpec().group_by == "copies"
    sets = ["split.method=auto", "split.seed=0"]
    assert all(load_preset(name, sets).split.group_by == "copies" for name in ("sample", "flowers"))
    kept = Recipe.from_dict({"stages": [{}], "split": of_before}).to_yaml()
    assert Recipe.from_yaml(kept).split == spec
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 60)
    contents = np.array([f"content-{i}" for i in random.integers(0, 50, 60)])
    parts = divided(
        spec, labels, contents, np.full(60, "train"), list("abcd"), np.repeat([0, 1, 2], 20)
    )
    assert {part: parts[part].tolist() for part in ("validation", "test")} == {
        "validation": [2, 5, 14, 22, 24, 25, 34, 56], "test": [0, 8, 15, 31, 54],
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_together_and_each_class_has_its_share(seed):
    random = np.random.default_rng(seed)
    labels, contents, sources, classes = arrays(600, seed=seed)
    groups = np.repeat(np.arange(600), random.integers(1, 6, 600))[:600]
    parts = divided(SplitSpec(seed=seed), labels, contents, sources, classes, groups=groups)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(600))
    found = [set(groups[rows].tolist()) for rows in parts.values()]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
    for part, share in (("test", 0.10), ("validation", 0.15), ("train", 0.75)):
        for label in range(4):
            wanted = share * (labels == label).sum()
            assert abs((labels[parts[part]] == label).sum() - wanted) <= 3


def test_added_images_join_the_part_of_their_group_and_move_no_earlier_one():
    labels, contents, sources, classes = arrays(400)
    random = np.random.default_rng(5)
    groups, old = random.integers(0, 150, 400), 150
    generations = np.array([0] * old + [1] * 50 + [2] * 200)
    at = (labels[:old], contents[:old], sources[:old], classes)
    before = divided(SplitSpec(), *at, groups=groups[:old])
    after = divided(SplitSpec(), labels, contents, sources, classes, generations, groups)
    for part in before:
        assert np.array_equal(before[part], after[part][after[part] < old])
        known = np.isin(groups, groups[before[part]])
        assert set(np.flatnonzero(known)) <= set(after[part])


def test_three_images_of_a_class_give_one_to_each_part():
    labels = np.repeat([0, 1, 2], 3)
    contents, classes = np.array([f"content-{i}" for i in range(9)]), list("abc")
    parts = divided(SplitSpec(), labels, contents, np.full(9, "train"), classes)
    assert all(np.bincount(labels[rows]).tolist() == [1, 1, 1] for rows in parts.values())


def test_few_large_groups_still_reach_each_part():
    # Four patients of 25 images in each class: 10% would be less than one patient.
    labels, groups = np.repeat([0, 1], 100), np.repeat(np.arange(8), 25)
    contents = np.array([f"content-{i}" for i in range(200)])
    parts = divided(SplitSpec(), labels, contents, np.full(200, "train"), list("ab"), groups=groups)
    assert {part: len(rows) for part, rows in parts.items()} == {
        "train": 100, "validation": 50, "test": 50,
    }  # fmt: skip
    assert all(set(labels[rows]) == {0, 1} for rows in parts.values())


NAMES = [f"{cls}/patient{p}/{cls}{p}_{i}.jpg" for cls in "ab" for p in range(6) for i in range(4)]


@pytest.mark.parametrize("group_by", ["folder", r"(patient\d+)/", r"[ab](\d)_"])
def test_names_and_folders_say_what_belongs_together(group_by):
    named = data_groups.keys(SplitSpec(group_by=group_by), NAMES, ("a", "b"))
    # One patient is in both classes.
    assert len(set(named)) == 6 and all(named[:4] == named[0]) and named[0] == named[24]


@pytest.mark.parametrize(
    ("group_by", "words"),
    [("patient", "write copies, folder, none"), ("(a", "is not valid"), ("(a)(b)", "2 groups"),
     ("(a+)+b", "may not be repeated")],
)  # fmt: skip
def test_a_wrong_pattern_gets_a_sentence(group_by, words):
    with pytest.raises(RecipeError, match=words):
        load_preset("sample", [f"split.group_by={group_by}"])


def test_a_pattern_that_fits_no_name_gets_a_sentence():
    with pytest.raises(DatasetError, match=r"no name has such a group .*a/patient0/a0_0.jpg"):
        data_groups.keys(SplitSpec(group_by="(camera.)"), NAMES, ("a", "b"))
    with pytest.raises(DatasetError, match="no image lies in a folder below its class"):
        data_groups.keys(SplitSpec(group_by="folder"), ["a/1.jpg", "b/2.jpg"], ("a", "b"))


def test_an_added_link_between_two_groups_joins_one_of_them():
    arrays = np.array(["x", "y", "z"]), np.full(3, "train"), np.array([0, 0, 1])
    images = splits.Images(np.zeros(3, int), *arrays)
    named = np.array(["scene1", "scene2", "scene2"])
    found = data_groups.joined(images, named, np.array([0, -1, 0])).groups
    assert found[0] != found[1] == found[2]


def _write(root, part, seeds, alter=lambda image: encode(image)):
    """Pictures of two classes into root/part."""
    for label, colour in enumerate(("red", "blue")):
        folder = root / part / colour
        folder.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            name = f"{seed}-{alter.__name__.strip('<>')}.jpg"
            (folder / name).write_bytes(alter(picture(seed=1000 * label + seed)))


def smaller(image):
    """A near copy."""
    return encode(image.resize((50, 40)), "JPEG", quality=70)


def test_near_copies_stay_in_one_part_and_are_looked_for_once(tmp_path, own_home):
    _write(tmp_path, "", range(12))
    _write(tmp_path, "", range(12), smaller)
    dataset = prepare_worker.ingest(DatasetSpec(source="folder", path=str(tmp_path)), own_home)
    assert len(dataset) == 48 and len(set(dataset.copies)) == 24
    parts = dataset.split(SplitSpec())
    assert all(set(np.bincount(dataset.copies[rows])) <= {0, 2} for rows in parts.values())
    assert "copies stay in one part" in dataset.division(SplitSpec())
    before = SplitSpec(group_by="none")
    alone = dataset.split(before)
    assert any(1 in np.bincount(dataset.copies[rows]) for rows in alone.values())
    assert "copies (the same or nearly the same image) of training" in dataset.division(before)

    # An earlier version prepared it without looking for copies.
    (dataset.path / "copies.npz").unlink()
    found = datasets.Dataset(dataset.path).copies
    assert np.array_equal(found, dataset.copies)
    shutil.rmtree(tmp_path / "red")
    assert np.array_equal(datasets.Dataset(dataset.path).copies, found)


def test_the_parts_of_a_source_are_kept_and_copies_across_them_are_named(tmp_path, own_home):
    _write(tmp_path, "train", range(12))
    _write(tmp_path, "test", range(3), smaller)
    _write(tmp_path, "test", range(20, 23))
    dataset = prepare_worker.ingest(DatasetSpec(source="folder", path=str(tmp_path)), own_home)
    assert len(dataset.split(SplitSpec())["test"]) == 12
    said = dataset.division(SplitSpec())
    assert "its own train and test" in said and "6 test images are copies" in said
