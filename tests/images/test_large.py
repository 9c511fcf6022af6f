"""Photos of 108 and 200 megapixels are read reduced, in little memory; bombs stay refused."""

import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from engine.errors import ImageError
from engine.images import decode
from tests.support import ROOT
from tests.support.crafted_files import blank_png
from tests.support.hostile_uploads import drawing
from tests.support.pictures import encode

PEAK = """
import sys
from pathlib import Path
from engine.images import decode
print(*decode.read(sys.argv[1]).size)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """108 megapixels, lying on its side: its left half, which is its upper one, is red."""
    image = Image.new("RGB", (12_000, 9000), "blue")
    image.paste("red", (0, 0, 6000, 9000))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path_factory.mktemp("large") / "108.jpg"
    image.save(path, quality=30, exif=exif)
    return path


def larger(width, height, at=0, value=None, **options) -> bytes:
    """A JPEG whose header declares more pixels than it has; byte `at` after its first scan's
    marker is replaced by `value`."""
    jpeg = bytearray(encode(drawing(), "JPEG", subsampling=0, **options))
    frame = jpeg.index(b"\xff\xc2" if options else b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    if value is not None:
        jpeg[jpeg.index(b"\xff\xda") + at] = value
    return bytes(jpeg)


def test_a_photo_of_108_megapixels_is_read_reduced_and_described_as_it_is(photo):
    assert decode.info(photo.read_bytes()) == (9000, 12_000, "JPEG", 0)
    small = decode.read(photo)
    assert small.size == (4500, 6000)
    top, bottom = (np.asarray(small.getpixel((2000, y)), int) for y in (1000, 5000))
    assert top[0] > 200 > 50 > top[2] and bottom[2] > 200 > 50 > bottom[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_whole_of_a_large_photo_is_never_in_memory(photo):
    """432 MB as Pillow keeps it, and as much again for turning it; 240 MB were measured."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, photo], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split()[:2] == ["4500", "6000"], done.stderr
    assert int(done.stdout.split()[2]) / 1024 < 350


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (larger(16_001, 16_000), "256 million pixels of a JPEG, so make it smaller"),
        (blank_png(8001, 8000), "64 million pixels, and 256 million of a JPEG, so make it smaller"),
        # libjpeg would keep all coefficients of these, however much it reduces them.
        (larger(11_000, 11_000, progressive=True), "several scans .* save it without that option"),
        (larger(11_000, 11_000, 4, 1), "several scans"),
    ],
)
def test_bombs_are_refused(data, words):
    with pytest.raises(ImageError, match=words):
        decode.read(data)


def test_a_jpeg_of_one_scan_is_no_bomb():
    """Nothing of it is kept, even if its colours have the full resolution."""
    assert decode.read(larger(11_000, 11_000)).size == (5500, 5500)
