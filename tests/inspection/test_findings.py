"""Findings: severity follows the share that is true, and nothing legible is thrown away."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from engine.data import prepare_worker
from engine.inspection import findings, inspection, judge, label_noise, worker
from engine.models import backbones
from engine.recipe import BackboneSpec, DatasetSpec, load_preset
from tests.support.pictures import picture


def softmax(values):
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def answers(sharpness, wrong_share, seed=0, count=6000):
    """(probabilities of a calibrated classifier, labels, which were replaced at random)."""
    random = np.random.default_rng(seed)
    chances = softmax(sharpness * random.normal(size=(count, 5)))
    labels = (chances.cumsum(axis=1) < random.random((count, 1))).sum(axis=1).clip(0, 4)
    wrong = random.random(count) < wrong_share
    labels[wrong] = (labels[wrong] + random.integers(1, 5, wrong.sum())) % 5
    return chances, labels, wrong


@pytest.mark.parametrize("sharpness", [3, 6])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.15])
def test_the_estimated_share_of_wrong_labels_is_the_true_one(sharpness, share):
    chances, labels, wrong = answers(sharpness, share)
    # Its confidence may be wrong, as that of a strongly penalized classifier is.
    given, _ = label_noise.sharpened(softmax(0.6 * np.log(chances)), labels, 5)
    place, rate = label_noise.estimate(given, 5)
    assert rate == pytest.approx(share, abs=0.01)
    chance = label_noise.wrong(given[:, place], rate, 5)
    assert chance.sum() == pytest.approx(wrong.sum(), abs=60)
    listed = chance >= 0.5
    if share:
        assert wrong[listed].mean() == pytest.approx(chance[listed].mean(), abs=0.06)
    else:
        # The classifier disagrees with hundreds of labels all the same.
        assert (chances.argmax(axis=1) != labels).sum() > 300 and listed.sum() <= 5


def test_a_weak_classifier_notices_few_wrong_labels():
    noticed = [
        label_noise.sharpened(chances, labels, 5)[1][:, 5].mean()
        for chances, labels, _ in (answers(1, 0), answers(8, 0))
    ]
    assert noticed[0] < 0.2 < 0.6 < noticed[1]


# -- labels, as they are listed ---------------------------------------------------------------


@pytest.fixture
def colours(class_folder, own_home):
    """(dataset, its inspection of pixels) of 36 pictures in three classes."""
    spec = DatasetSpec(source="folder", path=str(class_folder))
    dataset = prepare_worker.ingest(spec, own_home)
    worker.inspect(spec, own_home)
    return dataset, inspection.open_inspection(spec, own_home)


def judged(colours, wrong, given, noticed=0.6):
    """{kind: Finding}, where the first of each class look like the next class.

    Args:
        wrong: probability that these labels are wrong.
        given: out-of-fold probability of these labels.
        noticed: share of wrong labels that the backbone would notice.
    """
    dataset, seen = colours
    first = [int(np.flatnonzero(dataset.labels == label)[0]) for label in range(3)]
    chance, own = np.zeros(36, np.float32), np.full(36, 0.9, np.float32)
    suggested = dataset.labels.astype(np.int32)
    chance[first], own[first], suggested[first] = wrong, given, (suggested[first] + 1) % 3
    likely = np.where(suggested == dataset.labels, own, 1 - own)
    features = {
        "given_probability": own,
        "suggested": suggested,
        "suggested_probability": likely.astype(np.float32),
        "wrong": chance,
        "noticed": np.array(noticed),
        "accuracy": np.array(0.54),
        "backbone": np.array("TestNet"),
    }
    found = findings.find(dataset, dataclasses.replace(seen, features=features), None)
    return {f.kind: f for f in found}


def test_labels_that_mostly_are_wrong_are_serious_and_can_be_relabelled_at_once(colours):
    found = judged(colours, wrong=[0.95, 0.6, 0.97], given=0.01)
    listed = found["mislabelled"]
    assert listed.severity == "high" and listed.count == 3 and "doubtful" not in found
    assert listed.expected == pytest.approx(0.84) and findings.suggests_labels(listed)
    assert listed.scores.tolist() == pytest.approx([0.97, 0.95, 0.6])
    assert "About 8 of 10" in listed.advice and "TestNet" in listed.advice
    assert "about 6 of 10" in listed.advice


def test_labels_of_which_half_are_wrong_are_no_reason_to_relabel_them_all(colours):
    listed = judged(colours, wrong=0.55, given=0.01)["mislabelled"]
    assert listed.severity == "medium" and not findings.suggests_labels(listed)


def test_labels_that_mostly_are_right_are_a_quiet_list(colours):
    found = judged(colours, wrong=0.1, given=0.02)
    listed = found["doubtful"]
    assert "mislabelled" not in found and listed.severity == "low" and listed.count == 3
    assert "Most are correct" in listed.advice and not findings.suggests_labels(listed)


def test_a_backbone_that_cannot_see_the_images_lists_no_labels_and_says_so(colours):
    found = judged(colours, wrong=0.9, given=0.02, noticed=0.1)
    assert {"mislabelled", "doubtful"}.isdisjoint(found)
    said = found["unjudged"]
    assert "TestNet" in said.title and "54%" in said.advice and said.severity == "low"
    assert not len(said.indices) and not len(findings.suggested_exclusions(said, colours[0]))
    unknown = judged(colours, wrong=np.nan, given=np.nan, noticed=np.nan)
    assert "too few different images" in unknown["unjudged"].title
    assert "nan" not in unknown["unjudged"].advice


# -- the backbone -----------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Keras' folder of downloads, and a function that puts a backbone's file there."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    def put(name, alpha):
        path = backbones.weights_path(name, alpha, backbones.get(name, alpha).image_size)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"only its name is looked at here")

    return put


def test_photos_are_judged_by_the_best_backbone_at_hand(weights, own_home):
    photos, drawings = DatasetSpec(source="folder", path="/photos"), DatasetSpec(source="sample")
    small = load_preset("sample")
    assert judge.of(small, photos, own_home) == small  # no weights: its findings say so
    weights("MobileNetV2", 0.35)
    assert judge.of(small, photos, own_home).backbone.title == "MobileNetV2 0.35"
    weights("EfficientNetV2B1", None)
    weights("ConvNeXtXLarge", None)  # too slow to be chosen unasked
    best = judge.of(small, photos, own_home)
    assert best.backbone.title == "EfficientNetV2B1" and best.image_size == 240
    assert judge.of(best, photos, own_home) == best
    assert judge.of(small, drawings, own_home) == small
    own = load_preset("flowers")
    assert judge.of(own, photos, own_home) == own
    random = own.model_copy(update={"backbone": BackboneSpec(name="Xception", weights="none")})
    assert judge.of(random, photos, own_home).backbone.title == "EfficientNetV2B1"
    assert "GraftSmall was not trained on photos" in judge.replaced(small, "EfficientNetV2B1")
    assert not judge.replaced(own, "MobileNetV2 0.35") and not judge.replaced(small, "")


# -- pixels -----------------------------------------------------------------------------------


def page(size=(850, 1100)):
    return Image.new("L", size, 250)


def scan():
    """A nearly empty page with two lines of small print."""
    made = page()
    pen = ImageDraw.Draw(made)
    for line in range(2):
        for place in range(100, 500, 7):
            pen.line([place, 100 + 16 * line, place, 107 + 16 * line], fill=40, width=2)
    return made


def drawing():
    """A thin grey pencil line on paper."""
    made = page((1200, 1200))
    ImageDraw.Draw(made).ellipse([300, 300, 900, 900], outline=90, width=3)
    return made


def noise(low, high, seed=0):
    values = np.random.default_rng(seed).integers(low, high, (240, 320), np.uint8)
    return Image.fromarray(values)


def moon():
    """A small bright disc in a dark sky: dark on the whole."""
    made = noise(0, 8)
    ImageDraw.Draw(made).ellipse([150, 100, 170, 120], fill=200)
    return made


def shade():
    """A room without light: little to see."""
    made = picture(320, 240, seed=5).convert("L").resize((320, 240))
    return made.filter(ImageFilter.GaussianBlur(4)).point(lambda value: value // 8)


def test_only_what_holds_nothing_is_to_be_left_out(own_home, tmp_path):
    made = {
        "scan": scan(), "drawing": drawing(), "moon": moon(), "shade": shade(),
        "black": noise(0, 8), "white": page(), "overexposed": noise(246, 255),
        "grey": noise(120, 126),
    }  # fmt: skip
    for name, image in made.items():
        for label in ("a", "b"):
            path = tmp_path / "pictures" / label / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    spec = DatasetSpec(source="folder", path=str(tmp_path / "pictures"))
    dataset = prepare_worker.ingest(spec, own_home)
    worker.inspect(spec, own_home)
    seen = inspection.open_inspection(spec, own_home)

    def named(kind, chosen=None):
        finding = next((f for f in findings.find(dataset, seen, None) if f.kind == kind), None)
        rows = [] if finding is None else finding.indices
        rows = rows if chosen is None else chosen(finding, dataset)
        return {dataset.names[i].split("/")[1].split(".")[0] for i in rows}

    out = findings.suggested_exclusions
    assert named("too_dark") == named("too_dark", out) == {"black"}
    assert named("too_bright") == named("too_bright", out) == {"white", "overexposed"}
    assert named("low_information") == named("low_information", out) == {"grey"}
    assert named("dark") == {"moon", "shade"} and not named("dark", out)
    # Results of an earlier version do not know which images hold nothing: none is thrown away.
    earlier = {k: v for k, v in seen.pixels.items() if k != "span"}
    kinds = {f.kind for f in findings.find(dataset, dataclasses.replace(seen, pixels=earlier))}
    assert kinds.isdisjoint({"too_dark", "too_bright", "low_information"}) and "dark" in kinds


# -- classes ----------------------------------------------------------------------------------


def test_small_classes_are_told_by_what_they_mean_for_the_test(colours):
    dataset, seen = colours
    parts = {"test": [], "validation": [], "train": []}
    for label, tested in enumerate((5, 2, 0)):
        rows = np.flatnonzero(dataset.labels == label)
        parts["test"] += rows[:tested].tolist()
        parts["train"] += rows[tested:].tolist()
    parts = {part: np.array(rows, int) for part, rows in parts.items()}
    found = {f.kind: f for f in findings.find(dataset, seen, parts)}["tiny_class"]
    assert dataset.classes[:2] == ("blue", "green")
    assert found.title == ("Classes with too few test images: red (0 of 12) and green (2 of 12)")
    assert found.advice.startswith("0 to 2 test images: an accuracy of each of these classes says")
    assert found.count == 2 and found.severity == "high" and len(found.indices) == 24
    parts["test"] = np.append(parts["test"], np.flatnonzero(dataset.labels == 2)[:6])
    parts["train"] = np.setdiff1d(parts["train"], parts["test"])
    found = {f.kind: f for f in findings.find(dataset, seen, parts)}["tiny_class"]
    assert found.advice.startswith("2 test images: an accuracy of this class says nothing.")
    assert found.severity == "medium"


def test_findings_about_many_classes_are_short(own_home, tmp_path):
    for number in range(150):
        folder = tmp_path / "pictures" / f"species {number:03d}"
        folder.mkdir(parents=True)
        for copy in range(3):
            picture(16, 16, seed=10 * number + copy).save(folder / f"{copy}.png")
    spec = DatasetSpec(source="folder", path=str(tmp_path / "pictures"))
    dataset = prepare_worker.ingest(spec, own_home)
    worker.inspect(spec, own_home)
    seen = inspection.open_inspection(spec, own_home)
    for parts in (None, dataset.split(load_preset("flowers").split)):
        found = findings.find(dataset, seen, parts)
        tiny = next(f for f in found if f.kind == "tiny_class")
        assert tiny.count == 150 and "145 more" in tiny.title
        assert all(len(f.title) < 250 and len(f.advice) < 400 for f in found)
