"""The built-in sample dataset: generated drawings of five things, no download.

Colours, backgrounds, poses, sizes and light are drawn alike for all classes, so only the shape of
the thing tells them apart.
"""

import io
import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

from engine.builtin.drawing import Layer, clip_to, colour, compose, shade

CLASSES = ("balloon", "cactus", "mushroom", "sailboat", "teacup")
DESCRIPTION = (
    "Generated drawings, not photos: five pleasant things in varied shapes, colours, poses, light "
    "and surroundings, drawn by Graft itself so that everything can be tried without a download."
)
SIZES = (96, 128)
"""Shortest and longest side, pixels."""


def render(class_index: int, seed: int) -> Image.Image:
    """Draws one picture.

    Args:
        class_index: 0 to 4, an index into `CLASSES`.
        seed: a non-negative int; the same seed gives the same picture.

    Returns:
        A PIL image of mode RGB, each side 96 to 128 pixels.
    """
    random = np.random.default_rng([seed, class_index])
    layer = Layer()
    _THINGS[class_index](layer, random)
    width, height = random.integers(SIZES[0], SIZES[1] + 1, 2)
    return compose(random, layer, int(width), int(height))


def generate(count: int = 600, seed: int = 0) -> Iterator[tuple[str, int, bytes]]:
    """Draws the dataset, one picture at a time.

    Args:
        count: number of pictures; the classes take turns.
        seed: another number gives another dataset.

    Yields:
        (file name such as "teacup/00012.png", class index, encoded PNG bytes).
    """
    for number in range(count):
        label = number % len(CLASSES)
        file = io.BytesIO()
        render(label, seed * 1_000_003 + number).save(file, "PNG", compress_level=1)
        yield f"{CLASSES[label]}/{number:05d}.png", label, file.getvalue()


def _balloon(layer, random):
    """A hot-air balloon: striped envelope, ropes, basket."""
    main, second = colour(random), colour(random)
    rx, ry, cy = random.uniform(0.5, 0.68), random.uniform(0.55, 0.66), -0.3
    neck, basket = random.uniform(0.1, 0.18), random.uniform(0.62, 0.78)
    ink = shade(main, 0.45)
    for side in (-1, 1):
        layer.line([(side * rx * 0.6, cy + ry * 0.75), (side * neck, basket)], 0.025, ink)
    envelope = Layer()
    envelope.ellipse(0, cy, rx, ry, main)
    envelope.polygon([(-rx * 0.93, cy + ry * 0.35), (rx * 0.93, cy + ry * 0.35), (neck, cy + ry * 1.35),
                      (-neck, cy + ry * 1.35)], main)  # fmt: skip
    stripes = Layer()
    style = random.integers(0, 3)
    if style == 0:
        for x in (-0.72, 0.0, 0.72):
            stripes.ellipse(x * rx, cy + 0.1, rx * 0.16, ry * 1.4, second)
    elif style == 1:
        for y in (-0.5, 0.1):
            stripes.rectangle(-1, cy + y * ry, 1, cy + (y + 0.28) * ry, second)
    else:
        stripes.ellipse(0, cy - 0.05, rx * 0.45, ry * 0.4, second)
    clip_to(stripes, envelope)
    envelope.image.alpha_composite(stripes.image)
    layer.image.alpha_composite(envelope.image)
    layer.rectangle(-neck * 1.2, basket, neck * 1.2, basket + 0.2, shade(second, 0.7), 0.03)


def _cactus(layer, random):
    """A cactus with up to three arms, in a pot or in sand."""
    body, width = colour(random), random.uniform(0.15, 0.24)
    dark = shade(body, 0.65)
    top = random.uniform(-0.85, -0.6)
    layer.line([(0, 0.6), (0, top + width)], 2 * width, body)
    for side in random.permutation([-1, 1])[: random.integers(1, 3)]:
        y, reach = random.uniform(-0.15, 0.3), random.uniform(0.42, 0.62)
        up = y - random.uniform(0.25, 0.55)
        arm = random.uniform(0.6, 0.85) * width
        layer.line([(0, y), (side * reach, y), (side * reach, up)], 2 * arm, body)
        layer.line([(side * reach, y - 0.05), (side * reach, up)], 0.02, dark)
    for x in (-0.5, 0.0, 0.5):
        layer.line([(x * width * 1.2, 0.5), (x * width * 1.2, top + width)], 0.02, dark)
    if random.random() < 0.4:
        bloom = colour(random)
        for a in range(5):
            layer.ellipse(
                0.08 * math.cos(a * 1.257),
                top - 0.03 + 0.08 * math.sin(a * 1.257),
                0.07,
                0.07,
                bloom,
            )
    ground = colour(random)
    if random.random() < 0.6:
        layer.polygon([(-0.42, 0.5), (0.42, 0.5), (0.3, 0.95), (-0.3, 0.95)], ground)
        layer.rectangle(-0.47, 0.45, 0.47, 0.58, shade(ground, 0.8), 0.03)
    else:
        layer.ellipse(0, 0.72, 0.75, 0.2, ground)


