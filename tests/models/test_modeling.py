import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from engine.errors import BackboneError, RecipeError
from engine.models import backbones, freezing, modeling, optimizers
from engine.recipe import Recipe, StageSpec
from tests.support import ROOT

CLASSES = ["a", "b", "c"]
PHOTOS = np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)).astype("float32")
LABELS = keras.utils.to_categorical(np.arange(8) % 3, 3)
MODULES = {
    "MobileNet": "mobilenet", "MobileNetV2": "mobilenet_v2", "MobileNetV3": "mobilenet_v3",
    "EfficientNet": "efficientnet", "EfficientNetV2": "efficientnet_v2", "Xception": "xception",
    "ResNet": "resnet", "ResNetV2": "resnet_v2", "DenseNet": "densenet", "ConvNeXt": "convnext",
    "InceptionV3": "inception_v3", "InceptionResNetV2": "inception_resnet_v2",
    "NASNet": "nasnet", "VGG": "vgg16",
}  # fmt: skip


def recipe(name="MobileNetV2", alpha=0.35, weights="none", size=64, **head):
    spec = {"name": name, "alpha": alpha, "weights": weights}
    return Recipe.from_dict({"backbone": spec, "image_size": size, "head": head, "stages": [{}]})


def built(*args, home=None, **kwargs):
    return modeling.build(recipe(*args, **kwargs), CLASSES, home)


def values(layers):
    return {w.path: np.array(w) for layer in layers for w in layer.weights}


def awake(network, pixels):
    """Fits the moving statistics to the pixels: untrained, the answers hardly depend on them."""
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum, norm.before = 0.0, norm.momentum
    network(pixels, training=True)
    for norm in norms:
        norm.momentum = norm.before
    return network


@pytest.fixture(scope="module")
def shared():
    """A MobileNetV2 whose weights tests may change."""
    keras.utils.set_random_seed(1)
    bundle = built()
    awake(bundle.backbone, PHOTOS / 127.5 - 1)
    return bundle


@pytest.fixture(scope="module")
def small():
    """A GraftSmall without weights, quicker to fit."""
    return built("GraftSmall", None)


# -- the model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MODULES)
def test_preprocessing_in_the_graph_equals_the_familys_own(family):
    entry = next(b for b in backbones.catalogue() if b.family == family)
    pixels = keras.Input((64, 64, 3))
    model = keras.Model(pixels, modeling.preprocess(pixels, entry.preprocessing))
    module = getattr(keras.applications, MODULES[family])
    expected = module.preprocess_input(PHOTOS.copy())
    np.testing.assert_allclose(model(PHOTOS), expected, atol=3e-5 if expected.max() > 9 else 2e-6)


def test_the_model_goes_from_pixels_to_probabilities(shared):
    model = shared.model
    assert model.input.name == "pixels" and model.input_shape == (None, 64, 64, 3)
    answer = model.predict(PHOTOS, verbose=0)
    assert answer.shape == (8, 3) and answer.dtype == np.float32
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-6)
    assert model.layers[-1].name == "probabilities"
    assert model.get_layer(shared.backbone.name) is shared.backbone
    # The same as doing it by hand with Keras' own pieces.
    by_hand = keras.applications.mobilenet_v2.preprocess_input(PHOTOS.copy())
    by_hand = keras.ops.mean(shared.backbone(by_hand, training=False), axis=(1, 2))
    features = modeling.inference_model(shared)(PHOTOS)[1]
    np.testing.assert_allclose(features, by_hand, atol=1e-4)


def test_the_head_is_built_as_the_recipe_says():
    bundle = built(pooling="max", hidden=16, dropout=0.5)
    names = [layer.name for layer in bundle.model.layers]
    assert names[-5:] == ["features", "hidden", "dropout", "logits", "probabilities"]
    assert isinstance(bundle.model.get_layer("features"), keras.layers.GlobalMaxPooling2D)
    made = modeling.architecture(bundle)["params"]
    assert made["head"] == freezing.head_params(1280, 16, 3)
    assert made["backbone"] == backbones.get("MobileNetV2", 0.35).params
    without = [layer.name for layer in built(dropout=0).model.layers]
    assert "dropout" not in without and "hidden" not in without


