"""Pairs of near copies: the same image resized, re-encoded, slightly cropped, or in other tones.

Three steps over small grey images. *Candidates* are pairs with a similar coarse distribution of
light: a correlation of 8 x 8 grey above `CANDIDATE`. Each is *aligned*: every way to crop one of
the two by at most `CUT` of its width and height is compared with the other at 32 x 32, and the fine
detail (what a blur of 7 x 7 removes) must correlate above `SAME` for one of them (normalised
cross-correlation, Lewis 1995). Then it is *verified* part by part, since a common banner or frame
may correlate that high by itself: of 4 x 4 blocks, all that have detail must agree, except for one.

Measured on different images with something in common (60 photos or drawings: 1,770 pairs; 40 of the
others: 780 pairs), and on altered copies of 250 photos of tf_flowers and of 60 drawings, all scaled
by 0.4 to 1.5 and encoded with quality 35 to 90:

    pairs reported as copies               without blocks   with them
    photos / drawings in one frame              219 / 222       0 / 0
    banner of 10% to 40% of the height                  4           0
    floor tiles with the same joints                  780           0
    plain pictures under one banner                   615          69    of nearly the same grey
    scanned forms, other writing                        6           6
    brick, cloth: the same up to noise                159         152

    recall, photos / drawings              without blocks   with them
    scaled and encoded                      1.000 / 1.000   1.000 / 1.000
    95% of the area                         1.000 / 1.000   1.000 / 0.983
    90% of the area                         0.992 / 1.000   0.988 / 0.983
    85% of the area                         0.692 / 0.700   0.652 / 0.650
    brightness 0.75 to 1.3                  1.000 / 1.000   0.996 / 1.000
    contrast 0.7 to 1.4                     1.000 / 1.000   0.996 / 1.000
    gamma 0.4 to 2.5                        0.996 / 1.000   0.988 / 1.000

None of these copies was reported as one of another image. Among the 3,458 photos it finds 28 pairs,
the same as without blocks, each looked at and true. Mirrored copies, and copies with a frame or
text on them, are not found.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits

from engine.host.background import Report
from engine.host.parallel import cores, ordered_map
from engine.images.measures import GREY_SIDE

CANDIDATE = 0.75
"""Correlation of 8 x 8 grey; at 0.70 there are twice the candidates for 0.2% more copies."""
SAME = 0.85
CUT, STEP, AREA = 0.1, 0.025, 0.88
"""Crops that are tried: at most `CUT` of a side, in steps of `STEP`, with `AREA` of the image."""
MOST = 400
"""Candidates of an image that are verified, the most similar first: a limit for datasets in which
all images look alike."""
FLAT = 4.0
"""Deviation of grey (0 to 255) below which an image has no detail: only noise would be compared."""
ROUGH, FINE, BLUR, BLOCKS = 8, 32, 3, 4
AGREE = 0.5
"""Correlation of detail above which two blocks agree. Different blocks of 64 pixels seldom reach
it (their deviation is 0.18); those of copies are at 0.8 and above, nearly all."""
DETAIL = 3.0
"""Deviation of a block's detail (0 to 255) below which it is only the noise of re-encoding."""
LEVEL = 8.0
"""Largest difference of the mean grey (0 to 255) of two blocks without detail. It is asked for only
if most blocks have none: otherwise the other blocks are evidence enough, whatever the tones."""
ROWS = 64
"""Images compared with all others at once: 64 x 50,000 correlations take 13 MB."""


def pairs(
    greys: np.ndarray, rows: np.ndarray, generations: np.ndarray, report: Report
) -> dict[tuple[int, int], float]:
    """Verified pairs among some images.

    Args:
        greys: uint8 array (n, 64, 64), may be memory-mapped.
        rows: int array (m,), the images to compare.
        generations: int array (m,), of these images.
        report: see `Report`.

    Returns:
        {(a, b): correlation of detail above `SAME`}, places in rows with a < b.
    """
    images = _Images(greys, rows, generations)
    found: dict[tuple[int, int], float] = {}
    # One BLAS thread for each of the small products: the images are divided among threads instead.
    with threadpool_limits(1, user_api="blas"):
        starts = range(0, len(images.place), ROWS)
        for done, made in enumerate(ordered_map(images.compare, starts, cores()), 1):
            for a, b, score in made:
                pair = (min(a, b), max(a, b))
                found[pair] = max(score, found.get(pair, 0.0))
            report("Looking for copies", min(done * ROWS, len(images.place)), len(images.place))
    return found


