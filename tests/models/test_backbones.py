import subprocess
import sys

import pytest

from engine.errors import BackboneError
from engine.models import backbones

PRETRAINED = [(n, a) for n, a in backbones.variants() if n != "GraftSmall"]


def test_every_keras_application_is_in_the_catalogue():
    import keras

    classes = {n for n in dir(keras.applications) if n[0].isupper()}
    assert classes == set(backbones.names()) - {"GraftSmall"}


def test_the_light_modules_leave_keras_alone():
    code = (
        "import sys, engine.models.backbones, engine.models.freezing, engine.recipe.schedules;"
        "engine.models.backbones.catalogue();"
        "sys.exit(any(m in sys.modules for m in ('keras', 'tensorflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_entry_is_complete_and_consistent():
    for name, alpha in PRETRAINED:
        entry, blocks = backbones.get(name, alpha), backbones.blocks(name, alpha)
        assert entry.params == sum(b.params for b in blocks)
        assert entry.preprocessing in ("tf", "torch", "caffe", "included")
        assert 50 < entry.top1 < 90 and entry.source.startswith("https://")
        assert entry.weights_file.endswith(".h5")
        assert entry.min_image_size <= entry.image_size
        assert entry.default_alpha is None or entry.default_alpha in entry.alphas


def test_blocks_are_few_enough_to_read_and_name_each_layer_once():
    for name, alpha in PRETRAINED:
        blocks = backbones.blocks(name, alpha)
        assert 5 <= len(blocks) <= 81
        layers = [layer.name for block in blocks for layer in block.layers]
        assert len(set(layers)) == len(layers)
        assert len({b.name for b in blocks}) == len(blocks)


@pytest.mark.parametrize(
    "name, alpha, first, last, count",
    [
        ("GraftSmall", None, "stem", "top", 8),
        ("MobileNetV2", 0.35, "stem", "top", 19),
        ("ResNet50", None, "stem", "conv5_block3", 17),
        ("Xception", None, "block1", "block14", 14),
        ("VGG16", None, "block1", "block5", 5),
        ("InceptionV3", None, "stem", "mixed10", 12),
        ("InceptionResNetV2", None, "stem", "top", 45),
        ("EfficientNetB0", None, "stem", "top", 18),
        ("ConvNeXtTiny", None, "stem", "top", 23),
        ("NASNetMobile", None, "stem", "cell_12", 17),
    ],
)
def test_blocks_are_the_familys_own_units(name, alpha, first, last, count):
    names = [block.name for block in backbones.blocks(name, alpha)]
    assert (names[0], names[-1], len(names)) == (first, last, count)


@pytest.mark.parametrize(
    "name, alpha",
    [("GraftSmall", None), ("MobileNetV2", 0.35), ("MobileNetV3Small", 0.75), ("VGG16", None)],
)
def test_the_data_agrees_with_freshly_built_networks(name, alpha):
    from engine.models import make_catalogue

    entry = backbones.get(name, alpha)
    model = make_catalogue.build_plain(name, alpha)
    assert make_catalogue.read_blocks(model, entry.family) == backbones.blocks(name, alpha)
    assert (model.count_params(), model.output_shape[-1]) == (entry.params, entry.features)
    usual = entry.image_size
    assert make_catalogue.weights_file(name, alpha, usual) == entry.weights_file


@pytest.mark.parametrize("name", [n for n in backbones.names() if n != "GraftSmall"])
def test_keras_names_the_same_smallest_image_size(name):
    import keras

    smallest = backbones.get(name).min_image_size
    below = (smallest - 1, smallest - 1, 3)
    # Keras refuses before it builds anything, so all families can be asked.
    with pytest.raises(ValueError, match=f"at least {smallest}x{smallest}"):
        getattr(keras.applications, name)(weights=None, include_top=False, input_shape=below)


def test_figures_are_for_the_width_asked_for():
    narrow, default = backbones.get("MobileNetV2", 0.35), backbones.get("MobileNetV2")
    assert (narrow.alpha, default.alpha) == (0.35, 1.0)
    assert narrow.params == 410_208 and default.params == 2_257_984
    assert narrow.top1 < default.top1
    assert narrow.title == "MobileNetV2 0.35"


@pytest.mark.parametrize(
    "name, alpha, words",
    [
        ("MobilNetV2", None, "did you mean MobileNetV2"),
        ("resnet50", None, "did you mean ResNet50"),
        ("qqqq", None, "known are GraftSmall"),
        ("MobileNetV2", 0.4, "must be one of 0.35, 0.5, 0.75, 1, 1.3, 1.4; 0.4 was given"),
        ("Xception", 0.5, "must be left out; 0.5 was given"),
    ],
)
def test_a_wrong_name_or_width_is_answered_with_what_is_right(name, alpha, words):
    with pytest.raises(BackboneError) as caught:
        backbones.get(name, alpha)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(BackboneError):
        backbones.blocks(name, alpha)


def test_blocks_survive_json():
    blocks = backbones.blocks("MobileNetV3Small", 0.75)
    assert backbones.blocks_from_json(backbones.blocks_to_json(blocks)) == blocks


def test_weights_path_follows_keras_home_and_the_image_size(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = backbones.weights_path("MobileNetV2", 0.35, 224)
    assert path.parent == tmp_path / "models"
    assert path.name == "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    assert "_0.35_96_" in backbones.weights_path("MobileNetV2", 0.35, 96).name
    assert "_0.35_224_" in backbones.weights_path("MobileNetV2", 0.35, 100).name
    assert backbones.weights_path("GraftSmall") is None


def test_the_built_in_backbone_is_listed_first_and_needs_no_download():
    entry = backbones.catalogue()[0]
    assert entry.name == "GraftSmall" and entry.weights_file is None and entry.top1 is None
    assert entry.params == sum(b.params for b in backbones.blocks("GraftSmall")) > 0
