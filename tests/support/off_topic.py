"""Pictures of other things: what a classifier of flowers must flag as unlike its training images.

    python tests/off_topic.py FOLDER

writes 100 of them. They are drawn here, and the same ones come out each time.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WORDS = (
    "the of invoice total date quantity report meeting summary due amount quarter page section "
    "figure table result north street account number signed before after between margin"
).split()


def _size(random) -> tuple[int, int]:
    """Width and height in pixels."""
    return int(random.integers(180, 720)), int(random.integers(180, 720))


def _colour(random, low=0, high=256) -> tuple[int, int, int]:
    return tuple(int(value) for value in random.integers(low, high, 3))


def _canvas(random, low=0, high=256):
    """(image of a single colour, pen, width, height)."""
    image = Image.new("RGB", _size(random), _colour(random, low, high))
    return image, ImageDraw.Draw(image), *image.size


def _box(random, width, height) -> list[int]:
    x, y = random.integers(0, width - 20), random.integers(0, height - 20)
    return [int(x), int(y), int(random.integers(x + 5, width)), int(random.integers(y + 5, height))]


def _font(size) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(float(size))


def _sentence(random, count) -> str:
    return " ".join(random.choice(WORDS, count))


def shapes(random):
    """Rectangles, ellipses, triangles and lines, any colour."""
    image, pen, width, height = _canvas(random)
    for _ in range(random.integers(3, 15)):
        box, colour = _box(random, width, height), _colour(random)
        kind = random.integers(4)
        if kind == 0:
            pen.rectangle(box, fill=colour)
        elif kind == 1:
            pen.ellipse(box, fill=colour)
        elif kind == 2:
            pen.polygon([(box[0], box[1]), (box[2], box[1]), (box[0], box[3])], fill=colour)
        else:
            pen.line(box, fill=colour, width=int(random.integers(1, 9)))
    return image


def text_page(random):
    """A page of a letter or a book."""
    image, pen, width, height = _canvas(random, 225)
    size = int(random.integers(9, 20))
    y, ink = int(random.integers(8, 40)), _colour(random, 0, 70)
    pen.text((16, y), _sentence(random, 3).title(), fill=ink, font=_font(size * 1.7))
    y += 3 * size
    while y < height - size:
        if random.random() < 0.9:  # or the end of a paragraph
            pen.text(
                (16, y), _sentence(random, max(1, width // (4 * size))), fill=ink, font=_font(size)
            )
        y += int(1.4 * size)
    return image


def white_noise(random):
    """Each pixel and channel by itself."""
    width, height = _size(random)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))


def tinted_noise(random):
    """Noise of little spread around a colour."""
    width, height = _size(random)
    values = random.normal(_colour(random), random.uniform(10, 60), (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def smooth_noise(random):
    """Noise without its high frequencies: clouds of colour."""
    width, height = _size(random)
    cells = int(random.integers(3, 25))
    small = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def salt_and_pepper(random):
    """Black and white specks on a plain ground."""
    image, _, width, height = _canvas(random)
    pixels, drawn = np.array(image), random.random((height, width))
    share = random.uniform(0.02, 0.4)
    pixels[drawn < share / 2], pixels[drawn > 1 - share / 2] = 0, 255
    return Image.fromarray(pixels)


def gradient(random):
    """From one colour to another, along a line or from a point."""
    width, height = _size(random)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    if random.random() < 0.5:
        angle = random.uniform(0, 2 * np.pi)
        far = x * np.cos(angle) + y * np.sin(angle)
    else:
        far = np.hypot(x - random.random(), y - random.random())
    far = ((far - far.min()) / np.ptp(far))[..., None]
    values = far * _colour(random) + (1 - far) * _colour(random)
    return Image.fromarray(values.round().astype(np.uint8))


def chart(random):
    """Bars, a line or points between two axes."""
    image, pen, width, height = _canvas(random, 235)
    left, bottom = 40, height - 30
    for y in np.linspace(20, bottom, 6):
        pen.line([left, y, width - 15, y], fill="#cccccc")
        pen.text((6, y - 6), f"{bottom - y:.0f}", fill="#333333", font=_font(10))
    pen.line([left, 20, left, bottom, width - 15, bottom], fill="black", width=2)
    xs = np.linspace(left + 12, width - 30, int(random.integers(5, 16)))
    ys = random.uniform(25, bottom - 5, len(xs))
    colour, kind = _colour(random, 0, 200), random.integers(3)
    if kind == 0:
        for x, y in zip(xs, ys, strict=True):
            pen.rectangle([x, y, x + 0.6 * (xs[1] - xs[0]), bottom], fill=colour)
    elif kind == 1:
        pen.line(list(zip(xs, ys, strict=True)), fill=colour, width=3)
    else:
        for x, y in zip(xs, ys, strict=True):
            pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
    pen.text((left + 10, 4), _sentence(random, 3).title(), fill="black", font=_font(13))
    return image


def checkerboard(random):
    """Two colours in turn, sometimes turned."""
    width, height = _size(random)
    side = int(random.integers(6, 70))
    y, x = np.mgrid[:height, :width] // side
    colours = np.array([_colour(random), _colour(random)], np.uint8)
    image = Image.fromarray(colours[(x + y) % 2])
    return image.rotate(float(random.choice([0, 0, 30, 45])), Image.Resampling.BICUBIC)


def code(random):
    """Like a QR code: random modules, and a square within a square in three corners."""
    count = int(random.choice([21, 25, 33, 41]))
    grid = random.integers(0, 2, (count, count))
    for y, x in ((0, 0), (0, count - 7), (count - 7, 0)):
        grid[max(0, y - 1) : y + 8, max(0, x - 1) : x + 8] = 1
        grid[y : y + 7, x : x + 7] = 0
        grid[y + 1 : y + 6, x + 1 : x + 6] = 1
        grid[y + 2 : y + 5, x + 2 : x + 5] = 0
    grid = np.pad(grid, 4, constant_values=1)
    colours = np.array([_colour(random, 0, 80), _colour(random, 220)], np.uint8)
    image, scale = Image.fromarray(colours[grid]), int(random.integers(5, 13))
    return image.resize((len(grid) * scale,) * 2, Image.Resampling.NEAREST)


def table(random):
    """Rows and columns of numbers."""
    image, pen, width, height = _canvas(random, 230)
    across, down = int(random.integers(50, 110)), int(random.integers(18, 34))
    for row, y in enumerate(range(8, height - down, down)):
        for x in range(8, width - across, across):
            fill = "#d5dcea" if row == 0 else None
            pen.rectangle([x, y, x + across, y + down], outline="#777777", fill=fill)
            text = random.choice(WORDS) if row == 0 else f"{random.normal(0, 500):.1f}"
            pen.text((x + 5, y + 4), str(text), fill="#222222", font=_font(11))
    return image


def screen(random):
    """A program's window: a bar, a menu at the side, panels, buttons, lines of text."""
    dark = random.random() < 0.5
    image, pen, width, height = _canvas(random, *((15, 50) if dark else (225, 256)))
    accent, ink = _colour(random, 40, 220), "#dddddd" if dark else "#333333"
    side, panel = int(0.22 * width), "#303642" if dark else "white"
    pen.rectangle([0, 0, width, 30], fill=accent)
    pen.text((10, 8), _sentence(random, 2).title(), fill="white", font=_font(13))
    for y in range(45, height - 20, 26):
        pen.text((8, y), str(random.choice(WORDS)), fill=ink, font=_font(11))
    for _ in range(random.integers(2, 5)):
        x, y = int(random.integers(side, width - 60)), int(random.integers(40, height - 70))
        right, low = min(width - 8, x + int(0.4 * width)), min(height - 8, y + int(0.35 * height))
        pen.rounded_rectangle([x, y, right, low], 8, fill=panel, outline="#8890a0")
        pen.text((x + 8, y + 6), _sentence(random, 3), fill=ink, font=_font(11))
        pen.rounded_rectangle([x + 8, low - 24, x + 52, low - 6], 5, fill=accent)
        pen.text((x + 18, low - 21), "Save", fill="white", font=_font(10))
    return image


