"""A run from recipe to result: what is kept, what is frozen, what is reported."""

import json
import os

import numpy as np
import pytest

from engine.data.datasets import open_dataset
from engine.jobs import jobs
from engine.predict import calibration, evaluation
from engine.predict.classifier import Classifier
from engine.runs import runs
from tests.support.pictures import encode, picture
from tests.support.real_data import real_data
from tests.support.training import events, train, trained


@pytest.fixture(scope="module")
def diverging_run(graft_home):
    """Three stages: a good one, one that explodes, and one after it."""
    return train(
        graft_home,
        'stages=[{"name": "good", "epochs": 1, "learning_rate": 0.003},'
        '{"name": "explodes", "trainable": "all", "batch_norm": "update", "epochs": 2, '
        '"optimizer": "sgd", "learning_rate": 10},'
        '{"name": "after", "trainable": "last 1 block", "epochs": 1, "learning_rate": 0.0005}]',
        "augmentation={rotation: 10, zoom: 0.1, contrast: 0.1, brightness: 0.05, "
        "translation: 0.05}",
        "head.hidden=16", "head.label_smoothing=0.1", "class_weights=balanced", "name=Exploding",
        "memory_budget=0", "batch_size=50", "dataset.images=300",
    )  # fmt: skip


def test_the_sample_recipe_reaches_its_promise(trained_run):
    test = trained_run.evaluation["test"]
    assert test["accuracy"] >= 0.9
    assert test["interval"][0] < test["accuracy"] <= test["interval"][1]
    assert test["n"] == np.sum(test["confusion"]) == sum(r["support"] for r in test["per_class"])


def test_a_run_tells_its_whole_story(trained_run):
    kinds = [e["event"] for e in trained_run.events()[0]]
    assert kinds.count("stage_start") == kinds.count("stage_end") == 2
    assert kinds.count("epoch") == sum(s.epochs for s in trained_run.recipe.stages)
    assert kinds[-1] == "end"
    steps = [e["step"] for e in events(trained_run, "batch")]
    assert steps == sorted(steps)
    total = events(trained_run, "start")[0]["total_steps"]
    assert steps[-1] <= total == events(trained_run, "epoch")[-1]["step"]
    assert (
        trained_run.environment["packages"]["keras"] and trained_run.environment["device"]["text"]
    )
    summary = json.loads(json.dumps(trained_run.summary()))
    assert {"id", "status", "recipe", "evaluation", "kept_stage", "seconds"} <= set(summary)


def test_the_best_stage_is_kept_by_validation_loss(trained_run):
    reports = trained_run.stages()
    best = min(reports, key=lambda r: r["best_val_loss"])
    assert trained_run.kept_stage == best["name"]
    losses = [e["val_loss"] for e in events(trained_run, "epoch")]
    # The kept weights, measured again through the published path, have the lowest loss of all.
    measured = trained_run.evaluation["validation"]
    assert measured["loss_before_scaling"] == pytest.approx(min(losses), abs=2e-3)
    assert measured["loss"] <= measured["loss_before_scaling"]  # what scaling is fitted for
    assert all(r["frozen_intact"] and r["frozen_weights"] > 0 for r in reports)


def test_split_parts_are_disjoint_in_the_run(trained_run):
    parts = json.loads((trained_run.path / "split.json").read_text())
    train_, validation, test = (set(parts[p]) for p in ("train", "validation", "test"))
    assert not (train_ & validation or train_ & test or validation & test)
    assert len(train_) + len(validation) + len(test) == 600


def test_a_stage_that_explodes_is_ended_and_cannot_hurt(diverging_run):
    good, explodes, after = diverging_run.stages()
    assert explodes["reason"] == "diverged" and not explodes["helped"]
    assert "did not help" in explodes["text"]
    assert any("learning rate" in e["text"] for e in events(diverging_run, "warning"))
    # The stage after begins from the good weights, not from where it went wrong.
    assert after["best_val_loss"] < 1.3 * good["best_val_loss"]
    assert diverging_run.evaluation["validation"]["accuracy"] > 0.4
    assert any("memory budget" in e["text"] for e in events(diverging_run, "note"))


def test_one_path_gives_one_answer(informative_run, graft_home, tmp_path):
    """predict, the evaluation pass and Keras' own predict agree on the same images."""
    import keras

    dataset = open_dataset(informative_run.recipe.dataset, graft_home)
    chosen = dataset.split(informative_run.recipe.split)["test"][:24]
    data = [dataset.image_bytes(int(i)) for i in chosen]
    model = Classifier(informative_run)
    answers = np.array([a.probabilities for a in model.predict(data)])
    pixels = np.stack([_pixels(d, model) for d in data])
    assert np.abs(answers - model.probabilities(data)).max() < 1e-5
    theirs = keras.models.load_model(informative_run.path / "final.keras").predict(
        pixels.astype("float32"), verbose=0
    )
    # The kept model is as it was trained; every answer of Graft is calibrated.
    theirs = calibration.scaled(theirs, model.temperature)
    assert np.abs(answers - theirs).max() < 1e-3
    # The comparison means something only if the answers differ from image to image.
    assert answers.std(axis=0).max() > 0.2
    # The figures that were published are those that these answers give.
    everything = dataset.split(informative_run.recipe.split)["test"]
    whole = model.predict([dataset.image_bytes(int(i)) for i in everything])
    figures = evaluation.measure(
        np.array([a.probabilities for a in whole]), dataset.labels[everything], dataset.classes
    )
    assert figures["confusion"] == informative_run.evaluation["test"]["confusion"]
    assert figures["loss"] == pytest.approx(informative_run.evaluation["test"]["loss"], abs=1e-6)


