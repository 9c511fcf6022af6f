"""Inspecting a dataset: time beyond one feature pass, opening the results, growth with the images.

The larger datasets are drawings of the built-in sample, turned and mirrored in eight ways; a
comparison of pictures finds them all different.
"""

import io
import json
import sys
import time
from pathlib import Path

import psutil

from benchmarks import common
from benchmarks.growth import watched
from engine.recipe import DatasetSpec, load_preset

SIZES = (1_000, 10_000, 50_000)
QUICK_SIZES = (200, 400)
WAYS = 8
"""Turns by 0, 90, 180 and 270 degrees, each also mirrored."""


def run(home, quick) -> dict:
    photos = of_photos(home, quick)
    found = [of_drawings(home, count) for count in (QUICK_SIZES if quick else SIZES)]
    return {"rows": rows(photos, found), "figures": {"photos": photos, "drawings": found}}


def of_photos(home, quick) -> dict:
    """tf_flowers with the small backbone; if quick, the sample with its own."""
    recipe = load_preset("sample", ["dataset.images=200"]) if quick else load_preset("flowers")
    common.prepared(recipe, home)
    common.forget_features(home)
    common.say(f"inspecting {recipe.dataset.title}")
    return inspected(recipe.dataset, home, recipe)


def of_drawings(home, count) -> dict:
    """Drawings, pixels only."""
    common.say(f"{count:,} drawings: drawing and preparing")
    spec = DatasetSpec(source="folder", path=str(drawn(home, count)))
    common.prepared(load_preset("sample").model_copy(update={"dataset": spec}), home)
    common.say(f"{count:,} drawings: inspecting")
    return inspected(spec, home, None)


def inspected(spec, home, recipe) -> dict:
    """Inspects in the background, as a page does, then opens the results in a new process.

    Returns:
        A dict: images, seconds, memory (`growth.watched`), report, and reopened: seconds of
        importing, opening and finding, and the number of findings.
    """
    from engine.inspection import inspection

    begun = time.time()
    inspection.start(spec, home, recipe)
    pid = inspection.pid(spec, home)
    memory = watched(pid, lambda: inspection.state(spec, home, recipe)["state"] == "running")
    ended, seconds = inspection.state(spec, home, recipe), time.time() - begun
    if ended["state"] != "done":
        raise RuntimeError(ended["error"])
    given = json.dumps(recipe.to_dict()) if recipe else "null"
    reopened = common.python("benchmarks.inspection", home, spec.model_dump_json(), given)
    report = inspection.open_inspection(spec, home, recipe).report
    return {
        "images": report["pixels"]["images"],
        "seconds": seconds,
        "memory": memory,
        "report": report,
        "reopened": reopened,
    }


def rows(photos, found) -> list:
    report = photos["report"]
    (features,) = report["features"].values()
    beyond = photos["seconds"] - features["features_seconds"]
    again = photos["reopened"]
    made = [
        common.row(
            f"inspecting {photos['images']:,} photos, beyond one pass of features",
            [],
            [beyond],
            "s",
            "below 60 s",
            f"from start to end {photos['seconds']:.0f} s: features with TensorFlow's start "
            f"{features['features_seconds']:.0f}, pixels "
            f"{report['pixels']['measure_seconds']:.0f}, suspects, outliers and map "
            f"{features['suspects_seconds']:.0f}; peak memory "
            f"{photos['memory']['anonymous']:,.0f} MiB",
        ),
        common.row(
            "opening it again in a new process, with all findings",
            [],
            [again["seconds"]],
            "s",
            "below 2 s",
            f"opening {1000 * again['open_seconds']:.0f} ms, {again['findings']} kinds of findings "
            f"{1000 * again['find_seconds']:.0f} ms, the rest is Python's start and imports",
        ),
    ]
    least = found[0]
    for each in found:
        report = each["report"]["pixels"]
        made.append(
            common.row(
                f"inspecting the pixels of {each['images']:,} drawings: time per image",
                [1000 * least["seconds"] / least["images"]],
                [1000 * each["seconds"] / each["images"]],
                "ms",
                note=f"{each['seconds']:.0f} s: measures and thumbnails "
                f"{report['measure_seconds']:.0f}; "
                f"opened again with all findings in {each['reopened']['seconds']:.1f} s",
            )
        )
        made.append(
            common.row(
                f"inspecting the pixels of {each['images']:,} drawings: peak memory",
                [least["memory"]["anonymous"]],
                [each["memory"]["anonymous"]],
                "MiB",
                note=f"with mapped files {each['memory']['rss']:,.0f} (RSS)",
            )
        )
    return made


def drawn(home, count) -> Path:
    """A folder of this many pictures."""
    from PIL import Image

    from engine.data.sources import sample

    turns = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    root = Path(home) / f"drawings-{count}"
    for number, (name, _, data) in enumerate(sample.generate(-(-count // WAYS))):
        drawing = Image.open(io.BytesIO(data))
        for way in range(min(WAYS, count - number * WAYS)):
            picture = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if way % 2 else drawing
            picture = picture.transpose(turns[way // 2 - 1]) if way > 1 else picture
            path = root / name.replace(".png", f"-{way}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, "JPEG", quality=90)
    return root


def reopen(home, spec, recipe) -> dict:
    """Seconds of this new process, from its start, to open an inspection and list its findings."""
    from engine.data import datasets
    from engine.inspection import findings, inspection
    from engine.recipe import Recipe, SplitSpec

    spec, recipe = DatasetSpec.model_validate_json(spec), json.loads(recipe)
    opened = datasets.open_dataset(spec, home)
    parts, opening = opened.split(SplitSpec()), time.perf_counter()
    found = inspection.open_inspection(spec, home, Recipe.from_dict(recipe) if recipe else None)
    finding = time.perf_counter()
    listed, ended = findings.find(opened, found, parts), time.perf_counter()
    return {
        "seconds": time.time() - psutil.Process().create_time(),
        "open_seconds": finding - opening,
        "find_seconds": ended - finding,
        "findings": len(listed),
    }


if __name__ == "__main__":
    print(json.dumps(reopen(*sys.argv[1:])))
