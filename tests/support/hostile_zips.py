"""Zips made to harm, or broken: for the tests, and for whoever wants to try them by hand.

    python -m tests.hostile_zips FOLDER

writes one file for each of `REFUSED` and `USED` into FOLDER.
"""

import argparse
import io
import stat
import struct
import warnings
import zipfile
from pathlib import Path

from PIL import Image

ZEROS = 120_000_000
"""Bytes that the bombs unpack to: more than `engine.data.sources.archive.RATIO_FROM`, but quick."""


def image(colour, seed=0) -> bytes:
    """A small picture; no two seeds are alike."""
    made = Image.new("RGB", (24, 16), colour)
    made.putpixel((seed % 24, seed // 24 % 16), (seed % 251, 7, 99))
    file = io.BytesIO()
    made.save(file, "PNG")
    return file.getvalue()


def good(path, prefix="", count=4, classes=("red", "green", "blue")) -> Path:
    """A zip of class folders, as people make them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number, label in enumerate(classes):
            for i in range(count):
                colour = ("red", "green", "blue")[number % 3]
                file.writestr(f"{prefix}{label}/{i:03d}.png", image(colour, i))
    return Path(path)


def _more(path, *members, compress=zipfile.ZIP_DEFLATED) -> None:
    """Appends (name or ZipInfo, bytes)."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a", compress) as file:
        warnings.simplefilter("ignore")  # a name may be there already
        for name, data in members:
            file.writestr(name, data, compress)


def _declare(path, name: str, size: int) -> None:
    """Lets the list of members, and the member's own header, say another size."""
    data = bytearray(Path(path).read_bytes())
    for signature, at, fixed in ((b"PK\3\4", 22, 30), (b"PK\1\2", 24, 46)):
        place = data.find(signature)
        while data[place + fixed : place + fixed + len(name)] != name.encode():
            place = data.find(signature, place + 1)
            assert place >= 0, name
        data[place + at : place + at + 4] = struct.pack("<I", size)
    Path(path).write_bytes(data)


def _zeros(path, name) -> None:
    _more(path, (name, bytes(ZEROS)))


def bomb(path):
    """120 MB of zeros in 120 kB, called an image."""
    _zeros(good(path), "red/zeros.bmp")


def bomb_that_lies(path):
    """The same, declared as 1,000 bytes."""
    _zeros(good(path), "red/zeros.bmp")
    _declare(path, "red/zeros.bmp", 1000)


def bomb_within_bomb(path):
    """Zips of zeros in a zip: nothing is unpacked twice, so there is no image."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros.bmp", bytes(1_000_000))
    _more(path, *[(f"red/{i}.zip", inner.getvalue()) for i in range(16)])


def bomb_by_bzip2(path):
    """20 MB of zeros in a few hundred bytes, in a packing that unpacks all at once."""
    members = [(f"{label}/zeros.bmp", bytes(10_000_000)) for label in ("red", "blue")]
    _more(path, *members, compress=zipfile.ZIP_BZIP2)


def overlapping(path):
    """One kilobyte listed a thousand times."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("red/zeros.bmp", bytes(1_000_000))
        begin = file.start_dir
    data = Path(path).read_bytes()
    end = data.index(b"PK\5\6")
    entry = data[begin:end]
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 1000, 1000, 1000 * len(entry), begin)
    Path(path).write_bytes(data[:begin] + 1000 * entry + bytes(tail))


def tiny_files(path):
    """50,000 files of one byte that are no images by their names."""
    _more(path, *[(f"{i % 7}/{i}.txt", b"x") for i in range(50_000)], compress=zipfile.ZIP_STORED)


def tiny_images(path):
    """10,000 files of one byte that are called images: each is looked at."""
    _more(path, *[(f"{i % 7}/{i}.jpg", b"x") for i in range(10_000)], compress=zipfile.ZIP_STORED)


def corrupt_directory(path):
    """A list of members with other bytes in it."""
    data = bytearray(good(path).read_bytes())
    begin = data.index(b"PK\1\2")
    data[begin + 46 :] = bytes(byte ^ 0x5A for byte in data[begin + 46 : -22]) + data[-22:]
    Path(path).write_bytes(data)