class _Images:
    """Images with structure, and what is compared of each.

    Attributes:
        place: int array (m,), where each is among the rows given.
        rough: float32 array (m, 64), by `_unit`.
        fine: int8 array (m, 1024), detail divided by `scale`: exact to 0.002, a quarter of the size
            of float32; its length is 1.
        length: float32 array (m,), the detail's length in grey levels.
        levels: float32 array (m, 16), mean grey of each block.
    """

    def __init__(self, greys: np.ndarray, rows: np.ndarray, generations: np.ndarray) -> None:
        self.greys = greys
        chunks = [np.arange(at, min(at + 1024, len(rows))) for at in range(0, len(rows), 1024)]
        kept = [c[greys[rows[c]].std(axis=(1, 2), dtype=np.float32) >= FLAT] for c in chunks]
        self.place = np.concatenate([np.zeros(0, np.int64), *kept])
        self.rows, self.generations = rows[self.place], generations[self.place]
        count = len(self.place)
        self.rough = np.empty((count, ROUGH * ROUGH), np.float32)
        self.fine = np.empty((count, FINE * FINE), np.int8)
        self.scale, self.length = np.empty((2, count), np.float32)
        self.levels = np.empty((count, BLOCKS * BLOCKS), np.float32)
        cut, blurred, _ = _operators()
        for i, row in enumerate(self.rows.tolist()):
            image = greys[row].astype(np.float32)
            self.rough[i] = _unit(_means(image, ROUGH)[None])[0][0]
            self.levels[i] = _means(image, BLOCKS)
            # The first window is the whole axis.
            detail, length = _unit(_detail(image, cut[:FINE], blurred[:FINE]))
            largest = max(float(np.abs(detail).max()), 1e-6)
            self.fine[i] = np.rint(detail[0] * (127 / largest))
            self.scale[i], self.length[i] = largest / 127, length[0]

    def compare(self, at: int) -> list[tuple[int, int, float]]:
        """(place, place, correlation) of the pairs of `ROWS` images from `at` on with all."""
        made = []
        for i, alike in enumerate(self.rough[at : at + ROWS] @ self.rough.T, at):
            candidates = self._candidates(i, alike)
            if not len(candidates):
                continue
            cut, blurred, kept = _operators()
            image = self.greys[self.rows[i]].astype(np.float32)
            crops, lengths = _unit(_detail(image, cut, blurred)[kept])
            others = self.fine[candidates].astype(np.float32) * self.scale[candidates, None]
            scores = crops @ others.T
            best = scores.argmax(axis=0)
            passed = np.flatnonzero(scores.max(axis=0) > SAME)
            if not len(passed):
                continue
            best, others, candidates = best[passed], others[passed], candidates[passed]
            same = _blocks_agree(
                crops[best] * lengths[best, None],
                others * self.length[candidates, None],
                self._levels_of_crops(image)[best] - self.levels[candidates],
            )
            for k in np.flatnonzero(same).tolist():
                score = float(scores[best[k], passed[k]])
                made.append((int(self.place[i]), int(self.place[candidates[k]]), score))
        return made

    def _candidates(self, i: int, alike: np.ndarray) -> np.ndarray:
        """The images that are verified, at most `MOST` of each generation: those that are added
        later must not take the place of earlier ones."""
        found = np.flatnonzero(alike > CANDIDATE)
        found = found[found != i]
        if len(found) <= MOST:
            return found
        found = found[np.argsort(-alike[found], kind="stable")]
        ages = self.generations[found]
        return np.concatenate([found[ages == age][:MOST] for age in np.unique(ages)])

    @staticmethod
    def _levels_of_crops(image: np.ndarray) -> np.ndarray:
        """The mean grey of each block of each crop: float32 (crops, 16)."""
        means, kept = _block_operator()
        x = means @ image @ means.T
        count = len(means) // BLOCKS
        x = x.reshape(count, BLOCKS, count, BLOCKS).transpose(0, 2, 1, 3)
        return x.reshape(count * count, BLOCKS * BLOCKS)[kept]


