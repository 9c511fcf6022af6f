"""Copies among images: the same bytes, or the same image resized, re-encoded or slightly cropped.

Two steps over small grey images (`engine.images.measures`). *Candidates* are pairs with a similar
coarse distribution of light: a correlation of 8 x 8 grey above `CANDIDATE`, or a pHash that differs
in at most `HASH_BITS` bits. Each is then *verified*: every way to crop one of the two by at most
`CUT` of its width and height is compared with the other at 32 x 32, and the fine detail (what a
blur of 7 x 7 removes) must correlate above `SAME` for one of them (normalised cross-correlation,
Lewis 1995). Coarse light alone is not enough: all fields under a sky correlate above 0.93.

Measured on the 3,458 photos of tf_flowers and 600 altered copies of them for each column (crops at
any place, scaled by 0.4 to 1.5, JPEG quality 35 to 90):

    area kept       100%    95%    90%    85%
    recall         1.000  1.000  0.993  0.662

The copies missed at 90% are not among the candidates; no candidate is missed. Among the original
photos it finds 28 pairs (3 of the same bytes). Each was checked: all are one image, or two shots of
one moment. So is the next pair, at 0.81; from 0.794 on, pairs are flowers of one kind in one pose.
In 1,500 sample drawings, which are all different, it finds none (highest: 0.83). Changed tones
(grey, gamma 0.4 to 2.5, equalized) are found at 0.92 or above; mirrored images and images with a
frame or text on them are not. pHash adds copies with uneven changes of light (recall for a
vignette: 0.36 without it, 0.54 with it), and no cropped ones. 50,000 images took 58 s on 2 busy
cores, with 0.2 GB beside the mapped file.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits

from engine.host.background import Report, silent
from engine.host.parallel import cores, ordered_map
from engine.images.measures import GREY_SIDE

CANDIDATE = 0.75
"""Correlation of 8 x 8 grey; at 0.70 there are twice the candidates for 0.2% more copies."""
HASH_BITS = 10
"""For ImageHash's documentation, images with a difference of 10 of 64 bits look alike."""
SAME = 0.85
CUT, STEP, AREA = 0.1, 0.025, 0.88
"""Crops that are tried: at most `CUT` of a side, in steps of `STEP`, with `AREA` of the image."""
MOST = 400
"""Candidates of an image that are verified, the most similar first: a limit for datasets in which
all images look alike."""
FLAT = 4.0
"""Deviation of grey (0 to 255) below which an image has no detail: only noise would be compared."""
ROUGH, FINE, BLUR = 8, 32, 3
ROWS = 64
"""Images compared with all others at once: 64 x 50,000 correlations take 13 MB."""


def groups(
    greys: np.ndarray, hashes: np.ndarray, contents: np.ndarray, report: Report = silent
) -> np.ndarray:
    """Finds images that are copies of each other.

    Args:
        greys: uint8 array (n, 64, 64), may be memory-mapped.
        hashes: uint64 array (n,), pHash.
        contents: str array (n,), SHA-256 of each file.
        report: see `Report`.

    Returns:
        int32 array (n,): the number of each image's group, from 0; -1 for images without a copy. A
        copy of a copy belongs to the same group.
    """
    _, first, place = np.unique(contents, return_index=True, return_inverse=True)
    parent = first[place]  # for each image the first one with the same bytes
    for a, b, _ in pairs(greys, hashes, first, report):
        a, b = _root(parent, a), _root(parent, b)
        parent[max(a, b)] = min(a, b)
    roots = np.array([_root(parent, i) for i in range(len(parent))], np.int64)
    members = np.bincount(roots, minlength=len(roots))
    number = np.where(members > 1, np.cumsum(members > 1) - 1, -1)
    return number[roots].astype(np.int32) if len(roots) else np.zeros(0, np.int32)


