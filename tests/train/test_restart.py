"""Where a run starts, without a training: at the beginning, again, or at a checkpoint."""

from types import SimpleNamespace

import pytest

from engine.recipe import load_preset
from engine.runs.runs import Run
from engine.train import continuing, restart
from engine.train.best import Best

POSITION = {
    "stage": 1,
    "epoch": 2,
    "batch": 3,
    "step": 40,
    "batch_size": 32,
    "steps_per_epoch": 10,
    "sums": [48.0, 0.0],
    "best": None,
    "damaged": 0,
}


class Keeper:
    """Keeps what a checkpoint would give."""

    def __init__(self, position=None, best=None):
        self.position, self.best, self.restored = position, best, []

    def restore_network(self, network):
        self.restored.append(network)


class Log(list):
    """Events as (kind, fields)."""

    def write(self, kind, **fields):
        self.append((kind, fields))


@pytest.fixture
def work():
    """What a run's training shares, before its first step: 10 steps an epoch."""
    return SimpleNamespace(
        recipe=load_preset("sample", ["batch_size=32", "stages.1.epochs=3"]),
        dataset=SimpleNamespace(classes=("a", "b")),
        split={"train": range(320), "validation": range(30), "test": range(7)},
        steps=10,
        events=Log(),
        keeper=Keeper(),
        best=Best(),
        network="the network",
        started=set(),
    )


def event(kind, **fields):
    return {"event": kind} | fields


def test_a_run_has_begun_once_it_has_a_split_or_a_checkpoint(tmp_path):
    run = Run(tmp_path)
    assert not restart.has_begun(run, Keeper())
    assert restart.has_begun(run, Keeper(POSITION))
    (tmp_path / "split.json").touch()
    assert restart.has_begun(run, Keeper())


def test_the_first_start_is_reported_with_its_counts_and_steps(work):
    restart.report_start(work, [], "float32")
    [(kind, found)] = work.events
    assert kind == "start" and found["precision"] == "float32"
    assert found["counts"] == {"train": 320, "validation": 30, "test": 7}
    epochs = sum(stage.epochs for stage in work.recipe.stages)
    assert (found["steps_per_epoch"], found["total_steps"]) == (10, 10 * epochs)


@pytest.mark.parametrize("before", ["start", "end"])
def test_a_run_that_ended_before_its_first_checkpoint_says_that_it_starts_again(work, before):
    restart.report_start(work, [event(before)], "float32")
    assert [kind for kind, _ in work.events] == ["resume", "start"]
    assert "from the beginning" in work.events[0][1]["text"]


def test_a_resumed_run_does_not_report_a_second_start(work):
    work.keeper = Keeper(POSITION)
    restart.report_start(work, [event("start")], "float32")
    assert work.events == []
    # Killed between its first checkpoint and its start event, it has none yet.
    restart.report_start(work, [], "float32")
    assert [kind for kind, _ in work.events] == ["start"]


def test_a_new_run_begins_at_the_first_step_and_another_runs_weights_if_asked(work, monkeypatch):
    begun = []
    monkeypatch.setattr(continuing, "begin", begun.append)
    assert restart.begin(work, []) == (0, 0) and begun == []
    work.recipe = work.recipe.model_copy(update={"continue_from": "another"})
    assert restart.begin(work, []) == (0, 0) and begun == [work]


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_resumed_run_goes_on_at_its_checkpoint_with_its_best_weights(work, damaged):
    best = {"loss": 0.25, "stage": 0, "epoch": 4}
    work.keeper = Keeper(POSITION | {"best": best, "damaged": damaged}, ["weights"])
    earlier = [event("stage_start", stage=0), event("stage_start", stage=1)]
    assert restart.begin(work, earlier) == (1, 40)
    assert work.keeper.restored == ["the network"] and work.started == {0, 1}
    assert (work.best.loss, work.best.stage, work.best.epoch) == (0.25, 0, 4)
    assert work.best.weights == ["weights"] and work.keeper.best is None
    [(kind, found)] = work.events
    assert kind == "resume" and "at step 40, in epoch 3 of stage unfrozen" in found["text"]
    assert ("checkpoint was damaged" in found["text"]) == bool(damaged)


def test_a_checkpoint_at_the_end_of_a_stage_names_its_last_epoch(work):
    work.keeper = Keeper(POSITION | {"epoch": 3, "batch": 0})
    restart.begin(work, [])
    assert "in epoch 3 of stage unfrozen" in work.events[0][1]["text"]


def test_in_smaller_batches_it_goes_on_after_as_many_images(work):
    """3 batches of 32 are 96 images, 6 batches of 16; 40 steps of 10 an epoch are 80 of 20."""
    found = restart.rescaled(POSITION, 16, 20)
    assert (found["batch"], found["step"], found["iterations_ratio"]) == (6, 80, 2.0)
    assert (found["batch_size"], found["steps_per_epoch"]) == (16, 20)
    assert found["sums"] == POSITION["sums"]  # of the same 96 images
    assert POSITION["batch"] == 3  # the checkpoint's own position stays


def test_means_stay_means_where_the_images_are_no_whole_number_of_batches():
    found = restart.rescaled(POSITION, 20, 16)
    assert found["batch"] == 4  # 80 of the 96 images; the rest are seen again
    assert found["sums"] == [pytest.approx(48.0 * 80 / 96), 0.0]
    last = restart.rescaled(POSITION | {"batch": 10}, 31, 11)
    assert last["batch"] == 10  # never the whole epoch: its end has yet to come


def test_a_run_that_is_resumed_in_other_batches_begins_at_the_rescaled_step(work):
    work.recipe = work.recipe.model_copy(update={"batch_size": 16})
    work.steps, work.keeper = 20, Keeper(POSITION)
    assert restart.begin(work, []) == (1, 80)
    assert work.keeper.position["batch"] == 6
