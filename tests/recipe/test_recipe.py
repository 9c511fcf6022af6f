"""Recipes: what is accepted, what is refused, and with which words."""

import pytest

from engine.errors import RecipeError
from engine.recipe import Recipe, all_fields, field_help, load, load_preset, preset_names


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