def test_a_saved_model_loads_in_safe_mode_and_answers_the_same(shared, tmp_path):
    shared.model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", safe_mode=True)
    before, after = (m.predict(PHOTOS, verbose=0) for m in (shared.model, loaded))
    np.testing.assert_array_equal(before, after)
    assert np.ptp(before, axis=0).max() > 1e-4  # the answers differ from photo to photo


def test_caffe_preprocessing_and_convnexts_own_layers_load_in_safe_mode(tmp_path):
    # VGG brings the channel flip; ConvNeXt, with layers of its own, is the odd one among families.
    for name, size in (("VGG16", 32), ("ConvNeXtTiny", 32)):
        bundle = built(name, None, size=size)
        bundle.model.save(tmp_path / "m.keras")
        loaded = keras.models.load_model(tmp_path / "m.keras", safe_mode=True)
        small = PHOTOS[:2, :size, :size]
        np.testing.assert_allclose(bundle.model(small), loaded(small), atol=1e-6)


def test_the_inference_model_has_three_outputs_in_order(shared):
    answer, features, feature_map = modeling.inference_model(shared).predict(PHOTOS, verbose=0)
    np.testing.assert_array_equal(answer, shared.model.predict(PHOTOS, verbose=0))
    assert features.shape == (8, 1280) and feature_map.shape == (8, 2, 2, 1280)
    np.testing.assert_allclose(feature_map.mean((1, 2)), features, atol=1e-5)
    head = shared.model.get_layer("logits")
    np.testing.assert_allclose(keras.ops.softmax(head(features)), answer, atol=1e-6)


def test_outputs_stay_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        bundle = built(size=32, hidden=8)
        assert bundle.backbone.layers[1].compute_dtype == "bfloat16"
        assert [o.dtype for o in modeling.inference_model(bundle).outputs] == ["float32"] * 3
    finally:
        keras.config.set_dtype_policy(before)


def test_automatic_layer_names_follow_the_block_table_on_every_build():
    table = [x.name for b in backbones.blocks("Xception") for x in b.layers]
    for _ in range(2):  # Keras counts conv2d, conv2d_4, … on through the process
        bundle = built("Xception", None, size=71)
        leaves = modeling.leaf_layers(bundle.backbone)
        assert sorted(x.name for x in leaves if x.weights) == sorted(table)


def test_an_image_size_the_backbone_cannot_take_is_refused():
    with pytest.raises(RecipeError, match="at least 71 for Xception; 64 was given") as caught:
        built("Xception", None, size=64)
    assert list(caught.value.problems) == ["image_size"]


# -- what learns ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["none", "last 3 blocks", "from block_13", "all"])
@pytest.mark.parametrize("batch_norm", ["keep", "update"])
def test_a_stage_sets_exactly_what_the_freeze_map_says(shared, spec, batch_norm):
    stage = StageSpec(trainable=spec, batch_norm=batch_norm)
    done = modeling.apply_stage(shared, stage)
    total = freezing.freeze_map(shared.blocks, [stage], freezing.head_params(1280, 0, 3))[-1]
    assert done["trainable_params"] == total.cells[0].trainable
    assert done["frozen_params"] == total.cells[0].frozen
    names = freezing.trainable_names(shared.blocks, spec, batch_norm)
    assert set(done["trainable_layers"]) == names


