"""The built-in sample dataset: generated drawings of five kinds of objects, no download.

Colours, backgrounds, poses, sizes and light have the same distribution in all classes, so only the
shape of the object distinguishes them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from engine.images.drawing import Colour, Layer, Point, clip_to, colour, compose, shade

CLASSES = ("balloon", "cactus", "mushroom", "sailboat", "teacup")
DESCRIPTION = (
    "Generated drawings, not photos: five kinds of objects in varied shapes, colours, poses, light "
    "and surroundings, drawn by Graft itself so that everything works without a download."
)
VERSION = 1
"""Increases when the drawings change, so that copies prepared before are not used."""
SIZES = (96, 128)
"""Shortest and longest side, pixels."""


def render(class_index: int, seed: int) -> Image.Image:
    """Draws one image.

    Args:
        class_index: 0 to 4, an index into `CLASSES`.
        seed: a non-negative int; the same seed gives the same image.

    Returns:
        A PIL image of mode RGB, each side 96 to 128 pixels.
    """
    random = np.random.default_rng([seed, class_index])
    layer = Layer()
    _THINGS[class_index](layer, random)
    width, height = random.integers(SIZES[0], SIZES[1] + 1, 2)
    return compose(random, layer, (int(width), int(height)), (0.8, 1.08), 9.0, 0.22)


def picture_seed(seed: int, number: int) -> int:
    """The seed that `generate(seed=seed)` gives to `render` for its image of that number."""
    return seed * 1_000_003 + number


def generate(count: int = 600, seed: int = 0) -> Iterator[tuple[str, int, bytes]]:
    """Draws the dataset, one image at a time.

    Args:
        count: number of images; the classes alternate.
        seed: another number gives another dataset.

    Yields:
        (file name such as "teacup/00012.png", class index, encoded PNG bytes).
    """
    for number in range(count):
        label = number % len(CLASSES)
        file = io.BytesIO()
        render(label, picture_seed(seed, number)).save(file, "PNG", compress_level=1)
        yield f"{CLASSES[label]}/{number:05d}.png", label, file.getvalue()


def _curve(line: Sequence[Point], closed: bool = True) -> list[Point]:
    """A smooth line through points (Catmull-Rom), as a list of more points."""
    points = np.asarray(line, float)
    count = len(points)
    last = count if closed else count - 1
    t = np.linspace(0, 1, 9)[:-1, None]
    smooth = []
    for i in range(last):
        near = [i - 1, i, i + 1, i + 2]
        a, b, c, d = points[[n % count if closed else min(max(n, 0), count - 1) for n in near]]
        bend = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        smooth.extend(bend)
    if not closed:
        smooth.append(points[-1])
    return [(float(x), float(y)) for x, y in smooth]


def _mirrored(side: Sequence[Point]) -> list[Point]:
    """The outline of a symmetric object, from the (x, y) of its right side, top to bottom."""
    return [*side, *[(-x, y) for x, y in reversed(side)]]


def _decorated(layer: Layer, shape: Layer, marks: Layer) -> None:
    """Puts a shape with marks, cut off at its edge, onto the layer."""
    clip_to(marks, shape)
    shape.image.alpha_composite(marks.image)
    layer.image.alpha_composite(shape.image)


def _balloon(layer: Layer, random: np.random.Generator) -> None:
    """A hot-air balloon: patterned envelope, ropes, basket."""
    main, second, third = colour(random), colour(random), colour(random)
    top, rx = random.uniform(-0.95, -0.85), random.uniform(0.48, 0.7)
    neck, basket = random.uniform(0.1, 0.17), random.uniform(0.6, 0.72)
    hem = random.uniform(0.3, 0.45)
    widest = top + (hem - top) * random.uniform(0.34, 0.46)
    for x in (-1, -0.35, 0.35, 1):
        layer.line([(x * rx * 0.5, hem - 0.2), (x * neck, basket + 0.03)], 0.02, (70, 56, 50))
    side = [
        (0, top),
        (rx * 0.62, top + 0.09),
        (rx, widest),
        (rx * 0.72, (widest + hem) / 2 + 0.06),
        (neck, hem),
    ]
    envelope, marks = Layer(), Layer()
    envelope.polygon(_curve(_mirrored(side)), main)
    style = random.integers(0, 5)
    if style == 0:  # gores, narrower towards the sides
        for x in (-0.86, -0.42, 0.0, 0.42, 0.86):
            marks.ellipse(x * rx, widest, rx * 0.2 * (1 - 0.5 * abs(x)), hem - top, second)
    elif style == 1:
        for y in (-0.55, 0.0):
            marks.rectangle(-1, widest + y * rx, 1, widest + (y + 0.3) * rx, second)
    elif style == 2:  # an emblem
        marks.ellipse(0, widest, rx * 0.46, rx * 0.46, second)
        spokes = [(math.pi * i / 5 - math.pi / 2, rx * (0.17 if i % 2 else 0.4)) for i in range(10)]
        marks.polygon([(r * math.cos(a), widest + r * math.sin(a)) for a, r in spokes], third)
    elif style == 3:  # a zigzag
        steps = [(x / 5, widest + (0.12 if x % 2 else -0.12)) for x in range(-5, 6)]
        marks.line(steps, 0.13, second)
        marks.line([(x, y + 0.26) for x, y in steps], 0.06, third)
    else:  # a crown of another colour
        marks.rectangle(-1, -1, 1, widest - 0.2, second)
        marks.rectangle(-1, widest + 0.25, 1, 1, third)
    _decorated(layer, envelope, marks)
    layer.ellipse(0, hem, neck * 1.05, 0.035, shade(main, 0.5))
    cane = colour(random, (0.35, 0.6), (0.4, 0.75))
    layer.rectangle(-neck * 1.15, basket, neck * 1.15, basket + 0.22, cane, 0.05)
    for y in (0.06, 0.13):
        layer.line([(-neck, basket + y), (neck, basket + y)], 0.015, shade(cane, 0.7))
    layer.rectangle(-neck * 1.3, basket - 0.02, neck * 1.3, basket + 0.04, shade(cane, 0.65), 0.02)


def _cactus(layer: Layer, random: np.random.Generator) -> None:
    """A cactus, with arms or round, in a pot or in the ground."""
    body = colour(random)
    dark, light = shade(body, 0.62), shade(body, 1.9)
    if random.random() < 0.75:
        top = _column(layer, random, body, dark, light)
    else:
        top = _barrel(layer, random, body, dark, light)
    if random.random() < 0.5:
        bloom = colour(random, (0.4, 0.8), (0.75, 1))
        for a in range(5):
            x, y = 0.085 * math.cos(a * 1.257), 0.085 * math.sin(a * 1.257)
            layer.ellipse(x, top - 0.02 + y, 0.07, 0.07, bloom)
        layer.ellipse(0, top - 0.02, 0.05, 0.05, shade(bloom, 0.6))
    ground = colour(random)
    if random.random() < 0.6:
        layer.polygon([(-0.42, 0.5), (0.42, 0.5), (0.3, 0.95), (-0.3, 0.95)], ground)
        if random.random() < 0.5:
            layer.line(
                [(-0.36, 0.72), (-0.18, 0.8), (0, 0.72), (0.18, 0.8), (0.36, 0.72)],
                0.05,
                shade(ground, 1.8),
            )
        layer.rectangle(-0.47, 0.43, 0.47, 0.57, shade(ground, 0.8), 0.04)
    else:
        mound = [(-0.8, 0.8), (-0.35, 0.6), (0.1, 0.56), (0.5, 0.64), (0.8, 0.82), (0, 0.9)]
        layer.polygon(_curve(mound), ground)
        for x in random.uniform(-0.6, 0.6, 3):
            layer.ellipse(x, 0.78, 0.06, 0.035, shade(ground, 0.7))


def _column(
    layer: Layer, random: np.random.Generator, body: Colour, dark: Colour, light: Colour
) -> float:
    """The tall kind, with one to three arms; returns its top."""
    width, top = random.uniform(0.14, 0.23), random.uniform(-0.75, -0.5)
    for side in [*random.permutation([-1, 1]), 1][: random.integers(1, 4)]:
        y, reach = random.uniform(-0.2, 0.3), random.uniform(0.4, 0.62)
        up, thick = y - random.uniform(0.25, 0.55), random.uniform(0.55, 0.85) * width
        bend = [
            (0, y + 0.03),
            (side * reach * 0.7, y),
            (side * reach, y - 0.16),
            (side * reach, up),
        ]
        layer.line(_curve(bend, closed=False), 2 * thick, body)
        layer.line([(side * reach, y - 0.1), (side * reach, up)], 0.02, dark)
    layer.line([(0, 0.6), (0, top + width)], 2 * width, body)
    for x in (-0.55, 0.0, 0.55):
        layer.line([(x * width, 0.5), (x * width, top + width)], 0.02, dark)
    for x in (-0.8, -0.28, 0.28, 0.8):
        for y in np.arange(top + width + 0.05, 0.45, 0.16):
            layer.ellipse(x * width, y, 0.016, 0.016, light)
    return top


def _barrel(
    layer: Layer, random: np.random.Generator, body: Colour, dark: Colour, light: Colour
) -> float:
    """The round kind, ribbed, sometimes with a small one on top; returns its top."""
    rx, ry = random.uniform(0.42, 0.58), random.uniform(0.45, 0.6)
    y = 0.58 - ry * 0.92
    parts = [(y, rx, ry)]
    if random.random() < 0.5:
        parts.append((y - ry * 1.15, rx * 0.45, ry * 0.42))
    for middle, w, h in parts:
        layer.ellipse(0, middle, w, h, body)
        for x in (-0.62, -0.22, 0.22, 0.62):
            rib = [
                (x * w * math.sqrt(max(0, 1 - s * s)), middle + s * h)
                for s in np.linspace(-0.95, 0.95, 9)
            ]
            layer.line(rib, 0.022, dark)
            for px, py in rib[1:-1:2]:
                layer.line([(px - 0.035, py - 0.03), (px + 0.035, py - 0.03)], 0.018, light)
    return parts[-1][0] - parts[-1][2]


def _mushroom(layer: Layer, random: np.random.Generator) -> None:
    """A mushroom: stem, domed, flat or pointed cap, often spots; sometimes a small second one."""
    cap, stem = colour(random), colour(random, (0.05, 0.3), (0.75, 1))
    spot = colour(random, (0, 0.4), (0.8, 1)) if random.random() < 0.7 else shade(cap, 0.6)
    spotted, skirt = random.random() < 0.65, random.random() < 0.4

    def one(x: float, scale: float) -> None:
        rx, ry = random.uniform(0.55, 0.8) * scale, random.uniform(0.45, 0.85) * scale
        y, w = 0.9 - 0.88 * scale, random.uniform(0.13, 0.2) * scale
        lean = random.uniform(-0.08, 0.08)
        foot = [(x + lean - w, y), (x + lean + w, y), (x + w, 0.55), (x + w * 1.6, 0.86), (x, 0.93),
                (x - w * 1.6, 0.86), (x - w, 0.55)]  # fmt: skip
        layer.polygon(_curve(foot), stem)
        if skirt:
            frill = [
                (x - w * 0.9, y + 0.18),
                (x + w * 0.9, y + 0.18),
                (x + w * 1.7, y + 0.32),
                (x - w * 1.7, y + 0.32),
            ]
            layer.polygon(frill, shade(stem, 0.82))
        x += lean
        dome, marks = Layer(), Layer()
        flat = random.uniform(0.5, 0.8)
        outline = [
            (0, -ry),
            (rx * flat, -ry * random.uniform(0.66, 0.84)),
            (rx, 0.0),
            (rx * 0.6, 0.09 * scale),
        ]
        dome.polygon(_curve([(x + a, y + b) for a, b in _mirrored(outline)]), cap)
        if spotted:
            for _ in range(random.integers(4, 9)):
                a, r = random.uniform(0.2, 2.94), random.uniform(0.1, 0.85)
                size = random.uniform(0.05, 0.12) * scale
                marks.ellipse(
                    x + rx * r * math.cos(a), y - ry * r * math.sin(a), size, size * 0.85, spot
                )
        _decorated(layer, dome, marks)
        layer.ellipse(x, y + 0.05 * scale, rx * 0.88, 0.07 * scale, shade(stem, 0.72))
        for a in np.linspace(-0.8, 0.8, 9):
            layer.line(
                [(x + a * rx, y + 0.03 * scale), (x + a * rx * 0.6, y + 0.09 * scale)],
                0.012,
                shade(stem, 0.5),
            )

    if random.random() < 0.35:
        one(random.choice([-0.55, 0.55]), random.uniform(0.42, 0.58))
    one(0, random.uniform(0.82, 1.0))


def _sailboat(layer: Layer, random: np.random.Generator) -> None:
    """A sailing boat: hull, mast, one or two sails, sometimes stripes, a flag and water."""
    hull, sail, other = colour(random), colour(random, (0, 0.6), (0.75, 1)), colour(random)
    deck, mast = random.uniform(0.38, 0.5), random.uniform(-0.15, 0.15)
    top, wood = random.uniform(-0.92, -0.72), (96, 70, 52)
    reach, wind = random.uniform(0.45, 0.75), random.uniform(0.02, 0.16)
    layer.line([(mast, deck), (mast, top)], 0.035, wood)
    main, marks = Layer(), Layer()
    leech = [
        (mast + 0.03, top + 0.06),
        (mast + reach * 0.55 + wind, (top + deck) / 2),
        (mast + reach, deck - 0.12),
    ]
    main.polygon([*_curve(leech, closed=False), (mast + 0.03, deck - 0.12)], sail)
    style = random.integers(0, 4)
    if style == 0:
        for y in (0.3, 0.62):
            low = top + (deck - top) * y
            marks.rectangle(-1, low, 1, low + 0.12, other)
    elif style == 1:
        marks.ellipse(mast + reach * 0.33, deck - 0.42, 0.12, 0.12, other)
    elif style == 2:
        for y in np.arange(top + 0.3, deck - 0.2, 0.22):
            marks.line([(mast, y), (1, y + 0.08)], 0.014, shade(sail, 0.7))
    _decorated(layer, main, marks)
    if random.random() < 0.75:
        tack = mast - random.uniform(0.4, 0.68)
        luff = [
            (mast - 0.03, top + random.uniform(0.1, 0.35)),
            (mast - 0.24 - wind, deck - 0.42),
            (tack, deck - 0.1),
        ]
        jib = other if random.random() < 0.4 else shade(sail, 0.84)
        layer.polygon([*_curve(luff, closed=False), (mast - 0.06, deck - 0.12)], jib)
    if random.random() < 0.5:
        flag = [(mast, top - 0.03), (mast - 0.22, top + 0.03), (mast, top + 0.1)]
        layer.polygon(flag, colour(random, (0.5, 0.9)))
    layer.line([(mast, deck - 0.06), (mast + reach, deck - 0.07)], 0.03, wood)
    depth = _hull(layer, random, deck, hull, other)
    if random.random() < 0.55:
        water = colour(random, (0.3, 0.7))
        wave = [(x / 12, deck + depth - 0.04 + 0.04 * math.sin(x * 1.4)) for x in range(-11, 12)]
        layer.polygon([*wave, (0.7, 0.96), (-0.7, 0.96)], water)
        layer.line(wave, 0.025, shade(water, 1.9))


def _hull(
    layer: Layer, random: np.random.Generator, deck: float, hull: Colour, band_ink: Colour
) -> float:
    """A boat's hull below `deck`, with bands and sometimes portholes; returns its depth."""
    length, depth = random.uniform(0.68, 0.9), random.uniform(0.26, 0.4)
    bow = [
        (length, deck - 0.06),
        (length * 0.86, deck + depth * 0.6),
        (length * 0.55, deck + depth),
    ]
    stern = [
        (-length * 0.62, deck + depth),
        (-length * 0.82, deck + depth * 0.5),
        (-length * 0.86, deck),
    ]
    body, band = Layer(), Layer()
    body.polygon([*_curve(bow, closed=False), *stern], hull)
    band.rectangle(-1, deck + 0.05, 1, deck + 0.11, shade(hull, 2.2))
    if random.random() < 0.5:
        band.rectangle(-1, deck + depth * 0.72, 1, 1, band_ink)
    if random.random() < 0.4:
        for x in (-0.4, -0.1, 0.2):
            band.ellipse(x, deck + 0.17, 0.045, 0.045, (240, 240, 230))
    _decorated(layer, body, band)
    return depth


