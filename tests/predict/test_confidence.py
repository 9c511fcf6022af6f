"""Confidence: calibration, likely classes, and images unlike the training images."""

import numpy as np
import pytest
from PIL import Image

from engine import home as homes
from engine.data.sources import sample
from engine.errors import RunError
from engine.predict import calibrate, calibration, confidence, evaluation, explanation, reference
from engine.predict.classifier import Classifier
from engine.runs import files, runs
from tests.support import ROOT
from tests.support.off_topic import off_topic
from tests.support.pictures import picture


def certain(rng, n=4000, classes=4, sharpness=3.0):
    """(probabilities that are exactly as right as they say, labels drawn from them)."""
    logits = sharpness * rng.normal(size=(n, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return probabilities, labels


def test_temperature_finds_how_much_too_sure_the_probabilities_are():
    probabilities, labels = certain(np.random.default_rng(0))
    too_sure = calibration.scaled(probabilities, 0.5)
    assert calibration.fit_temperature(too_sure, labels) == pytest.approx(2.0, rel=0.1)
    before = calibration.reliability(too_sure, labels)
    after = calibration.reliability(calibration.scaled(too_sure, 2.0), labels)
    assert after["ece"] < before["ece"] / 2
    assert after["binned"] < 2 * after["floor"] < before["binned"]
    assert (too_sure.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert sum(row["n"] for row in after["rows"]) == len(labels)


def test_a_classifier_without_mistakes_is_not_made_endlessly_sure():
    random = np.random.default_rng(3)
    sure = 0.5 + 0.5 * random.random(40)
    probabilities = np.stack([sure, 1 - sure], axis=1)
    assert calibration.fit_temperature(probabilities, np.zeros(40, int)) == 1.0


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_likely_classes_hold_the_true_one_as_often_as_promised(coverage):
    probabilities, labels = certain(np.random.default_rng(1), sharpness=1.0)
    given = probabilities[np.arange(len(labels)), labels]
    least = calibration.least_likely(given[:2000], coverage)
    held = (given[2000:] >= least).mean()
    assert held == pytest.approx(coverage, abs=0.025)


def test_too_few_images_for_a_promise_leave_every_class_likely():
    assert calibration.least_likely(np.full(5, 0.9), 0.99) == 0.0


def test_a_run_keeps_its_promises_on_images_that_decided_nothing(informative_run):
    kept = calibration.summary(informative_run)
    # Twice what a perfect classifier shows by chance with as many images; before, it was more.
    assert kept["after"]["binned"] < max(2 * kept["after"]["floor"], kept["before"]["binned"] / 2)
    known = confidence.Confidence(informative_run)
    for coverage in (0.9, 0.95):
        got = known.achieved(coverage)
        # Both the validation images, which set the thresholds, and the test images are drawn; one
        # split of these photos differs by 7 points (three splits: 83%, 89%, 92% for 90%). Four
        # standard errors of both draws: a threshold that is wrong, not unlucky, is outside.
        drawn = 1 / kept["validation"] + 1 / got["n"]
        allowed = max(0.03, 4 * np.sqrt(coverage * (1 - coverage) * drawn))
        assert got["coverage"] == pytest.approx(coverage, abs=allowed)
    # At most 5% is promised; with few drawings, 2.5 standard errors more are within chance.
    assert kept["false_alarms"] <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / kept["test"])
    for name in ("ece", "binned"):
        print(f"{name} {kept['before'][name]:.3f} to {kept['after'][name]:.3f}", end=", ")
    print(f"coverage {known.achieved(0.9)}, false alarms {kept['false_alarms']:.3f}")


def screenshots(count):
    """Pieces of pictures of our own pages."""
    found = []
    for path in sorted((ROOT / "docs").glob("*.png")):
        with Image.open(path) as whole:
            width, height = whole.size
            for k in range(count):
                x, y = (k * 7919) % max(1, width - 480), (k * 104_729) % max(1, height - 360)
                found.append(whole.convert("RGB").crop((x, y, x + 480, y + 360)))
    return found[:count]


def test_images_of_other_things_are_not_answered_with_confidence(flowers_run):
    """A hundred that are plainly something else, and two hundred drawings of the sample: balloons,
    cacti and mushrooms, which resemble flowers."""
    model, known = Classifier(flowers_run), confidence.Confidence(flowers_run)
    groups = {
        "pictures of other things": [image for _, image in off_topic(92)] + screenshots(8),
        "drawings": [data for _, _, data in sample.generate(200)],
    }
    for (name, others), least in zip(groups.items(), (0.9, 0.8), strict=True):
        verdicts = known.verdicts(model.predict(others))
        flagged = [verdict for verdict in verdicts if verdict.kind == "unlike"]
        sure = sum(verdict.kind == "sure" for verdict in verdicts)
        print(f"{len(flagged)} of {len(others)} {name} flagged, sure of {sure}")
        assert len(flagged) >= least * len(others)
        assert sure <= 0.01 * len(others)
        assert all("no answer" in verdict.text for verdict in flagged)


def test_an_image_far_from_training_is_never_sure(informative_run):
    known = confidence.Confidence(informative_run)
    classes = len(known.reference.classes)
    certain = np.full((3, classes), 0.01 / (classes - 1))
    certain[:, 1] = 0.99
    far = np.array(
        [known.usual - 0.01, (known.usual + known.threshold) / 2, known.threshold + 0.01]
    )
    verdicts = known.judge(certain, far)
    assert [verdict.kind for verdict in verdicts] == ["sure", "far", "unlike"]
    assert "far from training" in verdicts[1].text
    # As many of the validation images lie beyond each line as was asked for.
    own = known.far["validation"]
    assert (own > known.usual).mean() == pytest.approx(1 - confidence.USUAL, abs=1 / len(own))
    assert (own > known.threshold).mean() == pytest.approx(
        confidence.FALSE_ALARMS, abs=1 / len(own)
    )
    assert known.achieved(0.9)["sure"] <= (known.far["test"] <= known.usual).mean()


def test_answers_and_published_figures_are_scaled_alike(informative_run):
    model = Classifier(informative_run)
    files = [item["path"] for item in informative_run.examples()]
    answers = model.predict(files)
    raw = []
    for answer in answers:
        from engine.images import decode

        raw.append(model.outputs(decode.to_pixels(answer.image, model.size, model.resize))[0])
    scaled = calibration.scaled(np.array(raw), calibration.temperature_of(informative_run))
    assert np.abs(scaled - np.array([a.probabilities for a in answers])).max() < 1e-6
    assert np.abs(scaled - model.probabilities(files)).max() < 1e-6


def test_a_run_without_memory_says_what_to_do(trained_run, own_home):
    import shutil

    path = own_home / "runs" / trained_run.id
    shutil.copytree(trained_run.path, path)
    (path / reference.FILE).unlink()
    run = runs.get_run(own_home, trained_run.id)
    with pytest.raises(RunError, match="python -m engine calibrate"):
        confidence.Confidence(run)
    assert Classifier(run).predict([picture()])[0].top(1)
    with pytest.raises(Exception, match="not prepared yet"):
        calibrate.remember(run, own_home)


def test_a_run_of_an_earlier_version_is_judged_by_distances_as_they_are_measured_now(
    trained_run, own_home
):
    import shutil

    path = own_home / "runs" / trained_run.id
    shutil.copytree(trained_run.path, path, ignore=shutil.ignore_patterns("manifest.json"))
    run = runs.get_run(own_home, trained_run.id)
    kept = calibration.summary(run)
    old = {name: value for name, value in kept.items() if name != "usual"}
    old |= {"threshold": 0.123, "neighbour": 50}
    homes.write_json(path / calibration.FILE, old)
    found = confidence.Confidence(run)
    assert (found.threshold, found.usual) == (kept["threshold"], kept["usual"])
    assert calibration.summary(run) == old  # looking at a run changes nothing in it


def test_a_damaged_calibration_is_made_again_by_the_command_that_it_names(
    trained_run, own_home, graft_home
):
    import shutil

    from typer.testing import CliRunner

    from engine.cli.main import app

    for part in ("datasets", f"runs/{trained_run.id}"):
        shutil.copytree(graft_home / part, own_home / part, dirs_exist_ok=True)
    run = runs.get_run(own_home, trained_run.id)
    before = calibration.summary(run)
    (run.path / calibration.FILE).write_text('{"temper')
    for ask in (confidence.Confidence, calibration.temperature_of, confidence.deciding):
        with pytest.raises(RunError, match=f"damaged.*python -m engine calibrate {run.id}"):
            ask(run)
    done = CliRunner().invoke(app, ["calibrate", run.id, "--home", str(own_home)])
    assert done.exit_code == 0, done.output
    assert calibration.summary(run) == before


def test_calibrating_again_finds_the_same(trained_run, own_home, graft_home):
    import shutil

    for part in ("datasets", f"runs/{trained_run.id}"):
        shutil.copytree(graft_home / part, own_home / part, dirs_exist_ok=True)
    run = runs.get_run(own_home, trained_run.id)
    before = calibration.summary(run)
    for name in (reference.FILE, calibration.FILE, files.MANIFEST):
        (run.path / name).unlink()
    seen = []
    calibrate.remember(run, own_home, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert calibrate.calibrate(run) == before


# -- why ----------------------------------------------------------------------------------------


def looked(run, count=6):
    model = Classifier(run)
    files = [item["path"] for item in run.examples()][:count]
    return model, list(model.stream(files, keep_images=True, keep_maps=True))


def test_grad_cam_is_the_gradient_that_keras_gives(informative_run):
    """Against automatic differentiation through the head, for the answer and for another class."""
    import keras
    import tensorflow as tf

    model, answers = looked(informative_run, 3)
    whole = keras.saving.load_model(informative_run.path / "final.keras")
    names = [layer.name for layer in whole.layers]
    head = [layer for layer in whole.layers if names.index(layer.name) > names.index("features")]
    for answer in answers:
        for label, _ in answer.top(2):
            with tf.GradientTape() as tape:
                maps = tf.constant(answer.feature_map[None])
                tape.watch(maps)
                x = whole.get_layer("features")(maps)
                for layer in head:
                    if layer.name == "probabilities":
                        break
                    x = layer(x, training=False) if layer.name == "dropout" else layer(x)
                logit = x[0, model.classes.index(label)]
            weights = tape.gradient(logit, maps).numpy()[0].mean(axis=(0, 1))
            heat = np.maximum(0, answer.feature_map @ weights)
            heat /= max(heat.max(), 1e-12)
            assert np.abs(explanation.grad_cam(informative_run, answer, label) - heat).max() < 1e-3


def test_grad_cam_goes_back_through_a_hidden_layer(tmp_path):
    from types import SimpleNamespace

    import keras
    import tensorflow as tf

    random = np.random.default_rng(0)
    features = keras.Input((16,))
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(features)
    head = keras.Model(features, keras.layers.Dense(3, name="logits")(hidden))
    explanation.write_head(head, tmp_path)
    maps = random.random((4, 5, 16)).astype(np.float32)
    answer = SimpleNamespace(feature_map=maps, features=maps.mean(axis=(0, 1)), classes=list("abc"))
    for place, label in enumerate("abc"):
        with tf.GradientTape() as tape:
            given = tf.constant(maps[None])
            tape.watch(given)
            logit = head(tf.reduce_mean(given, axis=(1, 2)))[0, place]
        weights = tape.gradient(logit, given).numpy()[0].mean(axis=(0, 1))
        heat = np.maximum(0, maps @ weights)
        found = explanation.grad_cam(runs.Run(tmp_path), answer, label)
        assert np.abs(found - heat / max(heat.max(), 1e-12)).max() < 1e-4


def test_occlusion_finds_the_place_that_the_answer_hangs_on(trained_run):
    model = Classifier(trained_run)
    size = model.size
    drawing = sample.render(0, seed=12_345).resize((size // 2, size // 2))
    scene = Image.new("RGB", (size, size), drawing.getpixel((1, 1)))
    scene.paste(drawing, (0, 0))
    label = model.predict([scene])[0].top(1)[0][0]
    heat = explanation.occlusion(model, scene, label)
    half = explanation.PATCHES // 2
    assert 0 <= heat.min() and heat.max() <= 1
    assert heat[:half, :half].mean() > 2 * heat[half:, half:].mean()


def test_a_heat_map_lies_over_its_image(trained_run):
    image = picture(300, 200)
    heat = np.zeros((4, 6), np.float32)
    heat[0, 0] = 1
    clear = np.asarray(explanation.overlay(image, heat, 0.0), int)
    laid = np.asarray(explanation.overlay(image, heat, 0.8), int)
    assert laid.shape == (267, 400, 3)
    moved = np.abs(laid - clear).sum(axis=2)
    assert moved[:60, :60].mean() > 20 * max(moved[160:, 250:].mean(), 0.1)


def test_the_nearest_training_image_of_a_training_image_is_itself(informative_run, graft_home):
    from engine.data import datasets

    dataset = datasets.open_dataset(informative_run.recipe.dataset, graft_home)
    known = reference.of(informative_run)
    rows = known.rows("train")[::200][:5]
    places = {name: i for i, name in enumerate(dataset.names)}
    files = [dataset.image_bytes(places[str(known.names[row])]) for row in rows]
    for row, answer in zip(rows, Classifier(informative_run).predict(files), strict=True):
        found = explanation.nearest(known, answer.features)
        assert [len(found), found[0]["name"]] == [5, str(known.names[row])]
        assert found[0]["distance"] < 0.05 < found[1]["distance"]
        assert [r["distance"] for r in found] == sorted(r["distance"] for r in found)
        assert known.thumbnail(found[0]["row"])[:2] == b"\xff\xd8"


def test_figures_are_those_of_the_answers(informative_run, graft_home):
    known = confidence.Confidence(informative_run)
    probabilities, labels = known.of_part("test")
    if len(labels) < informative_run.evaluation["test"]["n"]:
        pytest.skip("the run remembers a draw of its test images")
    figures = evaluation.measure(probabilities, labels, informative_run.classes)
    assert figures["confusion"] == informative_run.evaluation["test"]["confusion"]
    assert figures["loss"] == pytest.approx(informative_run.evaluation["test"]["loss"], abs=1e-6)
