"""What Graft costs and saves: `make benchmark` or `python -m benchmarks`.

Each part is a module with `run(home, quick)`, which returns rows for the table and raw figures:

recipe       the reference recipe: plain Keras code and Graft
xception     the frozen stage of Xception on a few photos: plain Keras code and Graft
block        the last block: trained on cached features, and with the whole network
throughput   feature pass, predictions and training steps, and bare decoding and forward passes
dashboard    a run with its page open, and without
growth       time and memory of a run with 1,000 to 30,000 images
choices      alternatives for the training step and the conversion
decode       large photos decoded at a reduced scale, and decoded whole
inspection   inspecting a dataset beyond one feature pass, and with 1,000 to 50,000 images
labels       planted label errors: how many are found, and which share of the lists is wrong
time_left    the time left that a run shows, against the true one
long_run     opening the page of a run of one hour, and of ten
gate         thumbnails, reruns and 60 open pages, with the gate and without

`reference` is the plain Keras code, `viewer` an open page on another computer, `common` what the
parts share, and `report` the document.
"""

PARTS = {
    "recipe": 20,
    "xception": 13,
    "block": 6,
    "throughput": 2,
    "dashboard": 7,
    "growth": 7,
    "choices": 5,
    "decode": 0.3,
    "inspection": 12,
    "labels": 6,
    "time_left": 8,
    "long_run": 0.4,
    "gate": 1,
}
"""Names, and about how many minutes each part takes on two slow cores."""
