"""From bytes to pixels, in one place.

Training, prediction, evaluation and previews all call `load`, so they see identical pixels: two
decoders disagree on orientation, 16-bit depth and resizing, and answers change with them.
"""

import contextlib
import ctypes
import io
import platform
import re
import struct
import warnings
from pathlib import Path

import numpy as np

# Pillow loads all of its forty formats when it is asked for one that is not loaded yet; with those of
# `FORMATS` here, it need not.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    IcoImagePlugin,
    Image,
    ImageOps,
    Jpeg2KImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from engine.errors import ImageError

MAX_PIXELS = 64_000_000
"""Largest width x height that is decoded (a 64-megapixel photo takes 192 MB of memory)."""
MAX_BYTES = 200_000_000
"""Largest file that is opened."""
MAX_SIDE = 65_535
"""Longest side, in pixels; JPEG's own limit. Resizing keeps 16 bytes for each pixel of a side: 1.7 GB
for a single column of 60 million."""
MAX_SCANS = 100
"""Times that a JPEG may go over its pixels; libtiff's limit too, and cameras' have about ten. 300 kB can
hold 200 of them at 8,000 x 8,000, which took 9 s, and 200 MB hours (libjpeg-turbo, LJT-01-004)."""
MAX_SEGMENTS = 500
"""Blocks of 64 kB or less before a JPEG's pixels: EXIF, colour profile, XMP. Pillow's time grows with
their number squared: 300 took 1.2 s, 1,500 took 41 s."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "PPM", "ICO", "JPEG2000")
EXTENSIONS = (
    "jpg",
    "jpeg",
    "jfif",
    "png",
    "gif",
    "bmp",
    "webp",
    "avif",
    "tif",
    "tiff",
    "ppm",
    "pgm",
    "ico",
    "jp2",
)

# Pillow warns beyond 89 million pixels, and refuses beyond 179; our own bound is below both.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def read(source) -> Image.Image:
    """Reads one image, upright and in colour.

    EXIF orientation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, and
    of an animation the first frame is taken.

    Args:
        source: bytes, a path, or a PIL image.

    Returns:
        A PIL image of mode RGB, fully decoded, without the file's other data: a comment of megabytes would
        go along, and no JPEG could be written from it.

    Raises:
        ImageError: one sentence, if it is no image of a known format, is truncated, or is larger
            than `MAX_PIXELS`.
    """
    if isinstance(source, Image.Image):
        image = source
    else:
        image = _open(source)
    _check_size(*image.size)
    try:
        image.load()
        image = _upright_rgb(image)
        image.info = {}
        return image
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error …
        raise ImageError(f"the image is damaged or incomplete ({_short(error)})") from None


def info(image_bytes: bytes) -> tuple[int, int, str]:
    """Width and height as a viewer shows them (after orientation), and the format's name.

    Decodes the whole image, so that what passes here can be trained on. Raises ImageError.
    """
    format = _open(image_bytes).format
    width, height = read(image_bytes).size
    return width, height, "JPEG" if format == "MPO" else format


def to_pixels(image: Image.Image, size: int, resize: str = "antialias") -> np.ndarray:
    """Resizes to a square.

    Args:
        image: mode RGB.
        size: side in pixels.
        resize: "antialias", bilinear with a support that grows when shrinking, as Pillow and
            `tf.image.resize(antialias=True)` do (equal to within 1 level of 255); or "plain",
            bilinear between the four nearest pixels at half-pixel centres, as `tf.image.resize`
            does by default.

    Returns:
        uint8 array (size, size, 3).
    """
    if image.size == (size, size):
        return np.asarray(image)
    if resize == "plain":
        width, height = image.size
        affine = (width / size, 0, 0, 0, height / size, 0)
        resized = image.transform(
            (size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
        )
    else:
        resized = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def load(source, size: int, resize: str = "antialias") -> np.ndarray:
    """`read` and `to_pixels`: uint8 array (size, size, 3)."""
    return to_pixels(read(source), size, resize)


def separate_memory(large: int = 1 << 20) -> None:
    """Keeps large buffers apart from small objects, so that they go back to the system when let go of.

    By itself glibc keeps them: as soon as one buffer of up to 32 MB was let go, its heaps serve the next
    such ones, and a heap shrinks from its end only; Pillow's buffers are 16 MB each. Measured on 200
    hostile files, 5 of them of 64 megapixels: 1.7 GB were kept, beside 104 MB before; 6 to 15 MB with
    large buffers apart from a single heap, and 1 to 6 with that heap trimmed too (`return_memory`).
    Photos of 12 megapixels take 5 to 10% more processor time, small ones no more.

    For processes that classify: call it once, before their threads start. It would slow training down.
    Nothing happens where there is no glibc.

    Args:
        large: bytes from which on a buffer is large. With 128 kB, small photos take 18% more time.
    """
    if _GLIBC:
        _GLIBC.mallopt(_M_MMAP_THRESHOLD, large)  # set once, it no longer grows by itself
        _GLIBC.mallopt(_M_TRIM_THRESHOLD, large)  # nor does this: free ends of heaps go back
        _GLIBC.mallopt(_M_ARENA_MAX, 1)


def return_memory() -> None:
    """Gives free memory of the heap back to the system, in about 2 ms; after `separate_memory`."""
    if _GLIBC:
        _GLIBC.malloc_trim(0)


_GLIBC = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From glibc's malloc.h; see mallopt(3)."""


