"""Copies among images: the same bytes, or the same picture resized, re-encoded or slightly cropped.

Two steps over small grey pictures (`engine.images.measures`). *Candidates* are pairs alike in their rough
light and dark: correlation of 8 x 8 grey above `CANDIDATE`, or a pHash that differs in at most
`HASH_BITS` bits. Each is then *verified*: every way to crop one of the two by at most `CUT` of its width
and of its height is laid on the other at 32 x 32, and the fine detail (what a blur of 7 x 7 takes away)
must correlate above `SAME` for one of them: normalised cross-correlation, Lewis 1995. Rough light and
dark alone will not do: every field under a sky correlates above 0.93 with every other.

Measured on the 3,458 photos of tf_flowers and 600 altered copies of them for each line (kept area at
any place, scaled by 0.4 to 1.5, JPEG quality 35 to 90):

    area kept      100 %   95 %   90 %   85 %
    recall         1.000  1.000  0.993  0.662

Copies that are missed at 90 % are no candidates; of the candidates none is missed. Among the photos as
they are it finds 28 pairs (3 of the same bytes), each looked at: all are one picture, or two shots of one
moment. The next one, at 0.81, is too; from 0.794 on come flowers of one kind in one pose. In 1,500
sample drawings, which are all different, it finds none (highest: 0.83). Changed tones (grey, gamma 0.4 to
2.5, equalized) are found at 0.92 or above; what is mirrored, framed or written upon is not. pHash adds
copies whose light was changed unevenly (a vignette: 0.36 without it, 0.54 with it), and no cropped ones.
50,000 pictures took 58 s on 2 busy cores, with 0.2 GB beside the mapped file.
"""

from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits

from engine.host.parallel import cores, ordered_map
from engine.images.measures import GREY_SIDE

CANDIDATE = 0.75
"""Correlation of 8 x 8 grey; at 0.70 there are twice the candidates for 0.2 % more copies."""
HASH_BITS = 10
"""ImageHash's documentation takes a difference of 10 of 64 bits for alike."""
SAME = 0.85
CUT, STEP, AREA = 0.1, 0.025, 0.88
"""Crops that are tried: up to `CUT` of a side, in steps of `STEP`, that keep `AREA` of the picture."""
MOST = 400
"""Candidates of an image that are verified, the likeliest first: a bound where all images look alike."""
FLAT = 4.0
"""Grey deviation (of 255) below which a picture has nothing to recognize: noise would be compared."""
ROUGH, FINE, BLUR = 8, 32, 3
ROWS = 64  # images compared with all others in one go: 64 x 50,000 correlations take 13 MB


def groups(greys, hashes, contents, report=lambda done, total: None) -> np.ndarray:
    """Finds images that are copies of each other.

    Args:
        greys: uint8 array (n, 64, 64), may be memory-mapped.
        hashes: uint64 array (n,), pHash.
        contents: str array (n,), SHA-256 of each file.
        report: called with (done, total) now and then.

    Returns:
        int32 array (n,): the number of each image's group, from 0; -1 for images without a copy. What
        is a copy of a copy belongs to the group too.
    """
    _, first, place = np.unique(contents, return_index=True, return_inverse=True)
    parent = first[place]  # of each image the first with its bytes
    for a, b, _ in pairs(greys, hashes, first, report):
        a, b = _root(parent, a), _root(parent, b)
        parent[max(a, b)] = min(a, b)
    roots = np.array([_root(parent, i) for i in range(len(parent))], np.int64)
    members = np.bincount(roots, minlength=len(roots))
    number = np.where(members > 1, np.cumsum(members > 1) - 1, -1)
    return number[roots].astype(np.int32) if len(roots) else np.zeros(0, np.int32)