def _pixels(data, model):
    from engine.images import decode

    return decode.load(data, model.size, model.resize)


def test_the_classifier_reads_every_kind_of_image(trained_run, tmp_path):
    path = tmp_path / "photo.jpg"
    picture(300, 200).save(path)
    sources = [
        path, str(path), picture(300, 200), encode(picture(mode="L")), encode(picture(), "AVIF"),
        encode(picture().convert("RGBA"), "WEBP"), b"no image", tmp_path / "none.png",
    ]  # fmt: skip
    answers = Classifier(trained_run).predict(sources)
    assert [a.error is None for a in answers] == [True] * 6 + [False] * 2
    for answer in answers[:6]:
        assert answer.probabilities.sum() == pytest.approx(1, abs=1e-4)
        top = answer.top(3)
        assert len(top) == 3 and top[0][1] >= top[1][1] >= top[2][1]
        assert answer.seconds > 0 and answer.image.mode == "RGB"
    assert np.abs(answers[0].probabilities - answers[1].probabilities).max() == 0


def test_examples_are_kept_with_their_true_labels(trained_run):
    examples = trained_run.examples()
    assert {e["label"] for e in examples} == set(trained_run.classes)
    answers = Classifier(trained_run).predict([e["path"] for e in examples])
    right = [a.top(1)[0][0] == e["label"] for a, e in zip(answers, examples, strict=True)]
    assert np.mean(right) > 0.6


def test_a_copied_run_folder_still_opens(trained_run, tmp_path):
    import shutil

    copied = runs.Run(shutil.copytree(trained_run.path, tmp_path / "elsewhere" / trained_run.id))
    assert copied.status == "finished" and copied.evaluation == trained_run.evaluation
    answers = Classifier(copied).predict([copied.examples()[0]["path"]])
    assert answers[0].error is None


def test_a_finished_run_is_a_backbone_and_mixed_precision_ends_in_float32(trained_run, graft_home):
    run = train(
        graft_home, f"backbone={{name: 'run:{trained_run.id}'}}", "precision=mixed_bfloat16",
        "stages=[{name: head, epochs: 4, learning_rate: 0.01}]", "dataset.images=200",
    )  # fmt: skip
    assert run.evaluation["parity"]["largest_difference"] < 1e-3
    assert run.evaluation["parity"]["same_answers"] >= 0.95
    # It begins with what the earlier run has learnt.
    assert run.evaluation["test"]["accuracy"] > 0.7


def test_a_continued_run_keeps_the_split_and_is_no_worse(trained_run, graft_home):
    stage = trained_run.recipe.stages[0].model_dump(mode="json") | {"name": "more", "epochs": 1}
    run = trained(jobs.continued(trained_run, [stage]), graft_home)
    assert (run.path / "split.json").read_text() == (trained_run.path / "split.json").read_text()
    assert any(f"Continues run {trained_run.id}" in e["text"] for e in events(run, "note"))
    before, after = (r.evaluation["validation"]["loss_before_scaling"] for r in (trained_run, run))
    assert after <= before + 2e-3


def test_wilson_interval_matches_published_values():
    # Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3.
    for right, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
    ):
        assert evaluation.wilson_interval(right, n) == pytest.approx((low, high), abs=1e-4)


@real_data
def test_flowers_reaches_its_promise_on_real_photos(flowers_run):
    assert flowers_run.evaluation["test"]["n"] > 300
    assert flowers_run.evaluation["test"]["accuracy"] >= 0.87
    assert flowers_run.kept_stage == "unfrozen"
    # The head trained on cached features until its validation loss no longer improved.
    frozen = flowers_run.stages()[0]
    assert frozen["reason"] == "early_stopping" and frozen["best_epoch"] > 2
    losses = [e["val_loss"] for e in events(flowers_run, "epoch") if e["stage"] == 0]
    assert 9 < len(losses) < 60 and min(losses) < 0.95 * losses[2]


@real_data
def test_reference_is_told_that_its_second_stage_did_not_help(graft_home):
    """Shortened to an epoch each on fewer images; README has the figures of the whole recipe."""
    run = train(
        graft_home, "backbone.name=MobileNetV2", "backbone.alpha=0.35", "stages.0.epochs=1",
        "stages.1.epochs=1", "split.train=train[70%:]", preset="reference",
    )  # fmt: skip
    first, second = run.stages()
    assert not second["helped"] and "did not help" in second["text"]
    assert run.kept_stage == "frozen"
    assert run.evaluation["test"]["accuracy"] > 0.7


def test_weights_that_are_not_here_get_a_sentence(graft_home, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    run = train(graft_home, "backbone={name: ResNet50}", "dataset.images=50", expect="failed")
    assert "ResNet50" in run.error and "GraftSmall" in run.error and "Traceback" not in run.error
    assert not os.path.exists(run.path / "final.keras")
