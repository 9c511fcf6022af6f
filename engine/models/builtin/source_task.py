"""The data on which the built-in backbone was pretrained: 64 invented objects, none in the sample.

Each class is a fixed arrangement of simple parts (a turned body or a blob, discs, polygons, bars,
rings, strokes, patterns), drawn from the class's number. Each picture shifts the parts a little and
varies colours, pose, scene and light. A network trained on it recognizes shapes under varying
conditions.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from engine.images.drawing import Layer, clip_to, colour, compose, shade

CLASSES = tuple(f"thing {number:02d}" for number in range(64))
SIZE = 96


def render(class_index: int, seed: int) -> Image.Image:
    """Draws one picture.

    Args:
        class_index: 0 to 63, an index into `CLASSES`.
        seed: a non-negative int; the same seed gives the same picture.

    Returns:
        A PIL image of mode RGB, 96 x 96 pixels.
    """
    random = np.random.default_rng([7, class_index, seed])
    fixed = np.random.default_rng([11, class_index])
    layer = Layer()
    inks = [colour(random) for _ in range(4)]
    parts = [_part(fixed, number) for number in range(fixed.integers(2, 6))]
    # Some parts lie behind the body and some in front of it, like handles and lids.
    for number in fixed.permutation(len(parts)):
        kind, place, outline = parts[number]
        x, y, w, h, turn = place + np.array([0.04, 0.04, 0.05, 0.05, 0.1]) * random.normal(0, 1, 5)
        outline = outline * (1 + 0.07 * random.normal(0, 1, outline.shape))
        _draw(
            layer, kind, x, y, max(abs(w), 0.06), max(abs(h), 0.06), turn, inks[number % 4], outline
        )
    pattern = fixed.integers(0, 5)
    # A pattern is drawn in some pictures only, so it does not identify the class.
    if pattern < 3 and random.random() < 0.7:
        _decorate(layer, pattern, inks[3], random)
    return compose(random, layer, (SIZE, SIZE), (0.75, 1.05), 10.0, 0.25)


def _part(fixed: np.random.Generator, number: int) -> tuple[int, np.ndarray, np.ndarray]:
    """One part of a class: (kind, centre, size and turn, six numbers for the outline)."""
    outline = fixed.uniform(0.25, 1.0, 6)
    if number == 0:  # the body, in the middle: usually one of the two complex shapes
        kind = int(fixed.choice([0, 1, 2, 3, 5, 9, 9, 9, 10, 10]))
        size, turn = fixed.uniform(0.4, 0.72, 2), fixed.choice([0, 0, fixed.uniform(0, 6.28)])
        return kind, np.array([0, 0, *size, turn]), outline
    side, away = fixed.uniform(0, 6.28), fixed.uniform(0.35, 0.7)
    place = [away * math.cos(side), away * math.sin(side), *fixed.uniform(0.12, 0.36, 2)]
    return int(fixed.integers(0, 11)), np.array([*place, fixed.uniform(0, 6.28)]), outline


_CIRCLE = [(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 32, endpoint=False)]


def _draw(layer, kind, x, y, w, h, turn, ink, outline):
    """Draws one part, of eleven kinds; `outline` (6,) shapes those with a free form."""
    cos, sin = math.cos(turn), math.sin(turn)

    def at(points):
        return [(x + w * cos * a - h * sin * b, y + w * sin * a + h * cos * b) for a, b in points]

    if kind == 0:
        layer.polygon(at(_CIRCLE), ink)
    elif kind == 1:  # a box or a trapezium
        layer.polygon(at([(-1, -1), (1, -1), (outline[0], 1), (-outline[0], 1)]), ink)
    elif kind == 2:
        layer.polygon(at([(-1, 1), (1, 1), (2 * outline[0] - 1, -1)]), ink)
    elif kind == 3:
        layer.ring(x, y, w, h, 0.05 + 0.06 * outline[0], ink)
    elif kind == 4:  # half a disc
        layer.polygon(at([p for p in _CIRCLE if p[1] <= 0.01]), ink)
    elif kind == 5:  # a star
        spikes = 4 + int(outline[0] * 4)
        spokes = [(math.pi * i / spikes, 0.45 if i % 2 else 1) for i in range(2 * spikes)]
        layer.polygon(at([(r * math.cos(a), r * math.sin(a)) for a, r in spokes]), ink)
    elif kind == 6:  # a bent stroke
        layer.line(at([(-1, -outline[0]), (0, outline[1]), (1, -outline[2])]), 0.12, ink)
    elif kind == 7:  # a wave
        bends = 2 + 4 * outline[0]
        steps = np.linspace(-1, 1, 16)
        layer.line(
            at([(s, 0.7 * math.sin(bends * s)) for s in steps]), 0.05 + 0.06 * outline[1], ink
        )
    elif kind == 8:  # a comb of strokes from one point
        for a in np.linspace(-1, 1, 3 + int(3 * outline[0])):
            layer.line(at([(0, 1), (a * outline[1] * 1.4, -1)]), 0.05, ink)
    elif kind == 9:  # a turned body, like a vase: six widths from top to bottom, smoothed
        heights = np.linspace(-1, 1, 24)
        widths = np.interp(heights, np.linspace(-1, 1, 6), outline)
        widths = np.convolve(np.pad(widths, 2, "edge"), np.ones(5) / 5, "valid")
        side = list(zip(widths, heights, strict=True))
        layer.polygon(at([*side, *[(-a, b) for a, b in reversed(side)]]), ink)
        layer.line(at([(-widths[8], heights[8]), (widths[8], heights[8])]), 0.04, shade(ink, 0.6))
    else:  # a blob: waves of two, three and five bumps around a circle
        bumps = [
            1 + 0.35 * (outline[0] - 0.4) * math.cos(2 * a)
            + 0.3 * (outline[1] - 0.4) * math.cos(3 * a + 9 * outline[2])
            + 0.3 * (outline[3] - 0.4) * math.cos(5 * a + 9 * outline[4])
            for a in np.linspace(0, 2 * math.pi, 32, endpoint=False)
        ]  # fmt: skip
        layer.polygon(at([(r * a, r * b) for r, (a, b) in zip(bumps, _CIRCLE, strict=True)]), ink)


def _decorate(layer, pattern, ink, random):
    """Bands, stripes or spots on the whole object."""
    marks = Layer()
    first, step = random.uniform(-0.8, -0.5), random.uniform(0.25, 0.5)
    for a in np.arange(first, 1, step):
        if pattern == 0:
            marks.rectangle(-1, a, 1, a + 0.3 * step, ink)
        elif pattern == 1:
            marks.rectangle(a, -1, a + 0.3 * step, 1, ink)
        else:
            for b in np.arange(first, 1, step):
                marks.ellipse(a, b, 0.2 * step, 0.2 * step, ink)
    clip_to(marks, layer)
    layer.image.alpha_composite(marks.image)
