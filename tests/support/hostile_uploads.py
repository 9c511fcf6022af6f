"""200 files that are no honest photos: for the tests, and for whoever wants to try them by hand.

    python tests/hostile_uploads.py FOLDER

writes them into FOLDER. Their pictures are drawn here, and the same files come out each time.
"""

import argparse
import gzip
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from engine.images import decode  # noqa: F401  (has Pillow write HEIC, too)
from tests.support.crafted_files import (
    after_start,
    blank_png,
    chunk,
    larger_frame,
    many_scans,
    plain_tiff,
    png,
    segment,
    tiff,
    timeless,
    without,
    zipped,
)

COUNT = 200
READABLE = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM", "ICO",
            "HEIF")  # fmt: skip
ENDINGS = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif", "HEIF": "heic"}
CODE = b"import os; os.system('touch /tmp/graft-was-here')"
SCRIPT = b"<script>document.title = 'graft was here'</script>"
XMP = b"http://ns.adobe.com/xap/1.0/\0"


def drawing(mode="RGB", size=(72, 56)) -> Image.Image:
    """A flower of sorts."""
    image = Image.new("RGB", size, "#9bc46a")
    pen = ImageDraw.Draw(image)
    width, height = size
    for x, y in ((0.3, 0.3), (0.7, 0.3), (0.3, 0.7), (0.7, 0.7)):
        box = [(x - 0.2) * width, (y - 0.2) * height, (x + 0.2) * width, (y + 0.2) * height]
        pen.ellipse(box, fill="#d03a60", outline="#601020")
    pen.ellipse([0.4 * width, 0.4 * height, 0.6 * width, 0.6 * height], fill="#ffd94a")
    return image.convert(mode)


def encode(image, format="JPEG", **options) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def ending(format) -> str:
    return ENDINGS.get(format, format.lower())


# Each function below yields (name, bytes).


def hardly_any_bytes():
    for name in ("zero_bytes.jpg", "zero_bytes.svg", "zero_bytes"):
        yield name, b""
    starts = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a",
              "webp": b"RIFF\0\0\0\0WEBP"}  # fmt: skip
    for name, start in starts.items():
        yield f"only_a_signature.{name}", start
    yield "one_byte.jpg", b"\xff"