def _blocks_agree(a: np.ndarray, b: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Whether aligned images agree in all blocks but one.

    Args:
        a, b: float arrays (m, 1024), detail in grey levels.
        levels: float array (m, 16), differences of the blocks' mean grey.

    Returns:
        bool array (m,).
    """
    side = FINE // BLOCKS

    def blocks(x: np.ndarray) -> np.ndarray:
        x = x.reshape(-1, BLOCKS, side, BLOCKS, side).transpose(0, 1, 3, 2, 4)
        x = x.reshape(len(x), BLOCKS * BLOCKS, side * side)
        return x - x.mean(axis=2, keepdims=True)

    a, b = blocks(a), blocks(b)
    spread_a, spread_b = a.std(axis=2), b.std(axis=2)
    detailed = np.maximum(spread_a, spread_b) > DETAIL
    agree = (a * b).mean(axis=2) > AGREE * spread_a * spread_b
    wrong = (detailed & ~agree).sum(axis=1)
    plain = detailed.sum(axis=1) <= BLOCKS * BLOCKS // 2
    wrong += plain * (~detailed & (np.abs(levels) > LEVEL)).sum(axis=1)
    return wrong <= 1


def _means(image: np.ndarray, side: int) -> np.ndarray:
    """Means of side x side blocks of a grey image: float32 (side * side)."""
    block = GREY_SIDE // side
    return image.reshape(side, block, side, block).mean((1, 3), dtype=np.float32).ravel()


def _unit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with mean 0 and length 1, so that the product of two is their correlation; and the
    lengths they had."""
    x = x - x.mean(axis=1, keepdims=True)
    length = np.linalg.norm(x, axis=1)
    return x / (length[:, None] + 1e-6), length


def _detail(image: np.ndarray, cut: np.ndarray, blurred: np.ndarray) -> np.ndarray:
    """Crops by all pairs of windows, minus their blur, both as products with small matrices:
    float32 (crops, 1024)."""
    count = len(cut) // FINE
    x = cut @ image @ cut.T - blurred @ image @ blurred.T  # (count * FINE, count * FINE)
    x = x.reshape(count, FINE, count, FINE).transpose(0, 2, 1, 3)
    return x.reshape(count * count, FINE * FINE)


def _windows() -> list[tuple[float, float]]:
    """The parts of an axis that a crop may keep, as fractions; the first is the whole axis."""
    edges = np.arange(0, CUT + 1e-9, STEP)
    return [(a, 1 - b) for a in edges for b in edges if a + b <= CUT + 1e-9]


@lru_cache(maxsize=1)
def _operators() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices (windows * FINE, GREY_SIDE) that cut one axis to each window and scale it to FINE;
    the same followed by a blur; and the pairs of windows that keep enough of the area."""
    cuts = [_cut(*window, FINE) for window in _windows()]
    blur = _blur()
    lengths = np.array([high - low for low, high in _windows()])
    kept = np.flatnonzero((lengths[:, None] * lengths).ravel() >= AREA)
    return np.concatenate(cuts), np.concatenate([blur @ cut for cut in cuts]), kept


@lru_cache(maxsize=1)
def _block_operator() -> tuple[np.ndarray, np.ndarray]:
    """The matrix (windows * BLOCKS, GREY_SIDE) of the means of each window's blocks, and `kept` of
    `_operators`."""
    return np.concatenate([_cut(*window, BLOCKS) for window in _windows()]), _operators()[2]


def _cut(low: float, high: float, count: int) -> np.ndarray:
    """Matrix (count, GREY_SIDE) that averages the part of an axis between two fractions of it."""
    edges = np.linspace(low, high, count + 1) * GREY_SIDE
    pixels = np.arange(GREY_SIDE)
    shared = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    return (np.clip(shared, 0, None) / np.diff(edges)[:, None]).astype(np.float32)


def _blur() -> np.ndarray:
    """Matrix (FINE, FINE) of a running mean over 2 BLUR + 1 pixels; edge pixels are repeated."""
    near = np.clip(np.arange(FINE)[:, None] + np.arange(-BLUR, BLUR + 1), 0, FINE - 1)
    matrix = np.zeros((FINE, FINE), np.float32)
    np.add.at(matrix, (np.arange(FINE)[:, None], near), 1 / (2 * BLUR + 1))
    return matrix
