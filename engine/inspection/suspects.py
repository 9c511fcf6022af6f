"""Doubtful labels, outliers and a map of all images, from a backbone's features.

scikit-learn is imported inside the functions; a separate process calls them
(`engine.inspection.worker`). cleanlab (199 MB, 6 s to import), umap-learn (409 MB, 11 s) and
cleanvision (228 MB) were considered. The few of their functions that are needed are written here
with scikit-learn, which has the difficult parts (logistic regression, nearest neighbours, t-SNE).

Wrong labels: a classifier judges only images it was not fitted on, as in confident learning
(Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
70); `engine.inspection.label_noise` makes its answers a probability that a label is wrong.
Outliers: the local outlier factor (Breunig, Kriegel, Ng, Sander 2000, "LOF: Identifying
Density-Based Local Outliers", SIGMOD), compared with that of all images by the modified z-score
(Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers").
Map: t-SNE (van der Maaten and Hinton 2008, JMLR 9). Similar images are close together; distances
between groups, and the axes, have no meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from engine.host.background import Report
from engine.inspection import label_noise
from engine.predict import embedding

FOLDS = 5
DIMENSIONS = 256
"""Principal components for judging labels. On 30 draws of 600 flower photos with 10 wrong labels,
256 found 0.5 more of them among the first 30 than 128, and 500 found no more than 256."""
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Penalties of the classifier that are tried (scikit-learn's C). The best was 0.01 for photos, 0.1
to 0.3 for drawings."""
CHOOSING = 4000
"""Most images that the penalty is chosen on."""
NEAR = 128
"""The first of these components, for distances between images; t-SNE uses 50, as its authors do."""
FIT = 40_000
"""Most images that the classifier of one fold is fitted on, the same share of each class: four
fifths of 50,000. It limits time and memory for larger datasets."""
NEIGHBOURS = 20
"""Nearest images that an outlier score uses. With 17 foreign images among 600 flower photos, some
in threes, 10 found fewer (area under the curve 0.96 instead of 0.99) and 30 no more."""
SHOWN = 5
"""Nearest images in the results."""
REFERENCES = 50_000
"""Most images, randomly drawn, among which the nearest are searched. Above it, time grows in
proportion to the number of images, not to its square."""
ROBUST = 3.5
"""Modified z-score above which a value is an outlier (Iglewicz and Hoaglin 1993)."""
MAPPED = 3000
"""Most images that t-SNE places; the others are placed between the nearest of these."""
MAP_STEPS = 500
"""Of t-SNE, half its default: neighbours on the map were as often of the same class (77.7%)."""
MAP_ANGLE = 0.7
"""Of t-SNE's approximation, default 0.5: a quarter faster, and as many neighbours kept (41%)."""
CHUNK = 2048
"""Images whose features are processed at once."""


class Features(embedding.Features, Protocol):
    """What `analyse` uses of `engine.features.of_dataset.Features`."""

    missing: np.ndarray