def _teacup(layer: Layer, random: np.random.Generator) -> None:
    """A cup with a handle, most often on a saucer, sometimes steaming or patterned."""
    china, band = colour(random, (0.1, 0.8)), colour(random)
    tea = colour(random, (0.4, 0.9), (0.3, 0.6))
    rim, base = random.uniform(0.48, 0.64), random.uniform(0.2, 0.34)
    top, bottom = random.uniform(-0.35, -0.08), random.uniform(0.5, 0.62)
    if random.random() < 0.8:
        wide = random.uniform(0.74, 0.92)
        layer.ellipse(0, bottom + 0.12, wide, 0.17, shade(china, 0.72))
        layer.ellipse(0, bottom + 0.09, wide, 0.155, shade(china, 0.95))
        layer.ellipse(0, bottom + 0.08, wide * 0.55, 0.085, shade(china, 0.65))
    tall = random.uniform(0.17, 0.25)
    layer.ring(
        rim + 0.06, top + 0.14 + tall, random.uniform(0.17, 0.24), tall, 0.075, shade(china, 0.85)
    )
    belly = rim * random.uniform(0.78, 1.04)
    middle = (top + bottom) / 2
    side = [(rim, top), (belly, middle), (base * 1.25, bottom), (base, bottom + 0.08)]
    cup, marks = Layer(), Layer()
    right = _curve(side, closed=False)
    cup.polygon(_mirrored(right), china)
    style = random.integers(0, 5)
    if style == 0:
        y = random.uniform(top + 0.18, middle)
        marks.rectangle(-1, y, 1, y + 0.14, band)
        marks.rectangle(-1, y + 0.19, 1, y + 0.22, band)
    elif style == 1:
        for x in (-0.4, -0.13, 0.13, 0.4):
            for y in (top + 0.24, top + 0.46):
                marks.ellipse(x, y, 0.065, 0.065, band)
    elif style == 2:  # a heart
        y = middle - 0.02
        for x in (-0.085, 0.085):
            marks.ellipse(x, y, 0.1, 0.1, band)
        marks.polygon([(-0.175, y + 0.05), (0.175, y + 0.05), (0, y + 0.25)], band)
    elif style == 3:
        for x in np.arange(-0.6, 0.61, 0.2):
            marks.line([(x, top), (x * 0.6, bottom)], 0.05, band)
    _decorated(layer, cup, marks)
    layer.ellipse(0, top, rim, 0.13, shade(china, 1.5))
    layer.ellipse(0, top + 0.015, rim * 0.88, 0.095, shade(tea, 0.7))
    layer.ellipse(0, top + 0.035, rim * 0.8, 0.07, tea)
    if random.random() < 0.5:
        for x in (-0.2, 0.0, 0.2)[random.integers(0, 2) :]:
            rise = [(x + 0.07 * math.sin(i * 1.1 + 6 * x), top - 0.12 - i * 0.07) for i in range(7)]
            layer.line(_curve(rise, closed=False), 0.035, (236, 236, 242))


_THINGS = (_balloon, _cactus, _mushroom, _sailboat, _teacup)
