"""Drawn scenes: a background, an object in some pose, occlusion and light. Uses Pillow.

The sample dataset and the pretraining data of the built-in backbone both use it, as photos of
different objects share one world. A NumPy generator decides everything, so a seed repeats an image.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
Point: TypeAlias = tuple[float, float]

LAYER = 256
"""Side of the layer on which an object is drawn, in pixels; coordinates on it run from -1 to 1."""

# Top and bottom colours that go well together: chosen by hand, since random ones clash.
SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((150, 200, 235), (235, 243, 240)), ((98, 154, 201), (208, 228, 232)),
    ((250, 214, 165), (240, 150, 130)), ((255, 236, 210), (250, 196, 170)),
    ((60, 70, 120), (196, 130, 150)), ((32, 42, 84), (92, 104, 152)),
    ((196, 224, 206), (244, 242, 220)), ((226, 212, 236), (246, 232, 226)),
    ((240, 228, 206), (224, 204, 176)), ((204, 212, 218), (238, 238, 234)),
    ((64, 110, 112), (160, 196, 178)), ((122, 90, 130), (226, 168, 150)),
    ((246, 216, 120), (250, 240, 196)), ((130, 74, 84), (214, 144, 120)),
    ((44, 60, 62), (104, 126, 112)), ((120, 186, 190), (222, 236, 216)),
)  # fmt: skip


class Layer:
    """A transparent square to draw an object on; coordinates from -1 to 1, y downwards."""

    def __init__(self) -> None:
        self.image = Image.new("RGBA", (LAYER, LAYER), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)

    def _px(self, points: Sequence[Point]) -> list[Point]:
        return [((x + 1) * LAYER / 2, (y + 1) * LAYER / 2) for x, y in points]

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """A filled polygon of (x, y) points."""
        self._draw.polygon(self._px(points), fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """A filled ellipse around (x, y)."""
        self._draw.ellipse(self._px([(x - rx, y - ry), (x + rx, y + ry)]), fill=fill)

    def ring(self, x: float, y: float, rx: float, ry: float, width: float, fill: Colour) -> None:
        """The outline of an ellipse around (x, y); its width is in units of the layer."""
        box = self._px([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(box, outline=fill, width=max(1, round(width * LAYER / 2)))

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0.0
    ) -> None:
        """A filled rectangle with rounded corners."""
        box = self._px([(x0, y0), (x1, y1)])
        self._draw.rounded_rectangle(box, radius * LAYER / 2, fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A polyline with round joints and ends."""
        pixels, thick = self._px(points), max(1, round(width * LAYER / 2))
        self._draw.line(pixels, fill=fill, width=thick, joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            r = thick / 2
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def colour(
    random: np.random.Generator, saturation: Point = (0.35, 0.9), value: Point = (0.45, 0.98)
) -> Colour:
    """A random colour that looks like paint, from ranges of HSV saturation and value, 0 to 1."""
    h, s, v = random.random(), random.uniform(*saturation), random.uniform(*value)
    # Full green and magenta look like neon; at two thirds they look as strong as other colours.
    if 0.2 < h < 0.47 or 0.72 < h < 0.93:
        s, v = s * 0.62, v * 0.88
    red, green, blue = (int(255 * c) for c in colorsys.hsv_to_rgb(h, s, v))
    return red, green, blue


def shade(rgb: Colour, factor: float) -> Colour:
    """A darker (factor below 1) or lighter (above 1) colour."""
    red, green, blue = (
        int(c * factor) if factor <= 1 else int(255 - (255 - c) / factor) for c in rgb
    )
    return red, green, blue


def clip_to(layer: Layer, other: Layer) -> None:
    """Erases the parts of `layer` that are not on `other`: for stripes on a shape."""
    alpha = ImageChops.multiply(layer.image.getchannel("A"), other.image.getchannel("A"))
    layer.image.putalpha(alpha)


def compose(
    random: np.random.Generator,
    layer: Layer,
    size: tuple[int, int],
    scale: Point = (0.62, 1.0),
    turn: float = 13.0,
    occluded: float = 0.35,
) -> Image.Image:
    """Puts an object into a scene: background, other shapes, pose, shadow, occlusion, light.

    Args:
        random: a NumPy generator.
        layer: the drawn object.
        size: width and height of the image, pixels.
        scale: smallest and largest size of the layer, as a share of the image's shorter side.
        turn: standard deviation of the rotation, degrees.
        occluded: probability of something in front of the object, 0 to 1.

    Returns:
        A PIL image of mode RGB.
    """
    # Drawn at twice the size and averaged at the end, for smooth edges.
    scene = background(random, 2 * size[0], 2 * size[1])
    for _ in range(random.integers(0, 4)):
        _distractor(random, scene)
    towards = random.uniform(0, 2 * math.pi)
    _round_off(layer.image, towards)
    thing = _posed(random, layer.image, scene.size, scale, turn)
    _shadow(scene, thing, towards)
    scene.paste(thing, (0, 0), thing)
    if random.random() < occluded:
        _occluder(random, scene)
    return _light(random, scene.reduce(2), towards)


def _posed(
    random: np.random.Generator,
    thing: Image.Image,
    size: tuple[int, int],
    scales: Point,
    turn: float,
) -> Image.Image:
    """The object mirrored, squeezed, rotated, scaled and moved in one transform onto the scene."""
    w, h = size
    scale = min(w, h) * random.uniform(*scales) / LAYER
    # As in a view from the side.
    sx = scale * random.uniform(0.82, 1.0) * random.choice([-1, 1])
    turn = math.radians(random.normal(0, turn))
    cx = w / 2 + random.uniform(-0.15, 0.15) * w
    cy = h / 2 + random.uniform(-0.13, 0.13) * h
    cos, sin, mid = math.cos(turn), math.sin(turn), LAYER / 2
    # Pillow needs the inverse, from scene to layer.
    a, b, d, e = cos / sx, sin / sx, -sin / scale, cos / scale
    way = (a, b, mid - a * cx - b * cy, d, e, mid - d * cx - e * cy)
    return thing.transform(size, Image.Transform.AFFINE, way, Image.Resampling.BILINEAR)


def _round_off(thing: Image.Image, towards: float) -> None:
    """Shades the object's edges: bright towards the light, dark away from it."""
    alpha = thing.getchannel("A")
    small = alpha.reduce(4).filter(ImageFilter.BoxBlur(4))
    step = 6
    for sign, tint, strength in ((1, (24, 16, 48), 0.5), (-1, (255, 250, 235), 0.4)):
        moved = ImageChops.offset(
            small, round(sign * step * math.cos(towards)), round(sign * step * math.sin(towards))
        )
        edge = moved.point([int((255 - v) * strength) for v in range(256)]).resize(thing.size)
        layer = Image.new("RGBA", thing.size, tint)
        layer.putalpha(ImageChops.multiply(edge, alpha))
        thing.alpha_composite(layer)


def _shadow(scene: Image.Image, thing: Image.Image, towards: float) -> None:
    """Adds a soft shadow on the side away from the light, and a little below."""
    dark = thing.getchannel("A").point([int(v * 0.34) for v in range(256)]).reduce(4)
    dark = ImageChops.offset(dark, round(-2 * math.cos(towards)), 2).filter(ImageFilter.BoxBlur(1))
    scene.paste((22, 20, 40), (0, 0), dark.resize(scene.size, Image.Resampling.BILINEAR))


def background(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """A gradient, often with hills, peaks, woods, the sea, a table, a pattern, clouds or lights."""
    top, bottom = SKIES[random.integers(0, len(SKIES))]
    drift = random.integers(-22, 23, 3)
    corners = np.array(
        [[top, np.clip(top + drift, 0, 255)], [bottom, np.clip(bottom - drift, 0, 255)]]
    )
    small = Image.fromarray(np.clip(corners + drift, 0, 255).astype(np.uint8))
    scene = small.resize((width, height), Image.Resampling.BICUBIC)
    # Patterns and hills have a tone of the sky, so that they look further away than the object.
    ink = shade(bottom, random.choice([0.62, 0.74, 0.86, 1.6]))
    _SCENES[random.integers(0, len(_SCENES))](random, ImageDraw.Draw(scene), width, height, ink)
    return scene


def _plain(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    """Only the gradient, and sometimes a sun or moon."""
    if random.random() < 0.6:
        x, y, r = random.uniform(0, w), random.uniform(0, 0.5 * h), random.uniform(0.06, 0.16) * w
        draw.ellipse((x - r, y - r, x + r, y + r), fill=shade(ink, 2.4))


def _hills(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    _plain(random, draw, w, h, ink)
    for level in random.uniform(0.5, 0.68) + np.array([0, 0.12, 0.22]):
        phase, waves = random.uniform(0, 6), random.uniform(3, 9) / w
        ridge = [(x, h * (level + 0.07 * math.sin(phase + waves * x))) for x in range(0, w + 8, 8)]
        draw.polygon([*ridge, (w, h), (0, h)], fill=ink)
        ink = shade(ink, 0.84)


def _peaks(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    for _ in range(5):
        x, tall, half = (
            random.uniform(0, w),
            random.uniform(0.2, 0.6) * h,
            random.uniform(0.2, 0.4) * w,
        )
        draw.polygon([(x - half, h), (x, h - tall), (x + half, h)], fill=ink)
        ink = shade(ink, 0.92)


def _woods(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    ground = h * random.uniform(0.7, 0.88)
    for x in np.arange(-10, w + 10, random.uniform(20, 34)):
        tall, half = random.uniform(0.12, 0.36) * h, random.uniform(8, 16)
        tone = shade(ink, random.uniform(0.8, 1.0))
        for low in (0, 0.3):
            y = ground - low * tall
            draw.polygon([(x - half, y), (x, y - 0.7 * tall), (x + half, y)], fill=tone)
    draw.rectangle((0, ground, w, h), fill=shade(ink, 0.85))


def _sea(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    _plain(random, draw, w, h, ink)
    horizon = h * random.uniform(0.5, 0.8)
    draw.rectangle((0, horizon, w, h), fill=ink)
    for _ in range(14):
        x, y, half = random.uniform(0, w), random.uniform(horizon, h), random.uniform(5, 20)
        draw.line((x - half, y, x + half, y), fill=shade(ink, 1.5), width=2)


def _table(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    edge = h * random.uniform(0.55, 0.82)
    for x in np.arange(random.uniform(0, 30), w, random.uniform(26, 60)):
        draw.line((x, 0, x, edge), fill=shade(ink, 1.25), width=2)
    draw.rectangle((0, edge, w, h), fill=ink)
    draw.line((0, edge, w, edge), fill=shade(ink, 0.8), width=4)


def _dots(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    step, r = int(random.integers(30, 56)), random.uniform(3, 8)
    for row, y in enumerate(range(0, h + step, step)):
        for x in range(-(row % 2) * step // 2, w + step, step):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)


def _stripes(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    step, lean = int(random.integers(26, 60)), random.uniform(-0.8, 0.8) * h
    for x in range(-h, w + h, step):
        draw.line((x, 0, x + lean, h), fill=ink, width=step // 4)


def _clouds(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    white = shade(ink, 2.2)
    for _ in range(random.integers(2, 5)):
        x, y, r = random.uniform(0, w), random.uniform(0, h), random.uniform(10, 26)
        for dx, size in ((-1.4, 0.7), (-0.5, 1.0), (0.5, 1.15), (1.5, 0.75)):
            draw.ellipse(
                (x + (dx - size) * r, y - size * r, x + (dx + size) * r, y + 0.6 * size * r),
                fill=white,
            )


def _lights(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, w: int, h: int, ink: Colour
) -> None:
    """Stars, snow or soft discs of light."""
    largest = random.choice([3, 5, 16])
    for _ in range(30 if largest < 16 else 12):
        x, y, r = random.uniform(0, w), random.uniform(0, h), random.uniform(1, largest)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=shade(ink, random.uniform(1.2, 2.2)))


_SCENES = (_plain, _hills, _peaks, _woods, _sea, _table, _dots, _stripes, _clouds, _lights)


def _distractor(random: np.random.Generator, scene: Image.Image) -> None:
    """Draws a small shape that has nothing to do with the object."""
    draw, ink = ImageDraw.Draw(scene), colour(random, (0.25, 0.7))
    x, y = random.uniform(0, scene.width), random.uniform(0, scene.height)
    r = random.uniform(0.03, 0.09) * scene.width
    kind = random.integers(0, 5)
    if kind == 0:  # a pebble
        draw.ellipse((x - r, y - r, x + r, y + r * random.uniform(0.3, 1)), fill=ink)
    elif kind in (1, 2):  # a chip with three corners, or a star
        sides, inner = (3, 1.0) if kind == 1 else (10, 0.45)
        turn = random.uniform(0, 6.28)
        spokes = [
            (turn + 2 * math.pi * i / sides, r * (inner if i % 2 else 1)) for i in range(sides)
        ]
        draw.polygon([(x + s * math.cos(a), y + s * math.sin(a)) for a, s in spokes], fill=ink)
    elif kind == 3:  # a bird far away
        wing = [(x - 1.3 * r, y - 0.5 * r), (x, y), (x + 1.3 * r, y - 0.5 * r)]
        draw.line(wing, fill=shade(ink, 0.6), width=max(2, int(r / 3)), joint="curve")
    else:  # a twig
        bend = y + r * random.uniform(-2, 2)
        draw.line((x - 2 * r, y, x + 2 * r, bend), fill=ink, width=int(r / 3) + 1)


def _occluder(random: np.random.Generator, scene: Image.Image) -> None:
    """Draws something in front: grass, a post or leaves, at an edge of the image."""
    draw, ink = ImageDraw.Draw(scene), shade(colour(random, (0.3, 0.7)), 0.62)
    w, h = scene.size
    kind = random.integers(0, 3)
    if kind == 0:
        for _ in range(16):
            x, tall = random.uniform(0, w), h * random.uniform(0.12, 0.3)
            blade = [(x - 5, h), (x + 5, h), (x + random.uniform(-20, 20), h - tall)]
            draw.polygon(blade, fill=shade(ink, random.uniform(0.8, 1.15)))
    elif kind == 1:
        x = random.choice([random.uniform(0.02, 0.25), random.uniform(0.7, 0.95)]) * w
        draw.rectangle((x, 0, x + 0.07 * w, h), fill=ink)
        draw.rectangle((x, 0, x + 0.02 * w, h), fill=shade(ink, 1.2))
    else:
        x, y = random.choice([0, w]), random.uniform(0, h)
        for _ in range(4):
            turn, r = random.uniform(0, 6.28), random.uniform(0.16, 0.3) * w
            tip = (x + r * math.cos(turn), y + r * math.sin(turn))
            sides = [
                (x + r * 0.55 * math.cos(turn + s), y + r * 0.55 * math.sin(turn + s))
                for s in (0.45, -0.45)
            ]
            draw.polygon(
                [(x, y), sides[0], tip, sides[1]], fill=shade(ink, random.uniform(0.85, 1.2))
            )


def _light(random: np.random.Generator, image: Image.Image, towards: float) -> Image.Image:
    """Brightness, light from one side, a little blur and noise."""
    w, h = image.size
    strength = random.uniform(0, 0.3)
    x = np.linspace(-1, 1, w, dtype=np.float32)[None]
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    light = (
        random.uniform(0.82, 1.14)
        + strength * (x * math.cos(towards) + y * math.sin(towards)) / 1.4
    )
    if random.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.4, 1.0)))
    values = np.asarray(image, np.float32) * light[..., None]
    grain = random.standard_normal((h, w, 1), np.float32)
    values += random.uniform(0, 3) * grain
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