def stripes(random):
    """Parallel bands, sharp or blurred."""
    width, height = _size(random)
    angle, wave = random.uniform(0, np.pi), random.uniform(8, 60)
    y, x = np.mgrid[:height, :width]
    bands = ((x * np.cos(angle) + y * np.sin(angle)) // wave).astype(int) % 3
    image = Image.fromarray(np.array([_colour(random) for _ in range(3)], np.uint8)[bands])
    return image.filter(ImageFilter.GaussianBlur(float(random.choice([0, 0, 3]))))


KINDS = (
    shapes, text_page, white_noise, tinted_noise, smooth_noise, salt_and_pepper, gradient, chart,
    checkerboard, code, table, screen, stripes,
)  # fmt: skip


def off_topic(count: int = 100, seed: int = 0) -> list[tuple[str, Image.Image]]:
    """Draws pictures, each kind in turn.

    Args:
        count: how many.
        seed: other seeds give other pictures; of one seed, fewer are the first of more.

    Returns:
        List of (name, RGB image of 180 to 720 pixels a side); a name is the kind and a number.
    """
    made = []
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        made.append((f"{kind.__name__}_{i:03d}", kind(np.random.default_rng([seed, i]))))
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, prog="python tests/off_topic.py")
    parser.add_argument("folder", type=Path, help="where to write them")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in off_topic():
        image.save(folder / f"{name}.png")
