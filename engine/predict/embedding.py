"""Fewer numbers for each image: a backbone's features normalised and turned onto their main axes; and the
linear classifier that is fitted on them.

Heavy: SciPy and scikit-learn, in its functions. Features are read in chunks, so beside the result
(4 bytes x dimensions an image) the memory does not depend on the number of images.
"""

import numpy as np

CHUNK = 1024
"""Images whose features are in memory at once."""
STRENGTH = 0.01
"""Inverse strength of the L2 penalty, scikit-learn's C, for values of mean square 1. On 3,458 flower
photos of which 3 % were given a wrong label, 0.003 to 0.01 had the smallest out-of-fold loss and ranked
the wrong labels highest; from 0.1 on the classifier learnt them by heart."""
STEPS = 200
"""Most iterations of L-BFGS; it took 20 to 60."""


def normalised(values) -> np.ndarray:
    """Power and L2 normalisation: signed square roots, then unit length (Perronnin, Sanchez, Mensink 2010,
    "Improving the Fisher Kernel for Large-Scale Image Classification", ECCV, section 3).

    A few large features no longer decide how alike two images are. Standardised instead, black frames,
    noise, text and charts among 600 flower photos stood out less (area under the curve of the local
    outlier factor 0.91, and 0.99 so).

    Args:
        values: float32 array (m, width).
    """
    roots = np.sign(values) * np.sqrt(np.abs(values))
    return roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-12)


def reduce(features, rows, dimensions: int, report) -> np.ndarray:
    """Principal components of normalised features, exact: from their covariance, which chunks add up to.
    (IncrementalPCA approximates it, at a singular value decomposition for each chunk.)

    Args:
        features: see `engine.features.of_dataset.Features`; `read` and `width` are used.
        rows: int array (m,), images that have features.
        dimensions: at most so many components.
        report: called with (text, done, total); may raise to stop.

    Returns:
        float32 array (m, d), d the smallest of dimensions, m - 1 (but 1 or more) and the width, the
        largest component first; scaled so that the mean square of all values is 1, which keeps
        penalties comparable between backbones.
    """
    from scipy import linalg

    text = "Finding what the images have in common"
    parts = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
    total, done = 3 * len(parts), 0
    mean = np.zeros(features.width)
    for part in parts:
        mean += normalised(features.read(part)).sum(axis=0, dtype=np.float64) / len(rows)
        report(text, done := done + 1, total)
    mean = mean.astype(np.float32)
    covariance = np.zeros((features.width, features.width))
    for part in parts:
        values = normalised(features.read(part)) - mean
        covariance += values.T @ values
        report(text, done := done + 1, total)
    count = max(1, min(dimensions, len(rows) - 1, features.width))
    span = (features.width - count, features.width - 1)
    axes = linalg.eigh(covariance, subset_by_index=span, check_finite=False)[1][:, ::-1]
    # The sign of an axis is arbitrary: its largest part is made positive.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(count)]
    axes = (axes * np.where(largest < 0, -1, 1)).astype(np.float32)
    found = np.empty((len(rows), count), np.float32)
    for number, part in enumerate(parts):
        place = number * CHUNK
        found[place : place + len(part)] = (normalised(features.read(part)) - mean) @ axes
        report(text, done := done + 1, total)
    size = np.sqrt(np.mean(np.square(found), dtype=np.float64))
    return found / np.float32(size) if size > 0 else found


def classifier(values, labels, balanced: bool = False):
    """Multinomial logistic regression with an L2 penalty, fitted until it converges.

    Args:
        values: float32 array (m, d) of `reduce`.
        labels: int array (m,) of two or more classes.
        balanced: whether rare classes count for more, by m / (classes x images of the class).

    Returns:
        A fitted sklearn.linear_model.LogisticRegression. It has one optimum, so the same images give
        the same classifier.
    """
    from sklearn.linear_model import LogisticRegression

    made = LogisticRegression(
        C=STRENGTH, max_iter=STEPS, class_weight="balanced" if balanced else None
    )
    with one_thread():
        return made.fit(values, labels)


def one_thread():
    """A context in which linear algebra and OpenMP have one thread. For many small products in a row
    two wait for each other more than they help: with a run beside it on two cores, judging and mapping
    3,458 photos took 13 s with one, and 40 to 80 s with two."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)
