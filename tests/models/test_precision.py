"""Which number format a run computes in, where its recipe says auto."""

import pytest

from engine import load_preset


class Notes(list):
    """Takes events in place of a run's log."""

    def write(self, event, **fields):
        self.append(fields["text"])


def test_what_the_recipe_says_is_taken():
    from engine.models import precision

    notes = Notes()
    recipe = load_preset("sample", ["precision=mixed_bfloat16"])
    assert precision.choose(recipe, notes) == "mixed_bfloat16" and not notes


@pytest.mark.parametrize("backbone", ["{name: GraftSmall}", "{name: Xception, weights: none}"])
def test_auto_is_float32_on_a_cpu_whatever_the_backbone(backbone, monkeypatch):
    import tensorflow as tf

    from engine.models import precision

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    notes = Notes()
    recipe = load_preset("sample", [f"backbone={backbone}"])
    assert precision.choose(recipe, notes) == "float32"
    assert "float32: there is no GPU" in notes[-1]


@pytest.mark.parametrize(
    "capability, chosen",
    [((6, 1), "float32"), ((7, 0), "mixed_float16"), ((9, 0), "mixed_float16")],
)
def test_auto_on_a_gpu_follows_from_its_compute_capability(capability, chosen, monkeypatch):
    import tensorflow as tf

    from engine.models import precision

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    notes = Notes()
    assert precision.choose(load_preset("sample"), notes) == chosen
    assert chosen in notes[-1]
