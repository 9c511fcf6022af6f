"""The built-in sample and the built-in backbone."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np

from engine.data.sources import sample
from engine.images import decode
from engine.models.builtin import network, source_task
from tests.support import ROOT
from tests.support.pictures import encode


def test_the_sample_is_repeatable_balanced_and_decodable():
    first, again = list(sample.generate(50)), list(sample.generate(50))
    assert first == again
    assert list(sample.generate(5, seed=1)) != first[:5]
    assert np.bincount([label for _, label, _ in first]).tolist() == [10] * 5
    assert len({data for _, _, data in first}) == 50
    for name, label, data in first:
        assert name.startswith(sample.CLASSES[label])
        width, height, format, bits = decode.info(data)
        assert 96 <= width <= 128 and 96 <= height <= 128 and (format, bits) == ("PNG", 0)


def test_render_depends_on_nothing_but_its_seed():
    assert encode(sample.render(2, 7)) == encode(sample.render(2, 7))
    assert encode(sample.render(2, 7)) != encode(sample.render(2, 8))


def test_the_beginning_of_a_dataset_does_not_depend_on_its_length():
    few, many = sample.generate(5), sample.generate(30_000)
    assert [next(many) for _ in range(5)] == list(few)


def test_another_process_draws_the_same():
    # PYTHONHASHSEED differs from process to process: nothing may depend on hash().
    code = (
        "import hashlib; from engine.data.sources import sample; import sys; "
        "print(hashlib.sha256(b''.join(d for *_, d in sample.generate(10))).hexdigest()); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    here = hashlib.sha256(b"".join(d for *_, d in sample.generate(10))).hexdigest()
    for hash_seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": hash_seed})  # fmt: skip
        assert done.stdout.strip() == here, done.stderr


def test_the_sample_says_that_it_is_generated():
    assert "generated" in sample.DESCRIPTION.lower() and "not photos" in sample.DESCRIPTION


def test_colour_alone_does_not_tell_the_classes():
    pixels = [decode.load(data, 96) for _, _, data in sample.generate(300)]
    colours = np.array([[*p.mean((0, 1)), *p.std((0, 1)), 255] for p in pixels]) / 255
    labels = np.arange(300) % 5
    # A linear classifier by least squares; by chance, five classes give 20%.
    weights = np.linalg.lstsq(colours[:200], np.eye(5)[labels[:200]], rcond=None)[0]
    assert np.mean((colours[200:] @ weights).argmax(1) == labels[200:]) < 0.5


def test_the_source_task_is_another_task():
    assert len(source_task.CLASSES) > 40 and not set(source_task.CLASSES) & set(sample.CLASSES)
    assert encode(source_task.render(3, 1)) == encode(source_task.render(3, 1))


def test_the_weights_are_those_of_the_log():
    log = json.loads((network.WEIGHTS.parent / "pretrain_log.json").read_text())
    content = network.WEIGHTS.read_bytes()
    assert hashlib.sha256(content).hexdigest() == log["weights_sha256"]
    assert len(content) < 1_500_000
    model = network.build()
    before = model.get_weights()
    network.load_weights(model)
    assert model.count_params() == log["parameters"]
    assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_network_takes_any_size_and_names_its_blocks():
    model = network.build((None, None, 3))
    assert model.name == "GraftSmall"
    assert 200_000 < model.count_params() < 280_000
    assert model(np.zeros((1, 32, 48, 3), np.float32)).shape == (1, 2, 3, 256)
    assert all("_" in layer.name for layer in model.layers if layer.weights)