def truncated():
    for format in READABLE:
        data = encode(drawing(), format)
        yield f"half_of_a_{format}.{ending(format)}", data[: len(data) // 2]
        if format in READABLE[:5]:
            yield f"forty_bytes_of_a_{format}.{ending(format)}", data[:40]
    data = encode(drawing(size=(400, 300)), progressive=True)
    yield "half_of_a_progressive.jpg", data[: len(data) // 2]
    yield "all_but_the_last_bytes.png", encode(drawing(), "PNG")[:-14]


def renamed():
    pairs = ("PNG jpg", "JPEG png", "AVIF jpg", "WEBP gif", "TIFF bmp", "JPEG heic")
    for format, other in map(str.split, pairs):
        yield f"a_{format}_called.{other}", encode(drawing(), format)


def no_images():
    yield "text.jpg", b"This is not a picture.\n" * 50
    yield "page.png", b"<!doctype html><html><body>" + SCRIPT + b"</body></html>"
    yield "data.jpg", json.dumps({"image": "none", "list": list(range(100))}).encode()
    yield "deep.jpg", b"[" * 100_000
    yield "program.jpg", b"\x7fELF\x02\x01\x01" + bytes(2000)
    yield "shell.jpg", b"#!/bin/sh\ntouch /tmp/graft-was-here\n"
    yield "pickle.jpg", b"cos\nsystem\n(S'touch /tmp/graft-was-here'\ntR."
    yield "film.jpg", b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(2000)
    yield "no_heic.avif", b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(2000)
    yield "noise.jpg", np.random.default_rng(1).bytes(20_000)
    yield "zeros.jpg", bytes(1_000_000)


def packed():
    inner = zipped(("photo.jpg", encode(drawing())))
    yield "a_zip.jpg", inner
    yield "a_zip_in_a_zip_in_a_zip.jpg", zipped(("b.zip", zipped(("a.zip", inner))))
    yield "a_zip_of_zeros.png", zipped(("zeros.bmp", bytes(20_000_000)))
    yield "gzipped.jpg", gzip.compress(encode(drawing()), mtime=0)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        info = tarfile.TarInfo("../../evil.jpg")
        info.size = 5
        opened.addfile(info, io.BytesIO(b"hello"))
    yield "a_tar.jpg", file.getvalue()


def polyglots():
    jpeg, png_, gif = encode(drawing()), encode(drawing(), "PNG"), encode(drawing(), "GIF")
    yield "image_and_zip.jpg", jpeg + zipped(("evil.py", CODE))
    yield "image_and_script.gif", gif + b"/*" + bytes(30) + b"*/=1;alert(1)//"
    yield "image_and_page.png", png_ + b"<html>" + SCRIPT + b"</html>"
    yield "code_in_a_comment.jpg", after_start(jpeg, segment(0xFE, b"<?php system($_GET[0]); ?>"))
    yield "pdf_around_an_image.jpg", b"%PDF-1.4\n1 0 obj\nstream\n" + jpeg + b"\nendstream\n%%EOF"
    yield "script_called_bitmap.bmp", b"BM=1;alert(1);//" + encode(drawing(), "BMP")[16:]
    yield "junk_before.png", bytes(8192) + png_
    yield "two_images.jpg", jpeg + encode(drawing().rotate(90))
    yield "program_behind.webp", encode(drawing(), "WEBP") + b"MZ\x90\0" + bytes(5000)


def vector_and_postscript():
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">%s</svg>'
    yield "script.svg", svg % SCRIPT
    yield "script_called.png", svg % b'<image href="javascript:alert(1)"/>'
    entity = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    yield "external_entity.svg", entity + svg % b"<text>&x;</text>"
    levels = b"".join(b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10) for i in range(1, 10))
    laughs = b'<!DOCTYPE svg [<!ENTITY l0 "ha">' + levels + b"]>" + svg % b"<text>&l9;</text>"
    yield "billion_laughs.svg", laughs
    yield "far_image.svg", svg % b'<image href="http://169.254.169.254/latest/meta-data"/>'
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n"
    run = head + b"(%pipe%touch /tmp/graft-was-here) (w) file\nshowpage\n%%EOF"
    yield "code.eps", run
    yield "code_called.jpg", run
    frame = b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(run)) + bytes(18)
    yield "code_in_dos_frame.png", frame + run
    placed = b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 99, 99, 96) + bytes(6)
    yield "drawing.wmf", placed + b"\x01\0\t\0" + bytes(40)
    yield "drawing.emf", struct.pack("<II", 1, 108) + bytes(32) + b" EMF" + bytes(200)


def formats_nobody_uploads():
    """Pillow could read them; Graft does not ask it to."""
    modes = {"SPIDER": "F", "XBM": "1"}
    for format in ("PCX", "SGI", "TGA", "SPIDER", "ICNS", "DDS", "XBM", "QOI", "BLP"):
        mode = modes.get(format, "P" if format == "BLP" else "RGB")
        yield f"a_{format}.{format.lower()}", encode(drawing(mode), format)
    declared = struct.pack(">HIIHH", 3, 60_000, 60_000, 8, 3)
    yield "layers.psd", b"8BPS\0\1" + bytes(6) + declared + bytes(99)
    yield "film.fli", struct.pack("<IHHHHHHI", 999, 0xAF11, 9999, 320, 200, 8, 3, 5) + bytes(200)
    yield "stars.fits", b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800)
    yield "cursor.cur", b"\0\0\2\0\1\0" + encode(drawing(), "ICO")[6:]


