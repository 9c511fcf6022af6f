"""Large photos decoded whole, as in Graft, and with Pillow's draft mode.

In draft mode the JPEG decoder shrinks by 2, 4 or 8 while it decodes. It is faster, and gives other
pixels.
"""

import io
import statistics
import time

import numpy as np
from PIL import Image, ImageOps

from benchmarks import common
from engine.data.sources import sample
from engine.images import decode

SIZE = 224
WIDTH, HEIGHT = 4000, 3000


def run(home, quick) -> dict:
    count = 2 if quick else 10
    common.say(f"making {count} photos of 12 megapixels")
    photos = [photo(i) for i in range(count)]
    found = {"whole": [], **{f"draft {k}": [] for k in (1, 2)}}
    differences = {1: [], 2: []}
    for data in photos:
        begun = time.perf_counter()
        whole = decode.load(data, SIZE)
        found["whole"].append(time.perf_counter() - begun)
        for times in (1, 2):
            begun = time.perf_counter()
            reduced = drafted(data, times)
            found[f"draft {times}"].append(time.perf_counter() - begun)
            differences[times].append(np.abs(whole.astype(int) - reduced))
    whole = [1000 * statistics.median(found["whole"])]
    rows = []
    for times in (1, 2):
        off = np.stack(differences[times])
        rows.append(
            common.row(
                f"12-megapixel JPEG to {SIZE} px, draft mode down to {times} x {SIZE} or more",
                whole,
                [1000 * statistics.median(found[f"draft {times}"])],
                "ms",
                note="baseline: `decode.load`, as in Graft; pixels differ by "
                f"{off.mean():.2f} of 255 on average, {off.max()} at most",
            )
        )
    return {"rows": rows, "figures": found | {"bytes": [len(data) for data in photos]}}


def photo(number) -> bytes:
    """A drawing as large as a phone's photo, with the grain of one."""
    drawing = sample.render(number % len(sample.CLASSES), number)
    large = np.asarray(drawing.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    grain = np.random.default_rng(number).normal(0, 4, large.shape).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def drafted(data, times) -> np.ndarray:
    """`decode.load` with draft mode, which keeps at least `times` the wanted size."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (times * SIZE, times * SIZE))
    return decode.to_pixels(ImageOps.exif_transpose(image).convert("RGB"), SIZE)