def pairs(greys, hashes, rows, report=lambda done, total: None) -> list[tuple[int, int, float]]:
    """Verified pairs among some images.

    Args:
        greys, hashes, report: as for `groups`.
        rows: int array (m,), the images that are compared.

    Returns:
        (row, row, correlation of detail above `SAME`) for each pair, in the order of rows; a pair that
        is found from both sides comes twice.
    """
    rows = _with_structure(greys, np.sort(rows))
    count, found = len(rows), []
    rough = np.empty((count, ROUGH * ROUGH), np.float32)
    fine = np.empty((count, FINE * FINE), np.int8)  # a quarter of float32, exact to 0.002
    scale = np.empty(count, np.float32)
    for at in range(0, count, 1024):
        chunk = greys[rows[at : at + 1024]]
        rough[at : at + 1024] = _unit(_shrunk(chunk, ROUGH))
        detail = np.concatenate([np.zeros((0, FINE * FINE)), *(_whole(grey) for grey in chunk)])
        largest = np.abs(detail).max(axis=1, initial=1e-6)
        fine[at : at + 1024] = np.rint(detail * (127 / largest[:, None]))
        scale[at : at + 1024] = largest / 127
    hashes = hashes[rows]

    def compare(at):
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

    # One thread each for the small products: the images are what is shared out among threads.
    with threadpool_limits(1, user_api="blas"):
        starts = range(0, count, ROWS)
        for done, made in enumerate(ordered_map(compare, starts, cores()), 1):
            found += made
            report(min(done * ROWS, count), count)
    return found


def _root(parent, i: int) -> int:
    """The first image of i's group (union-find with path halving, Tarjan & van Leeuwen 1984)."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return int(i)


def _with_structure(greys, rows) -> np.ndarray:
    """The images that are not nearly of one grey, and could be read."""
    chunks = [rows[at : at + 1024] for at in range(0, len(rows), 1024)]
    kept = [chunk[greys[chunk].std(axis=(1, 2), dtype=np.float32) >= FLAT] for chunk in chunks]
    return np.concatenate([rows[:0], *kept])


def _shrunk(greys, side) -> np.ndarray:
    """Means of square blocks: float32 (m, side * side)."""
    block = GREY_SIDE // side
    blocks = greys.reshape(len(greys), side, block, side, block)
    return blocks.mean((2, 4), dtype=np.float32).reshape(len(greys), -1)


def _unit(x) -> np.ndarray:
    """Rows with mean 0 and length 1, so that a product of two is their correlation."""
    x = x - x.mean(axis=1, keepdims=True)
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-6)


def _crops(grey) -> np.ndarray:
    """The fine detail of every crop of a grey picture: float32 (crops, FINE * FINE), rows of `_unit`."""
    cut, blurred, kept = _operators()
    return _detail(grey, cut, blurred)[kept]


def _whole(grey) -> np.ndarray:
    """The fine detail of a whole grey picture: float32 (1, FINE * FINE)."""
    cut, blurred, _ = _operators()
    return _detail(grey, cut[:FINE], blurred[:FINE])  # the first window cuts nothing


def _detail(grey, cut, blurred) -> np.ndarray:
    """Crops by all pairs of windows, less their blur: both are products with small matrices."""
    grey, count = grey.astype(np.float32), len(cut) // FINE
    x = cut @ grey @ cut.T - blurred @ grey @ blurred.T  # (count * FINE, count * FINE)
    x = x.reshape(count, FINE, count, FINE).transpose(0, 2, 1, 3)
    return _unit(x.reshape(count * count, FINE * FINE))


@lru_cache(maxsize=1)
def _operators():
    """Matrices (windows * FINE, GREY_SIDE) that cut one axis to each window and scale it to FINE, the
    same followed by a blur, and which pairs of windows keep enough of the area."""
    edges = np.arange(0, CUT + 1e-9, STEP)
    windows = [(a, 1 - b) for a in edges for b in edges if a + b <= CUT + 1e-9]
    cuts = [_cut(low, high) for low, high in windows]
    blur = _blur()
    lengths = np.array([high - low for low, high in windows])
    kept = np.flatnonzero((lengths[:, None] * lengths).ravel() >= AREA)
    return np.concatenate(cuts), np.concatenate([blur @ cut for cut in cuts]), kept


def _cut(low, high) -> np.ndarray:
    """Matrix (FINE, GREY_SIDE) that averages the part of an axis between two fractions of it."""
    edges = np.linspace(low, high, FINE + 1) * GREY_SIDE
    pixels = np.arange(GREY_SIDE)
    shared = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    return (np.clip(shared, 0, None) / np.diff(edges)[:, None]).astype(np.float32)


def _blur() -> np.ndarray:
    """Matrix (FINE, FINE) of a running mean over 2 BLUR + 1 pixels; the edge's pixel goes on outside."""
    near = np.clip(np.arange(FINE)[:, None] + np.arange(-BLUR, BLUR + 1), 0, FINE - 1)
    matrix = np.zeros((FINE, FINE), np.float32)
    np.add.at(matrix, (np.arange(FINE)[:, None], near), 1 / (2 * BLUR + 1))
    return matrix
