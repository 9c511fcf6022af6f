"""What is not decoded: images with too many pixels, and files made to keep the decoder busy."""

from __future__ import annotations

import contextlib
import io
import re
import struct
from pathlib import Path
from typing import BinaryIO

from PIL import IcoImagePlugin, Image

from engine.errors import ImageError

MAX_PIXELS = 64_000_000
"""Largest width x height that is decoded whole (64 megapixels take 256 MB of memory)."""
MAX_JPEG_PIXELS = 256_000_000
"""Of a JPEG, which is read at a half or a quarter of its size above `MAX_PIXELS`: phones take
photos of 108 and 200 megapixels."""
MAX_BYTES = 200_000_000
"""Largest file that is opened."""
MAX_SIDE = 65_535
"""Longest side, in pixels; also JPEG's own limit. Resizing keeps 16 bytes for each pixel of a side:
1.7 GB for a single column of 60 million."""
MAX_SCANS = 100
"""Scans of a JPEG of up to `MAX_PIXELS`, fewer of a larger one; libtiff has the same limit, and
photos from cameras have about ten. A file of 300 kB can hold 200 scans of 8,000 x 8,000 pixels,
which took 9 s; one of 200 MB takes hours (libjpeg-turbo, LJT-01-004)."""
MAX_SEGMENTS = 500
"""Blocks of at most 64 kB before a JPEG's pixels: EXIF, colour profile, XMP. Pillow's time grows
with the square of their number: 300 took 1.2 s, 1,500 took 41 s."""
MAX_COEFFICIENTS = 700_000_000
"""Bytes that libjpeg keeps of a JPEG with several scans, however much it is reduced: 2 for each
sample. A progressive photo of 200 megapixels takes 600 MB, or 1.2 GB if its colours have the full
resolution. The photos of cameras have one scan, of which only a few rows are kept."""

# Pillow refuses above twice as much, `check_size` before that.
Image.MAX_IMAGE_PIXELS = MAX_JPEG_PIXELS


def check_size(width: int, height: int, format: str = "") -> None:
    """Raises ImageError for an image with too many pixels.

    Args:
        width, height: as the file declares them.
        format: of Pillow; "" where it is not known.
    """
    jpeg = format in ("JPEG", "MPO")
    if width * height > (MAX_JPEG_PIXELS if jpeg else MAX_PIXELS):
        raise ImageError(f"the image is {width} x {height} pixels; {too_many_pixels(jpeg)}")
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"the image is {width} x {height} pixels; Graft reads up to {MAX_SIDE:,} per side, so "
            "cut it into parts first"
        )


def too_many_pixels(jpeg: bool = False) -> str:
    """What Graft reads, and what to do, to follow what an image is."""
    most, jpegs = MAX_PIXELS // 10**6, MAX_JPEG_PIXELS // 10**6
    if jpeg:
        return f"Graft reads up to {jpegs} million pixels of a JPEG, so make it smaller first"
    return (
        f"Graft reads up to {most} million pixels, and {jpegs} million of a JPEG, so make it "
        "smaller or save it as JPEG first"
    )


_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_BARE = {0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)}
"""Markers without a length (ITU-T T.81, table B.1), or that Pillow reads as such."""
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}


def check_jpeg(data: bytes) -> None:
    """Raises ImageError for a JPEG made to keep the decoder busy (`MAX_SCANS`, `MAX_SEGMENTS`,
    `MAX_COEFFICIENTS`)."""
    at, segments, scans, most, frame = 2, 0, 0, MAX_SCANS, _Frame()
    while found := _MARKER.search(data, at):
        at, marker = found.end(), data[found.end() - 1]
        if marker == 0xD9 and scans:  # the end; a video or another image may follow
            return
        segments += not scans
        if marker in _FRAMES:
            frame = _Frame(data[at : at + 8 + 3 * 4], marker in _PROGRESSIVE)
            most = MAX_SCANS * MAX_PIXELS // max(frame.pixels, MAX_PIXELS)
        if marker == 0xDA:
            scans += 1
            if scans == 1 and frame.kept(data[at + 2 : at + 3]) > MAX_COEFFICIENTS:
                raise ImageError(
                    "decoding this JPEG of several scans (progressive) would take more than "
                    f"{MAX_COEFFICIENTS // 10**6} MB of memory; save it without that option or "
                    "make it smaller first"
                )
        if segments > MAX_SEGMENTS or scans > most:
            raise ImageError(
                "the JPEG has far more parts than a photo; open it in an image editor and save it "
                "again"
            )
        if scans == 1 and data.count(b"\xff\xda", at) < most:
            return
        if marker not in _BARE:
            at += int.from_bytes(data[at : at + 2], "big")


class _Frame:
    """A JPEG's frame header (ITU-T T.81, B.2.2), from its length on; of zeros if it is cut off."""

    def __init__(self, header: bytes = b"", progressive: bool = False) -> None:
        height, width, self._components = struct.unpack(">3xHHB", header.ljust(8, b"\0")[:8])
        factors = [(byte >> 4) * (byte & 15) for byte in header[9 : 8 + 3 * self._components : 3]]
        self.pixels = height * width
        self._samples = self.pixels * sum(factors) // max([1, *factors])
        self._progressive = progressive

    def kept(self, in_scan: bytes) -> int:
        """Bytes of coefficients that libjpeg keeps while it reads the scans.

        Args:
            in_scan: the number of components in the first scan, one byte.
        """
        whole = self._progressive or in_scan < bytes([self._components])
        return 2 * self._samples if whole else 0


def check_build(data: io.BytesIO | Path) -> None:
    """Raises ImageError for a file that would keep Pillow busy for long when it is opened."""
    file: BinaryIO
    with open(data, "rb") if isinstance(data, Path) else contextlib.nullcontext(data) as file:
        begin = file.read(4)
        file.seek(0)
        if begin.startswith(b"\xff\xd8\xff"):
            check_jpeg(file.read())
        elif begin == b"\0\0\1\0":
            _check_icon(file)
        file.seek(0)


def _check_icon(file: BinaryIO) -> None:
    """Raises ImageError for an icon with too many or too large images.

    Its header declares at most 256 x 256 pixels, but the image inside, which is decoded on opening,
    may have any size. Real icons hold a dozen images, and up to 65,535 are possible.
    """
    if struct.unpack("<H", file.read(6)[4:])[0] > 256:
        raise ImageError("the icon holds more than 256 images; save one of them as PNG")
    file.seek(0)
    file.seek(IcoImagePlugin.IcoFile(file).entry[0].offset)
    head = file.read(24)
    if head.startswith(b"\x89PNG"):
        width, height = struct.unpack(">II", head[16:24])
    elif head[0] == 12:  # the oldest bitmap header; a mask follows the image
        width, height = struct.unpack("<HH", head[4:8])
    else:
        width, height = struct.unpack("<ii", head[4:12])
    check_size(abs(width), abs(height))
