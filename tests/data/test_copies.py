"""Near copies: the same image in another size or quality, and nothing else."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from engine.data import copies
from engine.data.sources import sample
from engine.images import decode
from tests.support.pictures import encode

DRAWINGS = [decode.read(data) for _, _, data in sample.generate(24)]


def groups(pictures, folder, generations=None):
    """The groups of pictures, each encoded as a photo is."""
    greys = copies.Greys(folder)
    for picture in pictures:
        greys.add(copies.grey(decode.read(encode(picture.convert("RGB"), "JPEG", quality=85))))
    names = np.array([f"{i:03d}" for i in range(len(pictures))])
    ages = np.zeros(len(names), int) if generations is None else np.array(generations)
    return copies.find(greys.array(), names, ages)


def _cropped(picture):
    width, height = picture.size
    return picture.crop((int(0.04 * width), 0, width, int(0.95 * height)))


def _scaled(picture):
    return picture.resize([int(0.6 * side) for side in picture.size], Image.Resampling.BICUBIC)


def _brighter(picture):
    return ImageEnhance.Brightness(picture).enhance(1.2)


def _encoded(picture):
    return decode.read(encode(picture, "JPEG", quality=35))


@pytest.mark.parametrize("alter", [_encoded, _scaled, _cropped, _brighter])
def test_altered_copies_are_found_and_nothing_else(alter, tmp_path):
    count = len(DRAWINGS)
    found = groups([*DRAWINGS, *map(alter, DRAWINGS)], tmp_path)
    assert np.array_equal(found[:count], found[count:])
    assert sorted(found[:count]) == list(range(count))


def _banner(picture, share):
    """The same words above or below another picture."""
    width, height = picture.size
    strip = Image.new("RGB", (400, 100), (20, 40, 120))
    draw = ImageDraw.Draw(strip)
    for line, (x, y) in enumerate([(10, 8), (60, 38), (20, 68)]):
        draw.text((x, y), ["CITY MUSEUM OF", "NATURAL HISTORY", "EST. 1987"][line], font_size=26)
    draw.rectangle((330, 10, 390, 90), fill="white")
    shown = picture.copy()
    shown.paste(strip.resize((width, int(share * height))), (0, 0))
    return shown


def _framed(picture):
    """Another picture in the same frame."""
    shown = Image.new("RGB", (220, 180), "white")
    draw = ImageDraw.Draw(shown)
    draw.rectangle((5, 5, 214, 174), outline="black", width=6)
    draw.rectangle((14, 14, 205, 165), outline="red", width=3)
    shown.paste(picture.resize((160, 120)), (30, 30))
    return shown


def _tile(picture):
    """Another part of one floor, with the same joints."""
    shown = Image.new("L", (100, 100), 200)
    grain = np.random.default_rng(list(picture.tobytes()[:8])).normal(0, 12, (100, 100))
    y, x = np.mgrid[:100, :100]
    values = np.asarray(shown) - 150.0 * ((x < 8) | (y < 8)) + grain
    marked = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    marked.paste(picture.convert("L").resize((80, 80)), (14, 14))
    return marked


@pytest.mark.parametrize(
    "alter", [lambda p: _banner(p, 0.2), lambda p: _banner(p, 0.4), _framed, _tile],
    ids=["banner", "large banner", "frame", "tile"],
)  # fmt: skip
def test_different_pictures_with_something_in_common_are_not_copies(alter, tmp_path):
    assert set(groups([alter(picture) for picture in DRAWINGS], tmp_path)) == {-1}


def test_plain_pictures_under_one_banner_are_told_apart_by_their_light(tmp_path):
    plain = [Image.new("RGB", (200, 160), (level, level, level)) for level in range(20, 240, 24)]
    assert set(groups([_banner(picture, 0.2) for picture in plain], tmp_path)) == {-1}


def test_a_chain_of_crops_does_not_become_one_picture(tmp_path):
    # Each view is a near copy of the next one; the first and the last show different things.
    wide = Image.new("RGB", (900, 120))
    for place, picture in enumerate(DRAWINGS[:6]):
        wide.paste(picture.resize((150, 120)), (150 * place, 0))
    views = [wide.crop((left, 0, left + 200, 120)) for left in range(0, 400, 4)]
    found = groups(views, tmp_path)
    sizes = np.bincount(found[found >= 0])
    assert len(sizes) > 5 and sizes.max() <= 8


def test_order_and_later_images_change_no_earlier_group(tmp_path):
    pictures = [*DRAWINGS[:8], *map(_scaled, DRAWINGS[:4])]
    before = groups(pictures, tmp_path)
    added = [*pictures, *map(_brighter, DRAWINGS[2:6])]
    after = groups(added, tmp_path, [0] * 12 + [1] * 4)
    together = before[:, None] == before
    assert np.array_equal((after[:12, None] == after[:12])[before >= 0][:, before >= 0],
                          together[before >= 0][:, before >= 0])  # fmt: skip
    assert after[12] == after[2] == after[10] and after[14] == after[4] >= 0
