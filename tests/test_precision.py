"""Which number format a run computes in, where its recipe says auto."""

import pytest

from engine import home as homes
from engine import load_preset


class Notes(list):
    """Takes events in place of a run's log."""

    def write(self, event, **fields):
        self.append(fields["text"])


@pytest.fixture
def home(tmp_path):
    return homes.home(tmp_path)


def test_what_the_recipe_says_is_taken(home):
    from engine import precision

    notes = Notes()
    recipe = load_preset("sample", ["precision=mixed_bfloat16"])
    assert precision.choose(recipe, home, notes) == "mixed_bfloat16" and not notes


def test_auto_needs_a_cpu_that_has_bfloat16_and_a_backbone_that_learns(home, monkeypatch):
    from engine import device, precision

    notes, recipe = Notes(), load_preset("sample")
    monkeypatch.setattr(device, "has_bfloat16", lambda: False)
    assert precision.choose(recipe, home, notes) == "float32"
    assert "no instructions for bfloat16" in notes[-1]
    frozen = load_preset("sample", ["stages=[{name: frozen, epochs: 1}]"])
    assert precision.choose(frozen, home, notes) == "float32"
    assert "only the head learns" in notes[-1]


def test_auto_takes_what_was_quicker_and_remembers_it_by_backbone(home, monkeypatch):
    from engine import device, precision

    asked = []
    answers = {"GraftSmall": 0.7, "Xception": 1.4}

    def measure(recipe, home):
        asked.append(recipe.backbone.name)
        return answers[recipe.backbone.name]

    monkeypatch.setattr(device, "has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "measure", measure)
    notes = Notes()
    other = load_preset("sample", ["backbone={name: Xception, weights: none}"])
    for _ in range(2):
        assert precision.choose(load_preset("sample"), home, notes) == "float32"
        assert precision.choose(other, home, notes) == "mixed_bfloat16"
    assert asked == ["GraftSmall", "Xception"]
    assert "1.40 times as fast" in notes[-1]


def test_the_probe_measures_and_leaves_the_policy_alone(home, monkeypatch):
    import keras

    from engine import precision

    monkeypatch.setattr(precision, "PROBE_SECONDS", 0)  # two steps each, however slow the host
    before = keras.config.dtype_policy().name
    ratio = precision.measure(load_preset("sample", ["image_size=32"]), home)
    assert 0.01 < ratio < 100  # that it measured; never how fast
    assert keras.config.dtype_policy().name == before