def fit(bundle, stage):
    modeling.apply_stage(bundle, stage)
    # Without XLA, which takes longer to compile here than everything else together.
    bundle.model.compile(
        optimizers.optimizer(stage, 2), "categorical_crossentropy", jit_compile=False
    )
    frozen = modeling.frozen_digests(bundle)
    norms = [x for x in bundle.backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
    others = [x for x in bundle.backbone.layers if x.weights and x not in norms]
    before = values(norms), values(others)
    bundle.model.fit(PHOTOS, LABELS, batch_size=4, epochs=1, verbose=0)
    after = values(norms), values(others)
    assert modeling.frozen_digests(bundle) == frozen
    pairs = zip(before, after, strict=True)
    changed = [{k for k in b if not np.array_equal(b[k], a[k])} for b, a in pairs]
    return *changed, frozen


def test_kept_batch_norm_stays_bit_identical_while_everything_else_learns(shared):
    norms, others, frozen = fit(shared, StageSpec(trainable="all", batch_norm="keep"))
    assert not norms and len(others) == 52
    assert len(frozen) == 4 * 52  # every number of the 52 batch-normalization layers


def test_updated_batch_norm_does_change(small):
    norms, others, frozen = fit(small, StageSpec(trainable="all", batch_norm="update"))
    assert len({n for n in norms if "moving" in n}) == 2 * 8 and len(others) == 8
    assert not frozen


def test_a_frozen_stage_changes_nothing_of_the_backbone(small):
    norms, others, frozen = fit(small, StageSpec(trainable="none", batch_norm="update"))
    assert not norms and not others and len(frozen) == 5 * 8


def test_only_the_last_blocks_change(small):
    norms, others, _ = fit(small, StageSpec(trainable="last 2 blocks", batch_norm="update"))
    assert len(others) == 2 and all(n.startswith(("block6_", "top_")) for n in others)
    assert all(n.startswith(("block6_", "top_")) for n in norms) and norms


# -- where weights come from --------------------------------------------------------------------


def test_a_backbone_comes_out_of_a_finished_run(shared, tmp_path):
    folder = tmp_path / "runs" / "r1"
    folder.mkdir(parents=True)
    modeling.apply_stage(shared, StageSpec(trainable="none"))
    shared.model.save(folder / "final.keras")
    (folder / "architecture.json").write_text(json.dumps(modeling.architecture(shared)))
    for size in (64, 96):
        bundle = built("run:r1", None, "run", size=size, home=tmp_path)
        assert bundle.blocks == shared.blocks and bundle.preprocessing == "tf"
        assert bundle.model.input_shape == (None, size, size, 3)
        for ours, theirs in zip(bundle.backbone.weights, shared.backbone.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        done = modeling.apply_stage(bundle, StageSpec(trainable="all", batch_norm="update"))
        assert len(done["trainable_layers"]) == 104
    described = modeling.architecture(bundle)["backbone"]
    assert described["origin"] == "run:r1" and described["name"] == "MobileNetV2"


@pytest.mark.parametrize("run", ["missing", "../../etc"])
def test_a_missing_run_is_one_sentence(run, tmp_path):
    with pytest.raises(BackboneError, match="needs a finished run with that ID"):
        built(f"run:{run}", None, "run", home=tmp_path)


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_weights_come_from_a_local_file(shared, tmp_path, suffix):
    file = tmp_path / f"mine{suffix}"
    if suffix == ".weights.h5":
        shared.backbone.save_weights(file)
    else:  # .h5 holds the backbone, .keras the whole classifier with the backbone nested in it
        (shared.backbone if suffix == ".h5" else shared.model).save(file)
    bundle = built(weights=str(file))
    for ours, theirs in zip(bundle.backbone.weights, shared.backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_that_is_missing_or_does_not_fit_is_one_sentence(shared, tmp_path):
    shared.backbone.save_weights(tmp_path / "other.weights.h5")
    shared.model.save(tmp_path / "other.keras")
    (tmp_path / "broken.keras").write_bytes(b"no")
    (tmp_path / "notes.txt").write_text("no")
    for name, words in [
        ("absent.h5", "there is no file"),
        ("notes.txt", "must end in .weights.h5, .h5 or .keras"),
        ("broken.keras", "broken.keras is not used: it is neither a .keras file"),
        ("other.weights.h5", "do not fit MobileNetV2 0.5 without its top"),
        ("other.keras", "no part of it has the same weights"),
    ]:
        with pytest.raises(BackboneError) as caught:
            built(alpha=0.5, weights=str(tmp_path / name))
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_efficientnet_from_a_file_scales_its_input_as_with_imagenet(monkeypatch, tmp_path):
    plain = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    norm = next(x for x in plain.layers if isinstance(x, keras.layers.Normalization))
    norm.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.05, 0.06, 0.07]), np.array(1)])
    file = tmp_path / "e.weights.h5"
    plain.save_weights(file)
    ours = built("EfficientNetB0", None, str(file), size=32)
    # Keras' own ImageNet network, given the same file in place of the download.
    from keras.src.utils import file_utils

    monkeypatch.setattr(file_utils, "get_file", lambda *a, **k: str(file))
    theirs = keras.applications.EfficientNetB0(include_top=False, input_shape=(32, 32, 3))
    scaled = [
        keras.Model(m.input, m.get_layer("stem_conv_pad").output)(PHOTOS[:, :32, :32])
        for m in (ours.backbone, theirs)
    ]
    np.testing.assert_allclose(*scaled, rtol=1e-5, atol=1e-5)


