"""Image files built byte by byte, with headers that no image editor would write."""

import io
import struct
import zipfile
import zlib

from PIL import Image


def chunk(kind: bytes, data=b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits=1, colour=0, rows=b"", before=()) -> bytes:
    """A PNG whose header has the given values; `rows` is raw, a filter byte before each row."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *before, chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def blank_png(width, height, bits=1, colour=0, channels=1) -> bytes:
    """All of its pixels are there, and zero; a few kilobytes."""
    row = 1 + (width * bits * channels + 7) // 8
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    packer, packed = zlib.compressobj(9), []
    for start in range(0, height, 256):
        packed.append(packer.compress(bytes(row * min(256, height - start))))
    data = b"".join(packed) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND")


def tiff(tags, data=b"", next_ifd=0, order="<") -> bytes:
    """A TIFF of the given (tag, type, count, value or offset); `data` lies at byte 8."""
    at = 8 + len(data) + len(data) % 2
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    shift = 16 if order == ">" else 0  # a short value lies in the first two of four bytes
    body = b"".join(
        struct.pack(order + "HHII", tag, kind, n, value << shift * (kind == 3 and n == 1))
        for tag, kind, n, value in tags
    )
    directory = struct.pack(order + "H", len(tags)) + body + struct.pack(order + "I", next_ifd)
    return head + data.ljust(at - 8, b"\0") + directory


def plain_tiff(width, height, data, bits=8, photometric=1, sample_format=1, **more) -> bytes:
    """An uncompressed grey TIFF of one strip."""
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1),
        (262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height),
        (279, 4, 1, len(data)), (339, 3, 1, sample_format),
    ]  # fmt: skip
    return tiff(tags, data, **more)


def segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def after_start(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with more segments at its beginning."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def without(jpeg: bytes, marker: int) -> bytes:
    """A JPEG without the segments of one kind."""
    at, kept = 2, [jpeg[:2]]
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        kept.append(jpeg[at:end] if jpeg[at + 1] != marker else b"")
        at = end
    return b"".join(kept) + jpeg[at:]


def zipped(*members) -> bytes:
    """A zip of (name, bytes)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in members:
            opened.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def larger_frame(gif, side) -> bytes:
    """The first frame says that it is larger than the screen."""
    at = gif.index(b",", 13 + 3 * 2 ** ((gif[10] & 7) + 1))
    return gif[: at + 5] + struct.pack("<HH", side, side) + gif[at + 9 :]


def many_scans(count: int, size) -> bytes:
    """A progressive JPEG that goes over its picture again and again, as no camera does
    (libjpeg-turbo: two issues with the JPEG standard, LJT-01-004)."""
    file = io.BytesIO()
    Image.new("L", size, 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    begin = data.rindex(b"\xff\xda")
    return data[:begin] + data[begin:-2] * count + data[-2:]


def timeless(avif: bytes) -> bytes:
    """A film without the times of its making, so that the same one comes out each time."""
    avif = bytearray(avif)
    for box in (b"mvhd", b"tkhd", b"mdhd"):
        at = avif.index(box) + 8
        length = 8 * (1 + avif[at - 4])
        avif[at : at + length] = bytes(length)
    return bytes(avif)