def far_too_large():
    side = 60_000
    yield "60000_x_60000.png", png(side, side, 8, 2, bytes(100))
    gif = encode(drawing(), "GIF")
    yield "60000_x_60000.gif", gif[:6] + struct.pack("<HH", side, side) + gif[10:]
    yield "frame_larger_than_screen.gif", larger_frame(gif, side)
    yield "60000_x_60000.tif", plain_tiff(side, side, bytes(100))
    jpeg = bytearray(encode(drawing()))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    yield "60000_x_60000.jpg", bytes(jpeg)
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 8000, 8000)
    yield "8000_x_8000_of_which_little_is_there.jpg", bytes(jpeg)
    bmp = encode(drawing(), "BMP")
    yield "60000_x_60000.bmp", bmp[:18] + struct.pack("<ii", side, side) + bmp[26:]
    yield "lowest_height.bmp", bmp[:18] + struct.pack("<ii", 9, -(2**31)) + bmp[26:]
    yield "60000_x_60000.ppm", b"P6 60000 60000 255\n" + bytes(100)
    webp = bytearray(encode(drawing(), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 16382 | 16382 << 14)
    yield "16383_x_16383.webp", bytes(webp)
    jp2 = bytearray(encode(drawing(), "JPEG2000"))
    at = jp2.index(b"\xff\x51")
    jp2[at + 6 : at + 14] = struct.pack(">II", side, side)
    yield "small_box_large_stream.jp2", bytes(jp2)
    at = jp2.index(b"ihdr") + 4
    jp2[at : at + 8] = struct.pack(">II", side, side)
    yield "60000_x_60000.jp2", bytes(jp2)
    for format in ("AVIF", "HEIF"):
        data = bytearray(encode(drawing(), format))
        at = data.index(b"ispe") + 8
        data[at : at + 8] = struct.pack(">II", side, side)
        yield f"60000_x_60000.{ending(format)}", bytes(data)
        data[at : at + 8] = struct.pack(">II", 8, 8)
        yield f"more_than_it_declares.{ending(format)}", bytes(data)
    yield "20000_x_20000.png", blank_png(20_000, 20_000)
    yield "just_above_64_million.png", blank_png(8001, 8000)
    yield "just_64_million.png", blank_png(8000, 8000)
    yield "just_64_million_with_alpha.png", blank_png(8000, 8000, 8, 6, 4)
    yield "just_64_million_of_16_bits.png", blank_png(8000, 8000, 16)
    yield "just_64_million.jpg", encode(Image.new("L", (8000, 8000)), quality=10)
    yield "just_above_64_million.jpg", encode(Image.new("L", (8001, 8000)), quality=10)
    yield "one_row.png", blank_png(1_000_000, 1)
    yield "one_column.png", blank_png(1, 1_000_000)
    yield "no_width.png", png(0, 10, 8, 2, bytes(100))
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, 500_000, 22)
    yield "icon_of_12000_x_12000.ico", icon + blank_png(12_000, 12_000)


def many_frames():
    small = drawing("P", (8, 8))
    frame = [small.rotate(90 * (i % 4)) for i in range(3000)]
    yield "3000_frames.gif", encode(small, "GIF", save_all=True, append_images=frame[1:])
    yield "2000_frames.png", encode(small, "PNG", save_all=True, append_images=frame[1:2000])
    colour = [each.convert("RGB") for each in frame[:1000]]
    yield "1000_frames.webp", encode(colour[0], "WEBP", save_all=True, append_images=colour[1:])
    film = encode(colour[0], "AVIF", save_all=True, append_images=colour[1:100], speed=10)
    yield "100_frames.avif", timeless(film)
    yield "500_pages.tif", encode(colour[0], "TIFF", save_all=True, append_images=colour[1:500])
    yield "three_photos.jpg", encode(drawing(), "MPO", save_all=True, append_images=[drawing()] * 2)
    sizes = [(i, i) for i in range(9, 257, 13)]
    yield "many_sizes.ico", encode(drawing(size=(256, 256)), "ICO", sizes=sizes)
    yield "65535_sizes.ico", b"\0\0\1\0\xff\xff" + bytes(16) * 65_535
    looped = plain_tiff(8, 8, bytes(64), next_ifd=8 + 64)
    yield "pages_in_a_circle.tif", looped


