"""A small visual world: backgrounds, things in poses, occlusion and light, drawn with Pillow.

The sample dataset and the source task of the built-in backbone share it, as photos of different
things share a world. Everything follows from a NumPy generator, so a seed repeats a picture.
"""

import colorsys
import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

LAYER = 256
"""Side of the layer on which a thing is drawn, in pixels; coordinates on it run from -1 to 1."""


class Layer:
    """A transparent square to draw a thing on; coordinates from -1 to 1, y downwards."""

    def __init__(self):
        self.image = Image.new("RGBA", (LAYER, LAYER), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)

    def _px(self, points):
        return [((x + 1) * LAYER / 2, (y + 1) * LAYER / 2) for x, y in points]

    def polygon(self, points, fill):
        """A filled polygon of (x, y) points."""
        self._draw.polygon(self._px(points), fill=fill)

    def ellipse(self, x, y, rx, ry, fill):
        """A filled ellipse around (x, y)."""
        self._draw.ellipse(self._px([(x - rx, y - ry), (x + rx, y + ry)]), fill=fill)

    def ring(self, x, y, rx, ry, width, fill):
        """An ellipse's outline of a width in units of the layer."""
        box = self._px([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(box, outline=fill, width=max(1, round(width * LAYER / 2)))

    def rectangle(self, x0, y0, x1, y1, fill, radius=0.0):
        """A filled rectangle with rounded corners."""
        box = self._px([(x0, y0), (x1, y1)])
        self._draw.rounded_rectangle(box, radius * LAYER / 2, fill=fill)

    def line(self, points, width, fill):
        """A polyline with round joints and ends."""
        pixels, thick = self._px(points), max(1, round(width * LAYER / 2))
        self._draw.line(pixels, fill=fill, width=thick, joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            r = thick / 2
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def colour(random, saturation=(0.35, 0.9), value=(0.45, 0.98)) -> tuple[int, int, int]:
    """A random colour; the ranges are of HSV, 0 to 1."""
    h, s, v = random.random(), random.uniform(*saturation), random.uniform(*value)
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(h, s, v))


def shade(rgb, factor) -> tuple[int, int, int]:
    """Darker (factor below 1) or lighter (above 1)."""
    if factor <= 1:
        return tuple(int(c * factor) for c in rgb)
    return tuple(int(255 - (255 - c) / factor) for c in rgb)


def compose(random, layer: Layer, width: int, height: int) -> Image.Image:
    """Puts a thing into a scene: background, other things, pose, shadow, occlusion, light.

    Args:
        random: a NumPy generator.
        layer: the drawn thing.
        width, height: of the picture, pixels.

    Returns:
        A PIL image of mode RGB.
    """
    scene = background(random, 2 * width, 2 * height)
    for _ in range(random.integers(0, 4)):
        _distractor(random, scene)
    thing = layer.image
    if random.random() < 0.5:
        thing = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # A view from the side squeezes it a little.
    squeeze = random.uniform(0.8, 1.0)
    side = 2 * min(width, height) * random.uniform(0.62, 1.0)
    thing = thing.resize((int(side * squeeze), int(side)), Image.Resampling.LANCZOS)
    thing = thing.rotate(random.normal(0, 13), Image.Resampling.BICUBIC, expand=True)
    x = int(scene.width / 2 - thing.width / 2 + random.uniform(-0.16, 0.16) * scene.width)
    y = int(scene.height / 2 - thing.height / 2 + random.uniform(-0.14, 0.14) * scene.height)
    _shadow(random, scene, thing, x, y)
    scene.paste(thing, (x, y), thing)
    if random.random() < 0.35:
        _occluder(random, scene)
    return _light(random, scene.resize((width, height), Image.Resampling.LANCZOS))


def background(random, width, height) -> Image.Image:
    """A gradient, often with hills, a table, dots, stripes or soft clouds on it."""
    top, bottom = colour(random, (0.1, 0.6)), colour(random, (0.1, 0.6))
    ramp = np.linspace(0, 1, height)[:, None, None]
    if random.random() < 0.3:
        ramp = (ramp + np.linspace(0, 1, width)[None, :, None]) / 2
    values = np.asarray(top) * (1 - ramp) + np.asarray(bottom) * ramp
    scene = Image.fromarray(np.broadcast_to(values, (height, width, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(scene)
    kind = random.integers(0, 6)
    ink = colour(random, (0.1, 0.6))
    if kind == 0:  # hills
        for level in (0.6, 0.78):
            phase, waves = random.uniform(0, 6), random.uniform(0.6, 1.8)
            ridge = [(x, height * (level + 0.09 * math.sin(phase + waves * 6.28 * x / width)))
                     for x in range(0, width + 8, 8)]  # fmt: skip
            draw.polygon([*ridge, (width, height), (0, height)], fill=ink)
            ink = shade(ink, 0.75)
    elif kind == 1:  # a table or the ground
        draw.rectangle((0, height * random.uniform(0.55, 0.8), width, height), fill=ink)
    elif kind == 2:  # dots
        step, r = int(random.integers(30, 60)), random.uniform(4, 9)
        for x in range(0, width, step):
            for y in range(0, height, step):
                draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    elif kind == 3:  # stripes
        step, lean = int(random.integers(26, 60)), random.uniform(-0.8, 0.8) * height
        for x in range(-height, width + height, step):
            draw.line((x, 0, x + lean, height), fill=ink, width=step // 4)
    elif kind == 4:  # soft clouds
        for _ in range(5):
            x, y, r = random.uniform(0, width), random.uniform(0, height), random.uniform(15, 60)
            draw.ellipse((x - 1.6 * r, y - r, x + 1.6 * r, y + r), fill=shade(ink, 1.6))
        scene = scene.filter(ImageFilter.GaussianBlur(6))
    return scene


def _distractor(random, scene):
    """A small shape that has nothing to do with the thing."""
    draw, ink = ImageDraw.Draw(scene), colour(random)
    x, y = random.uniform(0, scene.width), random.uniform(0, scene.height)
    r = random.uniform(0.03, 0.1) * scene.width
    kind = random.integers(0, 3)
    if kind == 0:
        draw.ellipse((x - r, y - r, x + r, y + r * random.uniform(0.5, 1)), fill=ink)
    elif kind == 1:
        turn = random.uniform(0, 6.28)
        corners = [(x + r * math.cos(turn + a), y + r * math.sin(turn + a)) for a in (0, 2.1, 4.2)]
        draw.polygon(corners, fill=ink)
    else:
        draw.line(
            (x - 2 * r, y, x + 2 * r, y + r * random.uniform(-2, 2)), fill=ink, width=int(r / 3) + 1
        )


def _shadow(random, scene, thing, x, y):
    """A soft shadow to one side."""
    alpha = thing.getchannel("A").point(lambda v: int(v * 0.35))
    shadow = Image.new("L", scene.size, 0)
    shadow.paste(alpha, (x + int(random.uniform(-14, 14)), y + int(random.uniform(4, 14))))
    shadow = shadow.filter(ImageFilter.GaussianBlur(5))
    scene.paste((20, 20, 30), (0, 0), shadow)


def _occluder(random, scene):
    """Something in front: grass, a post or a leaf, at an edge of the picture."""
    draw, ink = ImageDraw.Draw(scene), shade(colour(random), 0.7)
    w, h = scene.size
    kind = random.integers(0, 3)
    if kind == 0:
        for _ in range(16):
            x, tall = random.uniform(0, w), h * random.uniform(0.12, 0.3)
            draw.polygon(
                [(x - 5, h), (x + 5, h), (x + random.uniform(-20, 20), h - tall)], fill=ink
            )
    elif kind == 1:
        x = random.choice([random.uniform(0.02, 0.25), random.uniform(0.7, 0.95)]) * w
        draw.rectangle((x, 0, x + 0.07 * w, h), fill=ink)
    else:
        x, y = random.choice([0, w]), random.uniform(0, h)
        r = random.uniform(0.15, 0.28) * w
        draw.ellipse((x - r, y - r / 2, x + r, y + r / 2), fill=ink)


def _light(random, image) -> Image.Image:
    """Brightness, light from one side, a little blur and noise."""
    w, h = image.size
    angle, strength = random.uniform(0, 6.28), random.uniform(0, 0.35)
    x, y = np.meshgrid(np.linspace(-1, 1, w), np.linspace(-1, 1, h))
    light = random.uniform(0.8, 1.2) + strength * (x * math.cos(angle) + y * math.sin(angle)) / 1.4
    if random.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.4, 1.0)))
    values = np.asarray(image, np.float32) * light[..., None]
    values += random.normal(0, random.uniform(0, 4), (h, w, 1))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def clip_to(layer: Layer, other: Layer) -> None:
    """Keeps of `layer` only what lies on `other`: for stripes on a shape."""
    alpha = ImageChops.multiply(layer.image.getchannel("A"), other.image.getchannel("A"))
    layer.image.putalpha(alpha)