def test_the_built_in_backbone_brings_its_weights():
    from engine.models.builtin import network

    if not network.WEIGHTS.exists():
        pytest.skip(f"{network.WEIGHTS.name} is not there yet")
    bundle, plain = built("GraftSmall", None, "builtin", size=96), network.build()
    network.load_weights(plain)
    for ours, theirs in zip(bundle.backbone.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    small = PHOTOS[:, :32, :32]
    assert built("GraftSmall", None, "builtin", size=32).model(small).shape == (8, 3)


def test_no_network_is_one_sentence_that_names_the_ways_out(tmp_path):
    code = """
from engine.models import modeling
from engine.errors import BackboneError
from engine.recipe import Recipe
for alpha in (0.35, 0.5):
    spec = {"name": "MobileNetV2", "alpha": alpha, "weights": "imagenet"}
    recipe = Recipe.from_dict({"backbone": spec, "image_size": 224, "stages": [{}]})
    try:
        modeling.build(recipe, ["a", "b"])
    except BackboneError as error:
        print("SAID", error)
"""
    file = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / file.format("0.5")).write_bytes(b"half a download")
    nowhere = "http://127.0.0.1:9"  # a proxy that refuses, so that the test never goes out
    environment = os.environ | {"KERAS_HOME": str(tmp_path), "https_proxy": nowhere}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"HTTPS_PROXY": nowhere, "no_proxy": "", "NO_PROXY": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    missing, damaged = [x for x in done.stdout.splitlines() if x.startswith("SAID")]
    assert "could not be downloaded" in missing and file.format("0.35") in missing
    assert "does not load" in damaged and "remove it" in damaged
    for sentence in (missing, damaged):
        assert str(tmp_path / "models") in sentence
        assert "backbone.weights" in sentence and "GraftSmall" in sentence


def test_real_imagenet_weights_give_keras_own_features():
    file = backbones.weights_path("MobileNetV2", 0.35, 224)
    if not os.environ.get("KERAS_HOME") or not file.exists():
        pytest.skip(f"set KERAS_HOME to a folder with models/{file.name}")
    bundle = built(weights="imagenet", size=224)
    theirs = keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), alpha=0.35, include_top=False, pooling="avg"
    )
    photos = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    scaled = keras.applications.mobilenet_v2.preprocess_input(photos.copy())
    features = modeling.inference_model(bundle)(photos)[1]
    np.testing.assert_allclose(features, theirs(scaled), atol=1e-4)
    assert np.std(features) > 0.05


def test_a_rebuilt_model_answers_alike():
    """EfficientNet stores numbers for input scaling; building it again would lose them."""
    bundle = built("EfficientNetB0", None)
    norm = next(x for x in bundle.backbone.layers if isinstance(x, keras.layers.Normalization))
    scale = [np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4]), *norm.get_weights()[2:]]
    norm.set_weights(scale)
    norm.finalize_state()
    awake(bundle.backbone, PHOTOS)
    rebuilt = modeling.rebuilt(bundle, recipe().head)
    ours, theirs = (np.array(modeling.inference_model(b)(PHOTOS)[1]) for b in (rebuilt, bundle))
    assert np.abs(ours - theirs).max() < 1e-5
    assert theirs.std(axis=0).max() > 0.05