def odd_modes():
    for mode in ("L", "CMYK"):
        yield f"{mode}.jpg", encode(drawing(mode))
    cmyk = encode(drawing("CMYK"))
    at = cmyk.index(b"Adobe") + 11
    yield "YCCK.jpg", cmyk[:at] + b"\2" + cmyk[at + 1 :]
    for mode in ("1", "LA", "P", "RGBA", "I;16"):
        drawn = drawing("L" if ";" in mode else mode).convert(mode)
        yield f"{mode.replace(';', '_')}.png", encode(drawn, "PNG")
    yield "P_with_transparency.png", encode(drawing("P"), "PNG", transparency=bytes(range(200)))
    yield "RGB_with_transparency.png", encode(drawing(), "PNG", transparency=(1, 2, 3))
    yield "RGB_of_16_bits.png", png(64, 64, 16, 2, (b"\0" + bytes(range(128)) * 3) * 64)
    few, rows = chunk(b"PLTE", b"\xff\0\0\0\xff\0"), (b"\0" + bytes(range(64))) * 64
    yield "indices_beyond_the_palette.png", png(64, 64, 8, 3, rows, [few])
    yield "no_palette.png", png(64, 64, 8, 3, rows)
    yield "bits_that_do_not_exist.png", png(64, 64, 7, 5, rows)
    for mode in ("CMYK", "LAB", "RGBA", "F", "I", "I;16", "YCbCr"):
        yield f"{mode.replace(';', '_')}.tif", encode(_converted(mode), "TIFF")
    doubles = np.linspace(-1e300, 1e300, 64 * 64).tobytes()
    yield "doubles.tif", plain_tiff(64, 64, doubles, bits=64, sample_format=3)
    nan = np.full(64 * 64, np.nan, np.float32).tobytes()
    yield "not_a_number.tif", plain_tiff(64, 64, nan, bits=32, sample_format=3)
    yield "white_is_zero.tif", plain_tiff(64, 64, bytes(range(256)) * 16, photometric=0)
    planes = [
        (256, 4, 1, 32), (257, 4, 1, 32), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 3, 14), (277, 3, 1, 3), (278, 4, 1, 32), (279, 4, 3, 26), (284, 3, 1, 2),
    ]  # fmt: skip
    parts = struct.pack("<HHHIIIIII", 8, 8, 8, 38, 38 + 1024, 38 + 2048, 1024, 1024, 1024)
    yield "planes.tif", tiff(planes, parts + bytes(3072))


def _converted(mode) -> Image.Image:
    if mode == "LAB":  # converting would add a profile with the time of day in it
        return Image.merge("LAB", drawing().split())
    return drawing("L" if mode in ("F", "I", "I;16") else "RGB").convert(mode)


def odd_exif():
    jpeg = encode(drawing())

    def exif(data):
        return after_start(jpeg, segment(0xE1, b"Exif\0\0" + data))

    for turn in (*range(10), 65_535):
        yield f"orientation_{turn}.jpg", exif(tiff([(0x112, 3, 1, turn)], order="<>"[turn % 2]))
    yield "exif_in_a_circle.jpg", exif(tiff([(0x8769, 4, 1, 8), (0x8825, 4, 1, 8)], next_ifd=8))
    yield "exif_of_4_billion.jpg", exif(tiff([(0x112, 3, 0xFFFFFFFF, 8), (0x10F, 2, 2**31, 8)]))
    yield "exif_cut_off.jpg", exif(tiff([(0x112, 3, 1, 6)])[:15])
    yield "exif_of_noise.jpg", exif(np.random.default_rng(2).bytes(9000))
    part = segment(0xE1, b"Exif\0\0" + bytes(2))
    yield "exif_in_many_parts.jpg", after_start(jpeg, *[part] * 50_000)
    yield "broken_profile.png", encode(drawing(), "PNG", icc_profile=b"no profile at all" * 9)
    yield "profile_of_megabytes.jpg", encode(drawing(), icc_profile=bytes(4_000_000))
    yield "xmp_of_megabytes.jpg", after_start(jpeg, *[segment(0xE1, XMP + b"<x>" * 20_000)] * 50)
    turned = b'<x:xmpmeta tiff:Orientation="99999999999999999999"/>'
    yield "xmp_orientation.jpg", after_start(jpeg, segment(0xE1, XMP + turned))


