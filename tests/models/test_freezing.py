from types import SimpleNamespace

import pytest

from engine.errors import RecipeError
from engine.models import backbones
from engine.models.backbones import Block, Layer
from engine.models.freezing import freeze_map, head_params, trainable_names

BLOCKS = (
    Block("stem", (Layer("conv", 90, False, 90), Layer("conv_bn", 12, True, 6))),
    Block("block_1", (Layer("b1_dw", 50, False, 50), Layer("b1_bn", 8, True, 4),
                      Layer("b1_pw", 40, False, 40))),
    Block("top", (Layer("top_bn", 8, True, 4),)),
)  # fmt: skip


def stage(trainable, batch_norm="keep"):
    return SimpleNamespace(trainable=trainable, batch_norm=batch_norm)


@pytest.mark.parametrize(
    "spec, batch_norm, names",
    [
        ("none", "update", ""),
        ("all", "keep", "conv b1_dw b1_pw"),
        ("all", "update", "conv conv_bn b1_dw b1_bn b1_pw top_bn"),
        ("last 1 block", "update", "top_bn"),
        ("last 1 blocks", "keep", ""),
        ("last 2 blocks", "update", "b1_dw b1_bn b1_pw top_bn"),
        ("last 3 blocks", "keep", "conv b1_dw b1_pw"),
        ("from b1_bn", "update", "b1_bn b1_pw top_bn"),
        ("from b1_bn", "keep", "b1_pw"),
        ("from block_1", "update", "b1_dw b1_bn b1_pw top_bn"),
    ],
)
def test_the_grammar(spec, batch_norm, names):
    assert trainable_names(BLOCKS, spec, batch_norm) == set(names.split())


@pytest.mark.parametrize(
    "spec, words",
    [
        ("last 4 blocks", "N from 1 to 3, the blocks of this backbone; 4 was given"),
        ("from b1_d", "'b1_d' is none; did you mean b1_dw"),
        ("from block_2", "did you mean block_1"),
        ("from zzz", "blocks are stem, block_1, top … top"),
        ("some", "must be none, all, last N blocks, or from LAYER; 'some' was given"),
        ("last 0 blocks", "must be none, all"),
    ],
)
def test_a_wrong_spec_gets_one_helpful_sentence(spec, words):
    with pytest.raises(RecipeError) as caught:
        trainable_names(BLOCKS, spec)
    assert words in caught.value.problems["trainable"]


def test_the_map_says_what_each_block_does_in_each_stage():
    rows = freeze_map(BLOCKS, [stage("none"), stage("from b1_pw", "update")], 10)
    assert [(r.name, r.kind) for r in rows] == [
        ("stem", "block"), ("block_1", "block"), ("top", "block"), ("head", "head"),
        ("total", "total")]  # fmt: skip
    first, second = ([r.cells[i] for r in rows] for i in (0, 1))
    assert [c.state for c in first] == ["frozen", "frozen", "frozen", "trainable", "partly"]
    assert [c.batch_norm for c in first] == ["keep", "keep", "keep", "none", "keep"]
    assert [c.state for c in second] == ["frozen", "partly", "trainable", "trainable", "partly"]
    assert [c.batch_norm for c in second] == ["keep", "keep", "update", "none", "update"]
    assert [c.trainable for c in second] == [0, 40, 4, 10, 54]
    assert [c.frozen for c in second] == [102, 58, 4, 0, 164]


def test_kept_batch_norm_does_not_make_a_block_partly_trainable():
    rows = freeze_map(BLOCKS, [stage("all")], 10)
    assert [r.cells[0].state for r in rows] == [
        "trainable", "trainable", "frozen", "trainable", "partly"]  # fmt: skip


@pytest.mark.parametrize("spec", ["none", "last 2 blocks", "from block_13", "all"])
def test_counts_add_up_for_a_real_backbone(spec):
    blocks = backbones.blocks("MobileNetV2", 0.35)
    head = head_params(1280, 0, 5)
    *rows, total = freeze_map(blocks, [stage(spec), stage(spec, "update")], head)
    for i in (0, 1):
        assert sum(r.cells[i].trainable for r in rows) == total.cells[i].trainable
        assert total.cells[i].trainable + total.cells[i].frozen == total.params
    assert total.params == 410_208 + head == 416_613


def test_an_error_in_the_map_names_the_stage():
    with pytest.raises(RecipeError) as caught:
        freeze_map(BLOCKS, [stage("none"), stage("last 9 blocks")], 1)
    assert list(caught.value.problems) == ["stages.1.trainable"]


def test_head_params_counts_weights_and_biases():
    assert head_params(1280, 0, 5) == 1280 * 5 + 5
    assert head_params(1280, 64, 5) == 1280 * 64 + 64 + 64 * 5 + 5