def truncated(path):
    """An incomplete download."""
    data = good(path).read_bytes()
    Path(path).write_bytes(data[: len(data) * 2 // 3])


def not_a_zip(path):
    """A picture, renamed."""
    Path(path).write_bytes(image("red"))


def no_bytes(path):
    """A file with nothing in it."""
    Path(path).write_bytes(b"")


def empty(path):
    """A zip with nothing in it."""
    zipfile.ZipFile(path, "w").close()


def encrypted(path):
    """A zip whose files say that they need a password."""
    data = bytearray(good(path).read_bytes())
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + at] |= 1
            place = data.find(signature, place + 1)
    Path(path).write_bytes(data)


def one_class(path):
    """Images of a single class."""
    good(path, "photos/2024/", classes=("red",))


def no_folders(path):
    """Images beside each other, in no class folder."""
    _more(path, *[(f"{i}.png", image("red", i)) for i in range(4)])


def only_outside(path):
    """Nothing but names that lead out of the folder."""
    members = [(label, i) for label in ("red", "blue") for i in (1, 2)]
    _more(path, *[(f"../{label}/{i}.png", image(label, i)) for label, i in members])


REFUSED = (
    bomb, bomb_that_lies, bomb_within_bomb, bomb_by_bzip2, overlapping, tiny_files, tiny_images,
    corrupt_directory, truncated, not_a_zip, no_bytes, empty, encrypted, one_class, no_folders,
    only_outside,
)  # fmt: skip
"""Each of them deserves one sentence, and nothing else."""


def outside(path):
    """Good images, and names that lead elsewhere."""
    evil = image("red", 200)
    link = zipfile.ZipInfo("red/link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    _more(
        good(path), ("../evil.png", evil), ("red/../../evil.png", evil), ("/tmp/evil.png", evil),
        ("C:/evil.png", evil), ("red\\evil.png", evil), (link, b"/etc/passwd"),
    )  # fmt: skip


def unreadable_names(path):
    """Good images, names that are unreadable or read as another one, and two foreign names."""
    _more(
        good(path), ("red/a\u202egnp.png", image("red", 200)), ("red/b\x07.png", image("red", 201)),
        ("red/c\n.png", image("red", 202)), ("red/" + "d" * 2000 + ".png", image("red", 203)),
        ("Löwenzahn/ä ö.png", image("yellow", 1)), ("فراشة/1.png", image("orange", 1)),
    )  # fmt: skip


def odd_files(path):
    """Good images, a copy of a name, a zip in the zip, texts, what systems add, and a cover."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("red/1.png", image("red"))
    _more(
        good(path, "pets/"), ("pets/red/more.zip", inner.getvalue()), ("pets/labels.csv", b"a,b"),
        ("__MACOSX/pets/red/._000.png", b"x"), ("pets/.DS_Store", b"x"),
        ("pets/cover.png", image("red", 300)), ("pets/red/000.png", image("red", 301)),
    )  # fmt: skip


def damaged_members(path):
    """Good images, one with a bit turned, and one that declares more than it has."""
    _more(good(path), ("red/turned.png", image("red", 250)), ("red/short.png", image("red", 251)))
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("red/turned.png")
    data = bytearray(Path(path).read_bytes())
    data[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0xFF
    Path(path).write_bytes(data)
    _declare(path, "red/short.png", 100_000)


USED = (outside, unreadable_names, odd_files, damaged_members)
"""Only `good` in these is used: 3 classes of 4 images. The rest is skipped, each with a reason."""


def write_all(folder) -> list[Path]:
    """Writes every one of them; returns the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for make in REFUSED + USED:
        paths.append(folder / f"{make.__name__}.zip")
        paths[-1].unlink(missing_ok=True)
        make(paths[-1])
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.hostile_zips")
    parser.add_argument("folder", help="where to write them")
    for written in write_all(parser.parse_args().folder):
        print(f"{written.stat().st_size:>12,} bytes  {written}")
