"""Where a run obeys a stop or a pause, without a training."""

from types import SimpleNamespace

import numpy as np
import pytest

from engine.host.signals import Paused, Stopped
from engine.train.best import Best
from engine.train.progress import Progress
from engine.train.saving import Saving
from engine.train.stopping import between_steps


class Keeper:
    """Keeps the positions of the checkpoints that would be written."""

    def __init__(self):
        self.saved = []

    def due(self):
        return False

    def save(self, position, *what):
        self.saved.append(position)


def between(asked, best, keeper=None):
    """The callback of a run that was asked for something, in a stage of 10 steps an epoch."""
    weights = [np.zeros(1)] if best else []
    work = SimpleNamespace(
        ask=lambda: asked,
        keeper=keeper,
        steps=10,
        network=None,
        best=SimpleNamespace(weights=weights),
    )
    made = Saving(work, Progress(1, 20), {})
    made.set_model(SimpleNamespace(stop_training=False))
    return made


def test_a_stop_during_validation_keeps_what_is_best_already():
    with pytest.raises(Stopped):
        between("stop", best=True).on_test_batch_end(3)
    with pytest.raises(Paused):
        between("pause", best=True).on_test_batch_end(3)


def test_the_first_validation_is_finished_and_then_the_run_stops():
    """Its result says which weights to keep; without it there would be no model."""
    between("stop", best=False).on_test_batch_end(3)
    with pytest.raises(Stopped):
        between("stop", best=True).on_epoch_end(0)


def test_a_pause_between_two_epochs_saves_the_next_one_as_its_place():
    keeper = Keeper()
    with pytest.raises(Paused):
        between("pause", best=True, keeper=keeper).on_epoch_end(4)
    assert [(at["stage"], at["epoch"], at["batch"]) for at in keeper.saved] == [(1, 5, 0)]


@pytest.mark.parametrize(
    ("asked", "resumed", "best", "obeyed"),
    [
        ("stop", False, False, "stop"),  # nothing was trained: no model
        ("stop", True, True, "stop"),
        ("stop", True, False, ""),  # the checkpoint's weights are kept in the next step
        ("pause", True, False, "pause"),
        ("", False, False, ""),
    ],
)
def test_a_stop_while_features_are_computed_loses_no_weights(asked, resumed, best, obeyed):
    kept = Best(weights=[np.zeros(1)] if best else [])
    assert between_steps(lambda: asked, resumed, kept)() == obeyed
