"""A run that goes on from another: from its finished model, or from its checkpoint in smaller batches.

Heavy: imports Keras.
"""

import keras

from engine import home as homes
from engine.errors import TrainingError
from engine.runs import runs
from engine.train import input_pipeline


def begin(work) -> None:
    """Gives the network the weights of the run that the recipe continues, and measures them, so that
    the new run keeps them unless it finds better ones.

    Raises:
        TrainingError: if the network or the classes differ, or if images that are tested on now were
            learnt from then.
    """
    parent = runs.get_run(work.home, work.recipe.continue_from)
    before = homes.read_json(parent.path / "split.json", {})
    learnt = set(before.get("train", ())) & set(work.dataset.contents[work.split["test"]].tolist())
    if learnt:
        raise TrainingError(
            f"{len(learnt)} test images of this run were learnt from in run {parent.id}, so its accuracy "
            "would be too good to be true; keep the split and the seed of that run"
        )
    if parent.classes != list(work.dataset.classes):
        raise TrainingError(
            f"run {parent.id} knows other classes than this dataset has; continue it on its own "
            f"dataset, or use it as a backbone (backbone.name=run:{parent.id})"
        )
    weights = keras.saving.load_model(parent.path / "final.keras", compile=False).get_weights()
    if [w.shape for w in weights] != [w.shape for w in work.network.get_weights()]:
        raise TrainingError(
            f"run {parent.id} has another network; keep its backbone, image size and head to continue it"
        )
    work.network.set_weights(weights)
    work.initial = weights
    work.report("training", f"Measuring run {parent.id}, which this one continues", 0, None)
    work.network.compile(
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=work.recipe.head.label_smoothing),
        jit_compile=False,
    )
    loss = work.network.evaluate(
        input_pipeline.evaluation_batches(
            work.pixels,
            work.split["validation"],
            work.dataset.labels,
            len(work.dataset.classes),
            work.recipe,
        ),
        verbose=0,
    )
    work.best.offer(work.network, loss, -1, -1)
    work.events.write(
        "note",
        text=f"Continues run {parent.id}, whose validation loss is {loss:.4g}; its weights are kept "
        "unless better ones are found.",
    )


def rescaled(position: dict, batch_size: int, steps: int) -> dict:
    """A checkpoint's position in batches of another size: as many images done, as far in the schedule.

    Args:
        position: see `engine.train.resume.Keeper`.
        batch_size: images a batch from now on.
        steps: batches in an epoch from now on.
    """
    ratio = steps / position["steps_per_epoch"]
    batch = min(steps - 1, position["batch"] * position["batch_size"] // batch_size)
    return position | {
        "batch": batch,
        "step": round(position["step"] * ratio),
        "batch_size": batch_size,
        "steps_per_epoch": steps,
        "iterations_ratio": ratio,
        # Means over the images done so far stay means.
        "sums": [value * batch * batch_size / max(1, position["batch"] * position["batch_size"])
                 for value in position["sums"]],
    }  # fmt: skip