def _mushroom(layer, random):
    """A mushroom: stem, domed or flat cap, often with spots; sometimes a small second one."""
    cap, stem, spot = (
        colour(random),
        colour(random, (0.05, 0.3), (0.75, 1)),
        colour(random, (0, 0.4)),
    )

    def one(x, scale):
        rx, ry = random.uniform(0.6, 0.8) * scale, random.uniform(0.42, 0.75) * scale
        y, w = 0.85 - 0.85 * scale, random.uniform(0.13, 0.22) * scale
        layer.polygon([(x - w, y), (x + w, y), (x + w * 1.4, 0.9), (x - w * 1.4, 0.9)], stem)
        layer.ellipse(x, 0.9, w * 1.4, 0.06, stem)
        dome = Layer()
        dome.ellipse(x, y + 0.06, rx, ry, cap)
        mask = Layer()
        mask.rectangle(-1, -1, 1, y + 0.06, (0, 0, 0))
        clip_to(dome, mask)
        layer.image.alpha_composite(dome.image)
        layer.ellipse(x, y + 0.06, rx, 0.1 * scale, shade(cap, 0.65))
        if random.random() < 0.65:
            for _ in range(random.integers(3, 7)):
                a, r = random.uniform(0.3, 2.84), random.uniform(0.2, 0.75)
                size = random.uniform(0.05, 0.11) * scale
                layer.ellipse(x + rx * r * math.cos(a), y - ry * r * math.sin(a), size, size, spot)

    if random.random() < 0.35:
        one(random.choice([-0.55, 0.55]), 0.5)
    one(0, random.uniform(0.85, 1.0))


def _sailboat(layer, random):
    """A sailing boat: hull, mast, one or two sails, sometimes a flag and water."""
    hull, sail, other = colour(random), colour(random, (0, 0.6), (0.7, 1)), colour(random)
    deck, mast = random.uniform(0.42, 0.55), random.uniform(-0.15, 0.15)
    top = random.uniform(-0.9, -0.7)
    layer.line([(mast, deck), (mast, top)], 0.04, shade(hull, 0.5))
    reach, curve = random.uniform(0.5, 0.75), random.uniform(0.0, 0.15)
    main = [(mast + 0.05, top + 0.08), (mast + reach * 0.6 + curve, (top + deck) / 2), (mast + reach, deck - 0.1),
            (mast + 0.05, deck - 0.1)]  # fmt: skip
    layer.polygon(main, sail)
    if random.random() < 0.75:
        layer.polygon([(mast - 0.05, top + 0.2), (mast - random.uniform(0.4, 0.65), deck - 0.12),
                       (mast - 0.05, deck - 0.12)], shade(sail, 0.8))  # fmt: skip
    if random.random() < 0.5:
        layer.polygon([(mast, top), (mast + 0.2, top + 0.06), (mast, top + 0.13)], other)
    length, depth = random.uniform(0.7, 0.9), random.uniform(0.25, 0.38)
    layer.polygon(
        [
            (-length, deck),
            (length, deck),
            (length * 0.62, deck + depth),
            (-length * 0.68, deck + depth),
        ],
        hull,
    )
    layer.line([(-length * 0.9, deck + 0.08), (length * 0.9, deck + 0.08)], 0.04, shade(hull, 1.8))
    if random.random() < 0.6:
        water = colour(random)
        wave = [(x / 10, deck + depth - 0.03 + 0.04 * math.sin(x * 1.6)) for x in range(-10, 11)]
        layer.polygon([*wave, (0.9, 0.98), (-0.9, 0.98)], water)


def _teacup(layer, random):
    """A cup with a handle on a saucer, sometimes steaming or patterned."""
    china, band, tea = colour(random), colour(random), colour(random, (0.4, 0.9), (0.3, 0.6))
    rim, base = random.uniform(0.5, 0.64), random.uniform(0.22, 0.4)
    top, bottom = random.uniform(-0.3, -0.1), random.uniform(0.5, 0.62)
    layer.ellipse(0, bottom + 0.1, random.uniform(0.75, 0.92), 0.15, shade(china, 0.85))
    layer.ellipse(0, bottom + 0.07, 0.5, 0.08, shade(china, 0.65))
    layer.ring(
        rim + 0.08,
        (top + bottom) / 2 - 0.05,
        0.2,
        random.uniform(0.18, 0.26),
        0.075,
        shade(china, 0.9),
    )
    cup = Layer()
    belly = (rim + base) / 2 * random.uniform(1.0, 1.2)
    cup.polygon([(-rim, top), (rim, top), (belly, (top + bottom) / 2), (base, bottom + 0.05), (-base, bottom + 0.05),
                 (-belly, (top + bottom) / 2)], china)  # fmt: skip
    marks = Layer()
    style = random.integers(0, 3)
    if style == 0:
        y = random.uniform(0.1, 0.3)
        marks.rectangle(-1, y, 1, y + 0.12, band)
    elif style == 1:
        for x in (-0.35, 0.0, 0.35):
            marks.ellipse(x, 0.2, 0.08, 0.08, band)
    clip_to(marks, cup)
    cup.image.alpha_composite(marks.image)
    layer.image.alpha_composite(cup.image)
    layer.ellipse(0, top, rim, 0.13, shade(china, 1.5))
    layer.ellipse(0, top + 0.02, rim * 0.86, 0.09, tea)
    if random.random() < 0.5:
        for x in (-0.18, 0.12):
            steam = [
                (x + 0.07 * math.sin(i * 1.1 + 6 * x), top - 0.12 - i * 0.09) for i in range(6)
            ]
            layer.line(steam, 0.04, (235, 235, 240))


_THINGS = (_balloon, _cactus, _mushroom, _sailboat, _teacup)