def odd_names():
    names = (
        "photo\u202egpj.exe.jpg", "'; DROP TABLE images; --.jpg", 'quote".jpg',
        "\U0001f33b\U0001f33c.jpg", "n" * 196 + ".jpg", ".hidden.jpg", "..dots..jpg",
        "..%2f..%2fetc%2fpasswd.jpg", "<img src=x onerror=alert(1)>.jpg",
        "back\\slash.jpg", "two\nlines.jpg", "no_ending",
    )  # fmt: skip
    for i, name in enumerate(names):
        yield name, encode(drawing().rotate(20 * i))


def broken_inside():
    good = encode(drawing(), "PNG")
    yield "as_text.png", good.replace(b"\r\n", b"\n")
    yield "as_dos_text.png", good.replace(b"\n", b"\r\n")
    at = good.index(b"IDAT") + 20
    yield "wrong_sum.png", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    yield "no_header.png", good[:8] + good[33:]
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))
    yield "comment_of_50_million.png", good[:33] + text + good[33:]
    texts = chunk(b"tEXt", b"Comment\0" + b"x" * 1000) * 2000
    yield "2000_comments.png", good[:33] + texts + good[33:]
    jpeg = encode(drawing())
    for marker, what in ((0xC4, "huffman"), (0xDB, "quantisation"), (0xC0, "frame")):
        yield f"no_{what}.jpg", without(jpeg, marker)
    yield "5000_scans.jpg", many_scans(5000, (8000, 8000))
    table = segment(0xDB, b"\x0f" + bytes(64))
    yield "too_many_quantisation_tables.jpg", after_start(jpeg, *[table] * 9)
    gif = encode(drawing(), "GIF")
    yield "no_code_size.gif", gif[:-40] + bytes(40)
    comment = b"!\xfe" + (b"\xff" + b"x" * 255) * 4000 + b"\0"
    start = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    yield "comment_of_a_million.gif", gif[:start] + comment + gif[start:]
    bmp = encode(drawing(), "BMP")
    yield "pixels_far_away.bmp", bmp[:10] + struct.pack("<I", 2**32 - 1) + bmp[14:]
    near, far = (struct.pack("<HHII", 273, 4, 1, at) for at in (8, 2**31))
    yield "strip_far_away.tif", plain_tiff(64, 64, bytes(4096)).replace(near, far)
    webp = encode(drawing(), "WEBP")
    yield "wrong_length.webp", webp[:4] + struct.pack("<I", 2**32 - 9) + webp[8:]


def mutated(count):
    """Single bytes turned, as by a bad disk."""
    random = np.random.default_rng(7)
    sources = [(format, encode(drawing(), format)) for format in READABLE[:8]]
    for i in range(count):
        format, data = sources[i % len(sources)]
        data = bytearray(data)
        for at in random.integers(4, len(data), 1 + i // len(sources)):
            data[at] ^= 1 << random.integers(8)
        yield f"turned_bits_{i:02d}.{ending(format)}", bytes(data)


KINDS = (
    hardly_any_bytes, truncated, renamed, no_images, packed, polyglots, vector_and_postscript,
    formats_nobody_uploads, far_too_large, many_frames, odd_modes, odd_exif, odd_names,
    broken_inside,
)  # fmt: skip


def files() -> list[tuple[str, bytes]]:
    """(name, bytes) of all `COUNT` files; what `KINDS` leave is filled with `mutated` ones."""
    made = [each for kind in KINDS for each in kind()]
    return made + list(mutated(COUNT - len(made)))


def write(folder) -> list[Path]:
    """Writes all `COUNT` files; returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in files():
        paths.append(folder / name)
        paths[-1].write_bytes(data)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m tests.support.hostile_uploads"
    )
    parser.add_argument("folder", help="where to write them")
    for written in write(parser.parse_args().folder):
        print(f"{written.stat().st_size:>12,} bytes  {written.name!r}")