def analyse(
    features: Features,
    labels: np.ndarray,
    classes: Sequence[str],
    report: Report,
    seed: int = 0,
    contents: np.ndarray | None = None,
) -> dict[str, Any]:
    """Judges every image of a dataset by its features.

    Args:
        features: of all n images.
        labels: int array (n,), indices into classes.
        classes: names.
        report: see `Report`; may raise to stop.
        seed: for the folds, the random draws and the map.
        contents: array (n,), a hash of each image's content. Copies of an image are in the same
            fold, and are not neighbours in its outlier score. None: there are no copies.

    Returns:
        A dict of arrays with a row for each image: given_probability (float32, 0 to 1, that of its
        label), suggested (int32, the most probable class), suggested_probability (float32), wrong
        (float32, 0 to 1, the probability that the label is wrong), outlier (float32, above 1 is an
        outlier), nearest (int32 (n, 5), rows of the nearest other images, copies included),
        projection (float32 (n, 2)); and accuracy (float, out of fold), rate (float, the estimated
        share of wrong labels) and noticed (float: of labels replaced at random, the share that
        would be suspect if 2% were), each NaN if no label could be judged.
        NaN or -1 if nothing is known: in all arrays for images without features; in
        given_probability, suggested, suggested_probability and wrong if all images of the class
        are in one fold, so that no classifier can know it.
    """
    labels, missing = np.asarray(labels, np.int64), np.asarray(features.missing, bool)
    there = np.flatnonzero(~missing)
    contents = np.arange(len(labels)) if contents is None else np.asarray(contents)
    copies = np.unique(contents[there], return_inverse=True)[1]
    with embedding.one_thread():
        values = embedding.reduce(features, there, DIMENSIONS, report)
    judged, facts = judge_labels(values, labels[there], copies, seed, report)
    near = values[:, :NEAR]
    nearest, outlier = _neighbours(near, copies, seed, report)
    found = judged | {
        "outlier": outlier,
        "nearest": np.where(nearest >= 0, there[nearest], -1).astype(np.int32),
        "projection": _map(near, seed, report),
    }
    whole = {name: _spread(rows, there, len(labels)) for name, rows in found.items()}
    known = whole["suggested"] >= 0
    right = whole["suggested"][known] == labels[known]
    accuracy = float(right.mean()) if len(right) else float("nan")
    return whole | facts | {"accuracy": accuracy}


def _spread(rows: np.ndarray, there: np.ndarray, count: int) -> np.ndarray:
    """The rows of images with features, placed among the rows of all images."""
    empty = {"f": np.nan, "i": -1, "b": False}[rows.dtype.kind]
    whole = np.full((count, *rows.shape[1:]), empty, rows.dtype)
    whole[there] = rows
    return whole


