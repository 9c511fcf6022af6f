"""Images of more than 8 bits: all their values are scaled by the bits that they use."""

import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from engine.errors import ImageError
from engine.images import decode
from tests.support import crafted_files
from tests.support.crafted_files import chunk
from tests.support.pictures import encode


def values(largest, shape=(40, 50), seed=0):
    """int64 array from 0 to `largest`, both included."""
    found = np.random.default_rng(seed).integers(0, largest + 1, shape)
    found[0, 0], found[0, 1] = largest, 0
    return found


def png(deep, colour=0, significant=0):
    """A PNG of 16 bits; Pillow writes none in colour."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    declared = [chunk(b"sBIT", bytes([significant]))] if significant else []
    return crafted_files.png(deep.shape[1], deep.shape[0], 16, colour, rows, declared)


def tiff(deep, **tags):
    found = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        found[int(tag[1:])] = value
    return encode(Image.fromarray(deep), "TIFF", tiffinfo=found)


def check(data, deep, bits):
    """`data` holds the values `deep` of one channel, and is scaled from `bits`."""
    assert decode.info(data).bits == bits
    most = 2**bits - 1
    assert np.array_equal(np.asarray(decode.read(data))[..., 0], (deep * 255 + most // 2) // most)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000", "mode I", "RGB", "RGBA", "LA"])
def test_a_file_is_scaled_by_the_bits_it_uses(bits, kind):
    deep = values(2**bits - 3, seed=bits)
    full = np.full_like(deep, 65_535)
    if kind == "mode I":
        data = encode(Image.fromarray(deep.astype(np.int32)), "TIFF")
    elif kind == "RGB":
        data = png(np.stack([deep, deep // 2, deep], -1), 2)
    elif kind == "RGBA":
        data = png(np.stack([deep, deep // 2, deep, full], -1), 6)
    elif kind == "LA":
        data = png(np.stack([deep, full], -1), 4)
    else:
        data = encode(Image.fromarray(deep.astype(np.uint16)), kind)
    if bits == 16 and kind in ("RGB", "RGBA", "LA"):  # Pillow keeps the upper halves
        assert decode.info(data).bits == 16
        assert np.array_equal(np.asarray(decode.read(data))[..., 0], deep >> 8)
    else:
        check(data, deep, bits)


def test_colour_of_sixteen_bits_in_a_tiff():
    deep = values(4000, (40, 50, 3))
    for order in "<>":
        data = deep.astype(order + "u2").tobytes()
        tags = [
            (256, 4, 1, 50), (257, 4, 1, 40), (258, 3, 3, 8 + len(data)), (259, 3, 1, 1),
            (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, 40), (279, 4, 1, len(data)),
        ]  # fmt: skip
        bits = struct.pack(order + "HHH", 16, 16, 16)
        check(crafted_files.tiff(tags, data + bits, order=order), deep[..., 0], 12)


def test_bits_that_a_file_declares_count_more_than_its_values():
    dark = values(900)
    check(png(dark), dark, 10)
    check(png(dark, significant=12), dark, 12)
    check(tiff(dark.astype(np.uint16), t281=4095), dark, 12)
    check(tiff(dark.astype(np.uint16), t281=65_535), dark, 10)  # the default: it says nothing
    check(tiff(dark.astype(np.uint16), t341=16_383), dark, 14)
    left, right = dark[:, ::2], dark[:, 1::2]
    packed = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], -1)
    twelve = crafted_files.plain_tiff(50, 40, packed.astype(np.uint8).tobytes(), bits=12)
    check(twelve, dark, 12)
    # Declared too few, they do not count.
    bright = values(5000)
    check(tiff(bright.astype(np.uint16), t281=1000), bright, 14)


@pytest.mark.parametrize("copied", [False, True])
def test_a_png_whose_declared_bits_are_the_upper_ones(copied):
    """As its specification asks; a dark one is not made bright."""
    twelve = values(200)
    deep = twelve << 4 | (twelve >> 8 if copied else 0)
    check(png(deep, significant=12), deep, 16)


def test_a_ppm_declares_its_largest_value():
    deep = values(4000)
    text = f"P5 {deep.shape[1]} {deep.shape[0]} 4095\n".encode()
    for shade in (deep, deep // 16):
        read = np.asarray(decode.read(text + shade.astype(">u2").tobytes()))[..., 0]
        assert np.abs(read - shade * 255 / 4095).max() <= 0.51


def test_shades_do_not_jump_where_another_bit_is_used():
    """A dark file in mode I was shown in full up to 255, and as black from 256 on."""
    means = []
    for largest in (250, 260, 4000, 4200, 65_000, 70_000):
        means.append(np.asarray(decode.read(Image.fromarray(values(largest).astype("i4")))).mean())
    assert min(means) > 25


def test_values_below_zero_are_refused():
    with pytest.raises(ImageError, match="below 0; save it as"):
        decode.read(encode(Image.fromarray(values(9).astype(np.int32) - 5), "TIFF"))