def pairs(
    greys: np.ndarray, hashes: np.ndarray, rows: np.ndarray, report: Report = silent
) -> list[tuple[int, int, float]]:
    """Verified pairs among some images.

    Args:
        greys: uint8 array (n, 64, 64), may be memory-mapped.
        hashes: uint64 array (n,), pHash.
        rows: int array (m,), the images to compare.
        report: see `Report`.

    Returns:
        (row, row, correlation of detail above `SAME`) for each pair, in the order of rows. A pair
        found from both sides is there twice.
    """
    rows = _with_structure(greys, np.sort(rows))
    count = len(rows)
    found: list[tuple[int, int, float]] = []
    rough = np.empty((count, ROUGH * ROUGH), np.float32)
    fine = np.empty((count, FINE * FINE), np.int8)  # a quarter of float32's size, exact to 0.002
    scale = np.empty(count, np.float32)
    for at in range(0, count, 1024):
        chunk = greys[rows[at : at + 1024]]
        rough[at : at + 1024] = _unit(_shrunk(chunk, ROUGH))
        detail = np.concatenate([np.zeros((0, FINE * FINE)), *(_whole(grey) for grey in chunk)])
        largest = np.abs(detail).max(axis=1, initial=1e-6)
        fine[at : at + 1024] = np.rint(detail * (127 / largest[:, None]))
        scale[at : at + 1024] = largest / 127
    hashes = hashes[rows]

    def compare(at: int) -> list[tuple[int, int, float]]:
        alike = rough[at : at + ROWS] @ rough.T
        near = np.bitwise_count(hashes[at : at + ROWS, None] ^ hashes[None]) <= HASH_BITS
        made = []
        for i, (values, close) in enumerate(zip(alike, near, strict=True), at):
            candidates = np.flatnonzero((values > CANDIDATE) | close)
            candidates = candidates[candidates != i]
            if len(candidates) > MOST:
                candidates = candidates[np.argpartition(-values[candidates], MOST)[:MOST]]
            if len(candidates):
                others = fine[candidates].astype(np.float32).T
                best = (_crops(greys[rows[i]]) @ others).max(axis=0) * scale[candidates]
                made += [
                    (int(rows[i]), int(rows[candidates[k]]), float(best[k]))
                    for k in np.flatnonzero(best > SAME)
                ]
        return made

    # One BLAS thread for each of the small products: the images are divided among threads instead.
    with threadpool_limits(1, user_api="blas"):
        starts = range(0, count, ROWS)
        for done, made in enumerate(ordered_map(compare, starts, cores()), 1):
            found += made
            report("Looking for copies", min(done * ROWS, count), count)
    return found


def _root(parent: np.ndarray, i: int) -> int:
    """The first image of i's group (union-find with path halving, Tarjan & van Leeuwen 1984)."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return int(i)


def _with_structure(greys: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The images that could be read and are not a single grey."""
    chunks = [rows[at : at + 1024] for at in range(0, len(rows), 1024)]
    kept = [chunk[greys[chunk].std(axis=(1, 2), dtype=np.float32) >= FLAT] for chunk in chunks]
    return np.concatenate([rows[:0], *kept])


def _shrunk(greys: np.ndarray, side: int) -> np.ndarray:
    """Means of square blocks: float32 (m, side * side)."""
    block = GREY_SIDE // side
    blocks = greys.reshape(len(greys), side, block, side, block)
    return blocks.mean((2, 4), dtype=np.float32).reshape(len(greys), -1)


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and length 1: the product of two is their correlation."""
    x = x - x.mean(axis=1, keepdims=True)
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6)


def _crops(grey: np.ndarray) -> np.ndarray:
    """The fine detail of each crop of a grey image: float32 (crops, FINE * FINE), by `_unit`."""
    cut, blurred, kept = _operators()
    return _detail(grey, cut, blurred)[kept]


def _whole(grey: np.ndarray) -> np.ndarray:
    """The fine detail of a whole grey image: float32 (1, FINE * FINE)."""
    cut, blurred, _ = _operators()
    return _detail(grey, cut[:FINE], blurred[:FINE])  # the first window is the whole axis


def _detail(grey: np.ndarray, cut: np.ndarray, blurred: np.ndarray) -> np.ndarray:
    """Crops by all pairs of windows, minus their blur: both are products with small matrices."""
    grey, count = grey.astype(np.float32), len(cut) // FINE
    x = cut @ grey @ cut.T - blurred @ grey @ blurred.T  # (count * FINE, count * FINE)
    x = x.reshape(count, FINE, count, FINE).transpose(0, 2, 1, 3)
    return _unit(x.reshape(count * count, FINE * FINE))


@lru_cache(maxsize=1)
def _operators() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices (windows * FINE, GREY_SIDE) that cut one axis to each window and scale it to FINE;
    the same followed by a blur; and the pairs of windows that keep enough of the area."""
    edges = np.arange(0, CUT + 1e-9, STEP)
    windows = [(a, 1 - b) for a in edges for b in edges if a + b <= CUT + 1e-9]
    cuts = [_cut(low, high) for low, high in windows]
    blur = _blur()
    lengths = np.array([high - low for low, high in windows])
    kept = np.flatnonzero((lengths[:, None] * lengths).ravel() >= AREA)
    return np.concatenate(cuts), np.concatenate([blur @ cut for cut in cuts]), kept


def _cut(low: float, high: float) -> np.ndarray:
    """Matrix (FINE, GREY_SIDE) that averages the part of an axis between two fractions of it."""
    edges = np.linspace(low, high, FINE + 1) * GREY_SIDE
    pixels = np.arange(GREY_SIDE)
    shared = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    return (np.clip(shared, 0, None) / np.diff(edges)[:, None]).astype(np.float32)


def _blur() -> np.ndarray:
    """Matrix (FINE, FINE) of a running mean over 2 BLUR + 1 pixels; edge pixels are repeated."""
    near = np.clip(np.arange(FINE)[:, None] + np.arange(-BLUR, BLUR + 1), 0, FINE - 1)
    matrix = np.zeros((FINE, FINE), np.float32)
    np.add.at(matrix, (np.arange(FINE)[:, None], near), 1 / (2 * BLUR + 1))
    return matrix