def judge_labels(
    values: np.ndarray, labels: np.ndarray, copies: np.ndarray, seed: int, report: Report
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The part of `analyse` that is about labels: (arrays, numbers of the whole dataset).

    Args:
        values: float32 array (n, d), principal components of `embedding.reduce`.
        labels, seed, report: as for `analyse`.
        copies: int array (n,), equal numbers for copies of an image.
    """
    folds = _folds(labels, copies, seed)
    classes = max(2, len(np.unique(labels)))
    given = np.full(len(labels), np.nan, np.float32)
    likely, suggested = given.copy(), np.full(len(labels), -1, np.int32)
    sharp = np.full((2, len(labels), len(label_noise.EXPONENTS)), np.nan, np.float32)
    strength = _strength(values, labels, folds, seed, report)
    for fold in range(FOLDS):
        report("Checking the labels", fold, FOLDS)
        fitted = _drawn(np.flatnonzero(folds != fold), labels, seed)
        known = np.unique(labels[fitted])
        asked = np.flatnonzero((folds == fold) & np.isin(labels, known))
        if len(known) < 2:
            continue
        judge = embedding.classifier(values[fitted], labels[fitted], strength=strength)
        for place in range(0, len(asked), CHUNK):
            rows = asked[place : place + CHUNK]
            chances = judge.predict_proba(values[rows])
            own, best = np.searchsorted(known, labels[rows]), chances.argmax(axis=1)
            each = np.arange(len(rows))
            suggested[rows], likely[rows] = known[best], chances[each, best]
            given[rows] = chances[each, own]
            sharp[:, rows] = label_noise.sharpened(chances, own, classes)
    judged = np.isfinite(given)
    wrong, facts = given.copy(), {"rate": float("nan"), "noticed": float("nan")}
    if judged.any():
        place, rate = label_noise.estimate(sharp[0, judged], classes)
        wrong[judged] = label_noise.wrong(sharp[0, judged, place], rate, classes)
        facts = {"rate": rate, "noticed": float(sharp[1, judged, place].mean())}
    return {
        "given_probability": given,
        "suggested": suggested,
        "suggested_probability": likely,
        "wrong": wrong,
    }, facts


def _strength(
    values: np.ndarray, labels: np.ndarray, folds: np.ndarray, seed: int, report: Report
) -> float:
    """Of `STRENGTHS`, the one whose classifier gives the labels of the first fold the highest
    likelihood; measured on at most `CHOOSING` images."""
    rows = np.random.default_rng([seed, 4]).permutation(len(labels))[:CHOOSING]
    fitted, asked = rows[folds[rows] != 0], rows[folds[rows] == 0]
    known = np.unique(labels[fitted])
    asked = asked[np.isin(labels[asked], known)]
    if len(known) < 2 or not len(asked):
        return STRENGTHS[0]
    own, each = np.searchsorted(known, labels[asked]), np.arange(len(asked))
    best, least = STRENGTHS[0], np.inf
    for number, strength in enumerate(STRENGTHS):
        report("Choosing the classifier's penalty", number, len(STRENGTHS))
        judge = embedding.classifier(values[fitted], labels[fitted], strength=strength)
        chances = judge.predict_proba(values[asked])[each, own]
        loss = -np.log(np.maximum(chances, 1e-9)).mean()
        if loss >= least:  # from here on it memorizes
            break
        best, least = strength, loss
    return best


def _folds(labels: np.ndarray, copies: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each image, int64 array (n,): classes evenly divided, copies together."""
    first, inverse = np.unique(copies, return_index=True, return_inverse=True)[1:]
    order = np.random.default_rng(seed).permutation(len(first))
    # Class by class, shuffled within each class; the folds take turns.
    order = order[np.argsort(labels[first[order]], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % FOLDS
    return fold[inverse]


def _drawn(rows: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """At most about FIT of the rows: the same share of each class, but at least 10 if it has 10."""
    if len(rows) <= FIT:
        return rows
    rows = rows[np.random.default_rng([seed, 1]).permutation(len(rows))]
    rows = rows[np.argsort(labels[rows], kind="stable")]
    starts = np.searchsorted(labels[rows], labels[rows])  # where the class of each row starts
    place = np.arange(len(rows)) - starts
    sizes = np.bincount(labels[rows])[labels[rows]]
    return rows[place < np.maximum(10, sizes * FIT / len(rows))]


def _neighbours(
    values: np.ndarray, copies: np.ndarray, seed: int, report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other images, int64 array (n, SHOWN), -1 for none; and outlier scores."""
    from sklearn.neighbors import NearestNeighbors

    count = len(values)
    chosen = np.arange(count)
    if count > REFERENCES:
        chosen = np.sort(np.random.default_rng([seed, 2]).permutation(count)[:REFERENCES])
    asked = min(NEIGHBOURS + SHOWN + 1, len(chosen))
    search = NearestNeighbors(n_neighbors=asked, algorithm="brute").fit(values[chosen])
    nearest = np.full((count, SHOWN), -1, np.int64)
    others = np.full((count, NEIGHBOURS), -1, np.int64)
    distances = np.full((count, NEIGHBOURS), np.nan, np.float32)
    for place in range(0, count, CHUNK):
        report("Finding the nearest images", place, count)
        rows = np.arange(place, min(place + CHUNK, count))
        far, found = search.kneighbors(values[rows])
        found = chosen[found]
        _keep(nearest, rows, found, found != rows[:, None])
        apart = copies[found] != copies[rows][:, None]
        _keep(others, rows, found, apart)
        _keep(distances, rows, far, apart)
    report("Finding the nearest images", count, count)
    return nearest, _scores(_local_outlier_factors(others, distances))


def _keep(table: np.ndarray, rows: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> None:
    """Writes the first wanted values into each row of a table, as many as fit."""
    order = np.argsort(~wanted, axis=1, kind="stable")[:, : table.shape[1]]
    kept = np.take_along_axis(wanted, order, axis=1)
    taken = np.take_along_axis(values, order, axis=1)
    part = table[rows, : order.shape[1]]
    table[rows, : order.shape[1]] = np.where(kept, taken, part)


def _local_outlier_factors(others: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The density around each image's neighbours relative to its own, float64 array (n,).

    Args:
        others: int64 array (n, k), nearest images that are not copies, -1 for none.
        distances: float32 array (n, k), to them.
    """
    there = others >= 0
    number = there.sum(axis=1)
    last = np.maximum(number - 1, 0)[:, None]
    reach = np.take_along_axis(distances, last, axis=1)[:, 0]
    # Reachability: inside a neighbour's own neighbourhood all distances count as equal (Breunig et
    # al., definition 5).
    sparse = np.where(there, np.maximum(distances, reach[others]), 0).sum(axis=1, dtype=float)
    sparse = np.maximum(sparse / np.maximum(number, 1), 1e-9)
    around = np.where(there, 1 / sparse[others], 0).sum(axis=1) / np.maximum(number, 1)
    return np.where(number > 0, sparse * around, np.nan)


def _scores(factors: np.ndarray) -> np.ndarray:
    """Modified z-scores of the factors' logarithms, since a factor is a ratio, divided by `ROBUST`.

    float32 array (n,). If more than half of the values are equal, the mean absolute deviation
    replaces the median one, scaled so that both agree for a normal distribution.
    """
    known = np.isfinite(factors)
    scores = np.full(len(factors), np.nan, np.float32)
    if not known.any():
        return scores
    logs = np.log(factors[known])
    away = logs - np.median(logs)
    spread = np.median(np.abs(away)) / 0.6745
    if spread < 1e-9:
        spread = 1.2533 * np.mean(np.abs(away))
    scores[known] = away / spread / ROBUST if spread > 1e-9 else 0
    return scores


def _map(values: np.ndarray, seed: int, report: Report) -> np.ndarray:
    """Places in the plane, float32 array (n, 2).

    t-SNE places at most MAPPED images, randomly drawn. Each other image is at the mean of the three
    of them that are nearest in feature space, weighted by their inverse squared distance; so it may
    look a little closer to the middle of its group than it is.
    """
    from sklearn.neighbors import NearestNeighbors

    count = len(values)
    chosen = np.arange(count)
    if count > MAPPED:
        chosen = np.sort(np.random.default_rng([seed, 3]).permutation(count)[:MAPPED])
    report("Drawing the map", 0, count)
    drawn = _tsne(values[chosen], seed)
    if count <= MAPPED:
        report("Drawing the map", count, count)
        return drawn
    places = np.empty((count, 2), np.float32)
    search = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(values[chosen])
    for place in range(0, count, CHUNK):
        far, found = search.kneighbors(values[place : place + CHUNK])
        weights = 1 / np.maximum(far, 1e-6) ** 2
        weights /= weights.sum(axis=1, keepdims=True)
        places[place : place + CHUNK] = (drawn[found] * weights[:, :, None]).sum(axis=1)
        report("Drawing the map", min(place + CHUNK, count), count)
    places[chosen] = drawn
    return places


def _tsne(values: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE, started from the first two principal components, which makes it repeatable."""
    from sklearn.manifold import TSNE

    start = np.zeros((len(values), 2), np.float32)
    start[:, : min(2, values.shape[1])] = values[:, :2]
    spread = start[:, 0].std()
    if len(values) < 5 or spread == 0:  # nothing to arrange
        return start
    method = TSNE(
        init=start / spread * 1e-4,
        # Its default of 30 neighbours needs more than 90 images (van der Maaten's rule).
        perplexity=min(30, (len(values) - 1) / 3),
        max_iter=MAP_STEPS,
        angle=MAP_ANGLE,
        random_state=seed,
    )
    with embedding.one_thread():
        return method.fit_transform(values[:, :50]).astype(np.float32)
