"""A run that starts from the finished model of another.

Heavy: imports Keras.
"""

from __future__ import annotations

import keras

from engine import home as homes
from engine.errors import TrainingError
from engine.host.words import plural
from engine.runs import files, runs
from engine.train import input_pipeline
from engine.train.work import Work


def begin(work: Work) -> None:
    """Gives the network the weights of the run that the recipe continues, and measures them, so
    that the new run keeps them unless it finds better ones.

    Raises:
        TrainingError: if the network or the classes differ, or if the other run was trained on
            images of this run's test part.
    """
    parent = runs.get_run(work.home, work.recipe.continue_from)
    before = homes.read_json(parent.checked(files.SPLIT), {})
    shared = set(before.get("train", ())) & set(work.dataset.contents[work.split["test"]].tolist())
    if shared:
        were = "was" if len(shared) == 1 else "were"
        raise TrainingError(
            f"{plural(len(shared), 'test image')} of this run {were} used for training in run "
            f"{parent.id}, so the measured accuracy would be too high; keep the split and the seed "
            "of that run"
        )
    if parent.classes != list(work.dataset.classes):
        raise TrainingError(
            f"run {parent.id} has other classes than this dataset; continue it on its own "
            f"dataset, or use it as a backbone (backbone.name=run:{parent.id})"
        )
    weights = keras.saving.load_model(parent.checked(files.KERAS), compile=False).get_weights()
    if [w.shape for w in weights] != [w.shape for w in work.network.get_weights()]:
        raise TrainingError(
            f"run {parent.id} has a different network; to continue it, keep its backbone, image "
            "size and head"
        )
    work.network.set_weights(weights)
    work.initial = weights
    text = f"Measuring run {parent.id}, which this one continues"
    work.report("training", text, 0, None)
    work.network.compile(
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=work.recipe.head.label_smoothing),
        jit_compile=False,
    )
    measured = input_pipeline.Examples(
        work.pixels, work.split["validation"], work.dataset.labels, len(work.dataset.classes)
    )
    validation = input_pipeline.evaluation_batches(measured, work.recipe)
    obey = keras.callbacks.LambdaCallback(  # the report may raise what the user asked for
        on_test_batch_end=lambda batch, logs: work.report("training", text, 0, None)
    )
    loss = work.network.evaluate(validation, verbose=0, callbacks=[obey])
    work.best.offer(work.network, loss, -1, -1)
    work.events.write(
        "note",
        text=f"Continues run {parent.id}, whose validation loss is {loss:.4g}; its weights are "
        "kept unless better ones are found.",
    )
