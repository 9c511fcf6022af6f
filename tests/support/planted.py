"""A class-per-folder dataset with planted faults, and how many of them an inspection finds."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from engine.images import decode

PARTS = {"train": 75, "validation": 15, "test": 10}
LONELY = "lonely"
"""The class with a single image."""
COUNTS = {
    "exact_duplicates": 10,
    "near_duplicates": 10,
    "mislabelled": 10,
    "unreadable": 5,
    "blurry": 5,
    "too_dark": 5,
    "tiny_class": 1,
}
KEPT_AREA = 0.9
"""Of a near duplicate that is cropped."""


@dataclass
class Planted:
    """What was planted.

    Attributes:
        folder: the dataset, in parts: folder/train/CLASS/NAME.
        names: {kind: names of the images or files}; of copies the copy's name.
        originals: {name of a copy: name of what it is a copy of}.
        labels: {name of a mislabelled image: its right class}.
    """

    folder: Path
    names: dict = field(default_factory=lambda: {kind: [] for kind in COUNTS})
    originals: dict = field(default_factory=dict)
    labels: dict = field(default_factory=dict)


def plant(pictures, folder, seed=0) -> Planted:
    """Writes a dataset with faults.

    Args:
        pictures: list of (class, encoded bytes), several of each class.
        folder: to write to.
        seed: another number plants them elsewhere.
    """
    random, made = np.random.default_rng(seed), Planted(Path(folder))
    classes = sorted({label for label, _ in pictures})
    order = random.permutation(len(pictures)).tolist()
    parts = random.choice(list(PARTS), len(pictures), p=[s / 100 for s in PARTS.values()])
    # At most one fault per image, so that each finding belongs to one fault.
    faults = [kind for kind, count in COUNTS.items() for _ in range(count)]
    fault = dict(zip(order, faults, strict=False))
    for number, ((label, data), part) in enumerate(zip(pictures, parts.tolist(), strict=True)):
        kind = fault.get(number)
        if kind in ("mislabelled", "tiny_class", "exact_duplicates", "near_duplicates"):
            part = "train"
        stored = LONELY if kind == "tiny_class" else label
        if kind == "mislabelled":
            stored = str(random.choice([name for name in classes if name != label]))
        name = f"{part}/{stored}/{number:04d}.{decode.info(data)[2].lower()}"
        written = _ALTERED.get(kind, lambda data, random: data)(data, random)
        _write(made.folder / name, written)
        if kind in ("exact_duplicates", "near_duplicates"):
            copy = f"{random.choice(['validation', 'test'])}/{label}/copy-{number:04d}.jpg"
            altered = nearly(data, random) if kind == "near_duplicates" else data
            _write(made.folder / copy, altered)
            made.originals[copy], name = name, copy
        if kind == "mislabelled":
            made.labels[name] = label
        if kind:
            made.names[kind].append(name)
    return made


def nearly(data, random) -> bytes:
    """A copy of an image: cropped to `KEPT_AREA` at some place, scaled, and encoded again."""
    picture = decode.read(data)
    width, height = picture.size
    share = random.uniform(KEPT_AREA, 1)
    size = int(width * share), int(height * KEPT_AREA / share)
    sides = zip((width, height), size, strict=True)
    left, top = (int(random.integers(0, whole - part + 1)) for whole, part in sides)
    picture = picture.crop((left, top, left + size[0], top + size[1]))
    scale = random.uniform(0.5, 1.5)
    picture = picture.resize([max(1, int(side * scale)) for side in size], Image.Resampling.BICUBIC)
    return _jpeg(picture, int(random.integers(50, 90)))


def _blurred(data, random) -> bytes:
    picture = decode.read(data)
    return _jpeg(picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 64)), 90)


def _black(data, random) -> bytes:
    """A frame as a camera with its lid on makes: some noise, nothing else."""
    size = decode.read(data).size
    return _jpeg(Image.fromarray(random.integers(0, 8, (size[1], size[0], 3), np.uint8)), 90)


def _cut_off(data, random) -> bytes:
    return data[: len(data) // 2]


_ALTERED = {"blurry": _blurred, "too_dark": _black, "unreadable": _cut_off}


def _jpeg(picture, quality) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _write(path, data) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def scores(planted, dataset, found) -> dict[str, tuple[float, float]]:
    """{kind: (recall, precision)} of findings, kinds with copies by pairs; 1.0 where none is named.

    Args:
        planted: of `plant`.
        dataset: the prepared Dataset.
        found: list of Finding.
    """
    found = {finding.kind: finding for finding in found}
    return {
        kind: _score(kind, names, planted, dataset, found) for kind, names in planted.names.items()
    }


def named(planted, dataset, finding, kind) -> set:
    """What a finding names, in the terms of `Planted.names`: pairs of names for copies."""
    if finding is None:
        return set()
    if kind == "unreadable":
        return {name for name, _ in dataset.unreadable}
    if finding.groups is None:
        return {dataset.names[i] for i in finding.indices.tolist()}
    return {
        frozenset((dataset.names[a], dataset.names[b]))
        for group in finding.groups
        for place, a in enumerate(group.tolist())
        for b in group[place + 1 :].tolist()
    }


def wanted(planted, kind) -> set:
    """The same for what was planted."""
    if kind in ("exact_duplicates", "near_duplicates"):
        return {frozenset((name, planted.originals[name])) for name in planted.names[kind]}
    return set(planted.names[kind])


def suspects(found) -> np.ndarray:
    """Images whose label is listed, the most doubtful first: {kind: Finding}."""
    lists = [found[kind].indices for kind in ("mislabelled", "doubtful") if kind in found]
    return np.concatenate([np.zeros(0, int), *lists])


def _score(kind, names, planted, dataset, found):
    seen, sought = named(planted, dataset, found.get(kind), kind), wanted(planted, kind)
    if kind == "mislabelled":
        seen = {dataset.names[i] for i in suspects(found).tolist()}
    hits = len(seen & sought)
    return hits / len(sought), hits / len(seen) if seen else 1.0
