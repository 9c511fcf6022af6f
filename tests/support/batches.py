"""Files for a batch, and its end."""

import io
import time
import zipfile


def example_files(run):
    """[(name, bytes)] of a run's example images, in class folders."""
    return [
        (f"{row['label']}/{row['path'].name}", row["path"].read_bytes()) for row in run.examples()
    ]


def zipped(files) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for name, data in files:
            out.writestr(name, data)
    packed.seek(0)
    return packed


def ended(batch):
    until = time.monotonic() + 120
    while (state := batch.state())["state"] == "running" and time.monotonic() < until:
        time.sleep(0.1)
    return state