def _open(source) -> Image.Image:
    """Opens and checks the header only."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = io.BytesIO(source)
        if not len(source):
            raise ImageError("the file is empty")
    else:
        data = Path(source)
        if not data.exists():
            raise ImageError("there is no such file")
        if not data.is_file():
            raise ImageError("it is not a file; give the path of an image")
        if data.stat().st_size == 0:
            raise ImageError("the file is empty")
        if data.stat().st_size > MAX_BYTES:
            raise ImageError(f"the file is larger than {MAX_BYTES // 10**6} MB")
    try:
        _check_build(data)
        return Image.open(data, formats=FORMATS)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(
            f"the image has far more pixels than the {MAX_PIXELS // 10**6} million Graft reads, so "
            "make it smaller first"
        ) from None
    except PermissionError:
        raise ImageError("the file may not be read (permission denied)") from None
    except Exception:  # UnidentifiedImageError, or a header that a plug-in chokes on
        raise ImageError(
            "it is not an image Graft can read (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF and a few more)"
        ) from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"the image is {width} x {height} pixels; Graft reads up to {MAX_PIXELS // 10**6} "
            "million pixels, so make it smaller first"
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"the image is {width} x {height} pixels; Graft reads up to {MAX_SIDE:,} on a side, so "
            "cut it into parts first"
        )


_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_BARE = {0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)}
"""Markers that no length follows (ITU-T T.81, table B.1), or that Pillow takes for such."""


def _check_jpeg(data: bytes) -> None:
    """Raises ImageError for a JPEG made to keep the decoder busy (`MAX_SCANS`, `MAX_SEGMENTS`)."""
    at, segments, scans = 2, 0, 0
    while found := _MARKER.search(data, at):
        at, marker = found.end(), data[found.end() - 1]
        if marker == 0xD9 and scans:  # the end; a film or another picture may follow
            return
        segments += not scans
        scans += marker == 0xDA
        if segments > MAX_SEGMENTS or scans > MAX_SCANS:
            raise ImageError(
                "the JPEG is built of far more parts than a photo; open it in an image editor and "
                "save it again"
            )
        if scans == 1 and data.count(b"\xff\xda", at) < MAX_SCANS:
            return
        if marker not in _BARE:
            at += int.from_bytes(data[at : at + 2], "big")


def _check_build(data) -> None:
    """Raises ImageError for what Pillow would work on for long as it opens it."""
    with open(data, "rb") if isinstance(data, Path) else contextlib.nullcontext(data) as file:
        begin = file.read(4)
        file.seek(0)
        if begin.startswith(b"\xff\xd8\xff"):
            _check_jpeg(file.read())
        elif begin == b"\0\0\1\0":
            _check_icon(file)
        file.seek(0)


def _check_icon(file) -> None:
    """An icon says that it is up to 256 x 256; the picture inside, decoded on opening, may be of any
    size. Real ones hold a dozen; each of the 65,535 that are possible is an object."""
    if struct.unpack("<H", file.read(6)[4:])[0] > 256:
        raise ImageError("the icon holds more than 256 pictures; save one of them as PNG")
    file.seek(0)
    file.seek(IcoImagePlugin.IcoFile(file).entry[0].offset)
    head = file.read(24)
    if head.startswith(b"\x89PNG"):
        width, height = struct.unpack(">II", head[16:24])
    elif head[0] == 12:  # the oldest bitmap header; a mask lies below the picture
        width, height = struct.unpack("<HH", head[4:8])
    else:
        width, height = struct.unpack("<ii", head[4:12])
    _check_size(abs(width), abs(height))


def _bands(image: Image.Image):
    """Gives (first row, rows from there on) of about a million pixels each: what is worked out on the
    whole of a large picture takes as much memory again each time."""
    step = max(1, 2**20 // image.width)
    for top in range(0, image.height, step):
        yield top, image.crop((0, top, image.width, min(top + step, image.height)))


def _to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, or mode I, to mode L."""
    grey = np.empty((image.height, image.width), np.uint8)
    # convert("RGB") would clip at 255 (facts, Images): 65535 / 257 = 255.
    deep = image.mode != "I" or image.getextrema()[1] > 255
    for top, band in _bands(image):
        values = np.asarray(band).astype(np.int64)
        if deep:
            values = (np.clip(values, 0, 65535) + 128) // 257
        grey[top : top + band.height] = np.clip(values, 0, 255)
    return Image.fromarray(grey)


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, the way a person sees it."""
    if image.mode.startswith("I;16") or image.mode == "I":
        exif = image.getexif()
        image = _to_8_bits(image)
        image.getexif().update(exif)
    elif image.mode == "F":
        raise ImageError("it holds floating-point values; save it as 8-bit or 16-bit PNG first")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        flat = Image.new("RGB", image.size)
        for top, band in _bands(image):
            white = Image.new("RGBA", band.size, "white")
            flat.paste(Image.alpha_composite(white, band.convert("RGBA")).convert("RGB"), (0, top))
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def _short(error: Exception) -> str:
    """The reason in a few words, without object addresses."""
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return text if len(text) <= 80 and " at 0x" not in text else type(error).__name__
