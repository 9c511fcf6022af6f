"""What the built-in backbone was pretrained on: 64 made-up things, none of them in the sample.

Each class is a fixed arrangement of simple parts (discs, polygons, bars, rings, strokes), drawn from
the class's own number; each picture shifts the parts a little and chooses colours, pose, scene and
light anew. So what a network learns here is shape under changing circumstances.
"""

import math

import numpy as np
from PIL import Image

from engine.builtin.drawing import Layer, colour, compose, shade

CLASSES = tuple(f"thing {number:02d}" for number in range(64))
SIZE = 96


def render(class_index: int, seed: int) -> Image.Image:
    """Draws one picture: a PIL image of mode RGB, 96 x 96 pixels, repeatable."""
    random = np.random.default_rng([7, class_index, seed])
    layer = Layer()
    inks = [colour(random) for _ in range(3)]
    for kind, place, ink, jitter in _parts(class_index):
        x, y, w, h, turn = place + jitter * random.normal(0, 1, 5)
        _draw(layer, kind, x, y, max(abs(w), 0.06), max(abs(h), 0.06), turn, inks[ink % 3], ink)
    return compose(random, layer, SIZE, SIZE)


def _parts(class_index):
    """The class's arrangement: (kind, centre, size and turn, which ink, how much each may vary)."""
    random = np.random.default_rng([11, class_index])
    parts = []
    for number in range(random.integers(3, 6)):
        big = 0.55 if number == 0 else 0.28
        place = np.array([*random.uniform(-0.5, 0.5, 2) * (number > 0), *random.uniform(0.5, 1.2, 2) * big,
                          random.uniform(0, 6.28)])  # fmt: skip
        parts.append(
            (random.integers(0, 8), place, number, np.array([0.04, 0.04, 0.05, 0.05, 0.12]))
        )
    return parts


def _draw(layer, kind, x, y, w, h, turn, ink, number):
    """One part, of eight kinds."""
    cos, sin = math.cos(turn), math.sin(turn)

    def at(points):
        return [
            (x + w * (cos * a) - h * (sin * b), y + w * (sin * a) + h * (cos * b))
            for a, b in points
        ]

    circle = [(math.cos(a), math.sin(a)) for a in np.linspace(0, 6.283, 24, endpoint=False)]
    if kind == 0:
        layer.polygon(at(circle), ink)
    elif kind == 1:
        layer.polygon(at([(-1, -1), (1, -1), (1, 1), (-1, 1)]), ink)
    elif kind == 2:
        layer.polygon(at([(-1, 1), (1, 1), (0, -1)]), ink)
    elif kind == 3:
        layer.ring(x, y, w, h, 0.09, ink)
    elif kind == 4:  # half a disc
        layer.polygon(at([p for p in circle if p[1] <= 0.01]), ink)
    elif kind == 5:  # a star
        spikes = 5 + number % 3
        layer.polygon(at([(r * math.cos(a), r * math.sin(a)) for i in range(2 * spikes)
                          for r, a in [((1, 0.45)[i % 2], math.pi * i / spikes)]]), ink)  # fmt: skip
    elif kind == 6:  # a bent stroke
        layer.line(at([(-1, -0.6), (0, 0.6), (1, -0.6)]), 0.12, ink)
    else:  # a striped bar
        layer.polygon(at([(-1, -0.5), (1, -0.5), (1, 0.5), (-1, 0.5)]), ink)
        for a in (-0.6, 0.0, 0.6):
            layer.line(at([(a, -0.5), (a, 0.5)]), 0.04, shade(ink, 0.5))
