"""What Graft costs and saves, measured side by side: `make benchmark` or `python -m benchmarks`.

Each part is a module with `run(home, quick)`, which returns rows for the table and raw figures:

recipe       the reference recipe as plain Keras code, against the same work through Graft
xception     the same for Xception's frozen stage, on a slice of the photos
block        the last block trained on boundary features, against the whole network in every epoch
throughput   feature pass, predictions and training steps, against bare decoding and forward passes
dashboard    a run with its page open, against a bare fit
growth       time and memory of a run from 1,000 to 30,000 images
choices      what was tried for the training step and the conversion
decode       decoding large photos at a reduced scale, against decoding them whole
inspection   inspecting a dataset: time beyond one feature pass, and growth from 1,000 to 50,000 images
long_run     opening the page of a run of one hour and of ten

`reference` is the plain Keras code, `viewer` a page open on another computer, `common` what the parts share, `report` the document.
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
    "long_run": 0.4,
}
"""Names and about how many minutes each takes on two slow cores."""
