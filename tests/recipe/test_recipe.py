"""Recipes: what is accepted, what is refused, and with which words."""

import pytest

from engine.errors import RecipeError
from engine.recipe import (
    Recipe,
    all_fields,
    field_help,
    load,
    load_preset,
    preset_names,
    setting,
)


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_yaml(name):
    recipe = load_preset(name)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_yaml(recipe.to_yaml()).hash == recipe.hash


def test_reference_preset_is_faithful():
    recipe = load_preset("reference")
    first, second = recipe.stages
    assert (recipe.backbone.name, recipe.image_size, recipe.batch_size) == ("Xception", 224, 32)
    assert (recipe.resize, recipe.shuffle_buffer, recipe.augmentation.active) == (
        "plain",
        1000,
        False,
    )
    assert (recipe.split.test, recipe.split.validation, recipe.split.train) == (
        "train[:10%]", "train[10%:25%]", "train[25%:]",
    )  # fmt: skip
    assert (recipe.head.pooling, recipe.head.hidden, recipe.head.dropout) == ("avg", 0, 0)
    for stage, trainable, epochs, rate, decay in (
        (first, "none", 5, 0.2, 0.01), (second, "all", 10, 0.01, 0.001),
    ):  # fmt: skip
        assert (stage.trainable, stage.epochs) == (trainable, epochs)
        assert (stage.optimizer, stage.momentum) == ("sgd", 0.9)
        assert (stage.learning_rate, stage.schedule, stage.decay_rate) == (
            rate,
            "inverse_time",
            decay,
        )
    assert second.batch_norm == "update"


def test_every_field_has_help_and_every_number_has_bounds():
    fields = all_fields()
    assert len(fields) > 40
    for field in fields:
        assert field["help"].endswith((".", "model", "none")) and len(field["help"]) > 15, field[
            "path"
        ]
        if isinstance(field["default"], (int, float)) and not isinstance(field["default"], bool):
            assert field["minimum"] is not None and field["maximum"] is not None, field["path"]
    assert field_help("stages.0.epochs") == "Passes over the training images. (1 to 1000 epochs)"


@pytest.mark.parametrize(
    ("setting", "path", "words"),
    [
        ("stages.0.epochs=5000", "stages.0.epochs", "at most 1000; 5000 was given"),
        ("stages.0.trainable=some", "stages.0.trainable", "last N blocks"),
        ("stages.0.learning_rate=.nan", "stages.0.learning_rate", "finite"),
        ("stages.1.name=frozen", "", "two stages are named 'frozen'"),
        ("split.test=50", "split", "add up to 100"),
        ("backbne=3", "backbne", "did you mean backbone?"),
        ("stages.9.epochs=1", "stages.9.epochs", "no '9'"),
        ("backbone.weights=imagenet", "backbone", "GraftSmall has no ImageNet weights"),
        ("dataset={source: tfds}", "dataset", "tf_flowers"),
        ("image_size=16", "image_size", "at least 32"),
        ("novalue", "", "must look like"),
        ("seed=[1", "", "not valid YAML"),
    ],
)
def test_bad_settings_get_a_sentence_at_the_field(setting, path, words):
    with pytest.raises(RecipeError) as caught:
        load_preset("sample", [setting])
    assert words in caught.value.problems[path]


def test_settings_take_json_and_scientific_numbers():
    recipe = load_preset("sample", [
        'stages=[{"name": "only", "trainable": "last 2 blocks", "epochs": 2, '
        '"learning_rate": 1e-4}]',
        "augmentation=none",
    ])  # fmt: skip
    assert [s.name for s in recipe.stages] == ["only"]
    assert recipe.stages[0].learning_rate == 1e-4
    assert not recipe.augmentation.active


@pytest.mark.parametrize("text", ["", "- a\n- b", "name: [", "just words", "stages: 3", "\x00"])
def test_text_that_is_no_recipe_gets_a_sentence(text):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(text)
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) > 10


def test_the_hash_ignores_the_name_and_nothing_else():
    recipe = load_preset("sample")
    assert load_preset("sample", ["name=other"]).hash == recipe.hash
    assert load_preset("sample", ["seed=1"]).hash != recipe.hash


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match="neither a preset"):
        load(str(tmp_path / "none.yaml"))
    binary = tmp_path / "x.yaml"
    binary.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(RecipeError, match="not a text file"):
        load(str(binary))


@pytest.mark.parametrize(
    "text",
    ["yes", "123", "null", "~", "no: yes", "a # b", "[a", "{x}", '"quoted"', "it's", "a=b", "1e3"],
)
def test_a_text_field_takes_the_text_as_it_is(text):
    recipe = load_preset("sample", [f"name={text}", f"description={text}"])
    assert (recipe.name, recipe.description) == (text, text)
    assert load_preset("sample", [setting("name", text)]).name == text


def test_a_path_with_a_hash_is_not_cut_and_other_fields_are_still_yaml():
    recipe = load_preset("sample", ["dataset.source=folder", "dataset.path=/a/b#c:d # e"])
    assert recipe.dataset.path == "/a/b#c:d # e"
    recipe = load_preset("sample", ["batch_size=8 # images", "split.test=12.5", "split.train=72.5"])
    assert (recipe.batch_size, recipe.split.test) == (8, 12.5)
    recipe = load_preset("sample", ["backbone.weights=null", "augmentation=none"])
    assert recipe.backbone.weights == "builtin" and not recipe.augmentation.active


def test_addresses_of_earlier_versions_have_texts_as_json():
    sets = ["dataset.source=tfds", 'dataset.name="tf_flowers"', 'stages.0.name="a b"']
    recipe = load_preset("sample", sets)
    assert (recipe.dataset.name, recipe.stages[0].name) == ("tf_flowers", "a b")


def test_a_path_is_understood_as_a_file_manager_copies_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, meant in {
        "'/a/b c'": "/a/b c", '"C:\\photos"': "C:\\photos", "file:///a/b%20c": "/a/b c",
        " /a/b ": "/a/b", "'file:///a'": "/a", "/a's": "/a's", "'a' 'b'": "'a' 'b'",
    }.items():  # fmt: skip
        sets = ["dataset.source=folder", f"dataset.path={given}"]
        assert load_preset("sample", sets).dataset.path == meant
    for name in ("'really named so'", "ends with a space "):
        (tmp_path / name).mkdir()
        sets = ["dataset.source=folder", f"dataset.path={name}"]
        assert load_preset("sample", sets).dataset.path == name


def test_a_path_that_is_not_utf8_is_refused_in_a_sentence():
    with pytest.raises(RecipeError, match="not UTF-8; rename the file or folder"):
        load_preset("sample", ["dataset.source=folder", "dataset.path=/tmp/\udce9lan"])
