"""Whether a batch of images is of the same kind as those the run was validated on, in plain words.

Heavy: SciPy, in its functions; the process of a batch calls it. The held-out validation images stand for the
training data: a network's features of the very images it was fitted on are unlike those of any others.

Five questions, each with a p-value, corrected together (Holm 1979, "A Simple Sequentially Rejective Multiple
Test Procedure", Scandinavian Journal of Statistics):

- what the network sees: maximum mean discrepancy of the pooled features, with a Gaussian kernel of the median
  distance and a permutation test (Gretton, Borgwardt, Rasch, Schölkopf, Smola 2012, "A Kernel Two-Sample Test",
  JMLR 13);
- brightness, sharpness, size: Kolmogorov-Smirnov;
- class mix, by the answers: chi-square.
"""

import numpy as np

LEAST = 30
"""Images below which nothing is said: a test of so few finds only the grossest difference."""
MOST = 500
"""Images of each side that features are compared by, evenly drawn."""
PERMUTATIONS = 2000
LEVEL = 0.01
"""Corrected p-value below which a difference is told: one batch in a hundred that is of the same kind is
told all the same."""
WORDS = {
    "features": "what the network sees in the images",
    "brightness": "brightness",
    "sharpness": "sharpness",
    "size": "size",
    "classes": "mix of classes",
}


def judge(known, features, probabilities, measured, seed=0) -> dict:
    """Compares a batch with the validation images of a run.

    Args:
        known: the run's `reference.Reference`.
        features: float array (n, width), normalised pooled features of the batch.
        probabilities: float array (n, classes).
        measured: {name of `reference.MEASURES`: float array (n,)}.
        seed: of the permutations.

    Returns:
        Plain data: n; validation (images compared with); drifted, whether any difference is told; text,
        one sentence; tests, {name of `WORDS`: dict of p (corrected, 0 to 1), differs, before and after
        (medians, or {class: share}; None for features), text}.

    Raises:
        ValueError: for fewer than `LEAST` images on either side.
    """
    from scipy import stats

    own = known.rows("validation")
    if min(len(features), len(own)) < LEAST:
        raise ValueError(f"drift needs {LEAST} images on either side")
    rows = {"features": [discrepancy(known.features[own], features, seed), None, None]}
    before = {name: values[own] for name, values in known.measures.items()}
    for name in ("brightness", "sharpness", "size"):
        first, second = _values(name, before), _values(name, measured)
        p = stats.ks_2samp(first, second).pvalue
        rows[name] = [float(p), float(np.median(first)), float(np.median(second))]
    counts = np.array(
        [
            np.bincount(chosen.argmax(axis=1), minlength=len(known.classes))
            for chosen in (known.probabilities[own], np.asarray(probabilities))
        ]
    )
    p = stats.chi2_contingency(table).pvalue if (table := pooled(counts)).shape[1] > 1 else 1.0
    shares = counts / counts.sum(axis=1, keepdims=True)
    rows["classes"] = [
        float(p),
        *(dict(zip(known.classes, s.tolist(), strict=True)) for s in shares),
    ]
    corrected = holm([row[0] for row in rows.values()])
    tests = {}
    for (name, (_, old, new)), p in zip(rows.items(), corrected, strict=True):
        tests[name] = {"p": p, "differs": p < LEVEL, "before": old, "after": new}
        tests[name]["text"] = _sentence(name, tests[name])
    different = [WORDS[name] for name, test in tests.items() if test["differs"]]
    text = "These images are like the ones the run was validated on, as far as five tests can tell."
    if different:
        listed = ", ".join(different[:-1]) + (" and " if different[1:] else "") + different[-1]
        text = (
            f"These images are not like the ones the run was validated on: they differ in {listed}, so its "
            "test accuracy does not hold for them."
        )
        if different == [WORDS["classes"]]:
            text = "The images look the same, but the mix of classes is another one."
    return {
        "n": len(features),
        "validation": len(own),
        "drifted": bool(different),
        "text": text,
        "tests": tests,
    }


def pooled(counts) -> np.ndarray:
    """Counts whose columns all expect five or more, as the chi-square needs them (Cochran 1954, "Some Methods
    for Strengthening the Common Chi-Square Tests", Biometrics 10): rarer classes are one column.

    Args:
        counts: int array (2, classes).
    """
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    rest = counts[:, expected < 5].sum(axis=1, keepdims=True)
    kept = np.concatenate([counts[:, expected >= 5], rest], axis=1)
    return kept[:, kept.sum(axis=0) > 0]


def _values(name, measured) -> np.ndarray:
    """A measure; size is the side of a square of as many pixels."""
    if name == "size":
        return np.sqrt(np.asarray(measured["width"], float) * measured["height"])
    return np.asarray(measured[name], float)


def _sentence(name, test) -> str:
    """One test in plain words."""
    if name == "features":
        end = "differs from the validation images" if test["differs"] else "is of the same kind"
        return f"What the network sees {end}."
    old, new = test["before"], test["after"]
    if name == "classes":
        label = max(old, key=lambda c: abs(new[c] - old[c]))
        if not test["differs"]:
            return "Classes are answered as often as on the validation images."
        more = "more" if new[label] > old[label] else "less"
        return f"{label} is answered {more} often: {new[label]:.0%} against {old[label]:.0%}."
    if not test["differs"]:
        return f"Of the same {name}."
    more = {
        "brightness": ("brighter", "darker", "", " of 255"),
        "sharpness": ("sharper", "more blurred", "", ""),
        "size": ("larger", "smaller", "", " pixels square"),
    }[name]
    word = more[0] if new > old else more[1]
    if abs(new - old) < 0.01 * abs(old):
        return f"The {name} is spread in another way (median {new:.0f}{more[3]} both times)."
    return f"Mostly {word}: median {new:.0f} against {old:.0f}{more[3]}."


def holm(values) -> list[float]:
    """Holm's correction of p-values, in their order."""
    order, highest = np.argsort(values), 0.0
    corrected = [0.0] * len(values)
    for place, i in enumerate(order.tolist()):
        highest = max(highest, min(1.0, values[i] * (len(values) - place)))
        corrected[i] = float(highest)
    return corrected


def discrepancy(first, second, seed=0) -> float:
    """p-value of the kernel two-sample test: how often a random division of all images into two such
    groups differs as much as these.

    Args:
        first, second: float arrays (n, width), (m, width).
        seed: of the permutations.

    Returns:
        Between 1 / (`PERMUTATIONS` + 1) and 1.
    """
    groups = [
        np.asarray(values, np.float32)[_evenly(len(values), MOST)] for values in (first, second)
    ]
    n, m = map(len, groups)
    both = np.concatenate(groups)
    squares = (both**2).sum(axis=1)
    apart = np.maximum(0, squares[:, None] + squares[None] - 2 * both @ both.T)
    middle = np.median(apart[np.triu_indices(n + m, 1)])
    kernel = np.exp(-apart / max(float(middle), 1e-12))
    np.fill_diagonal(kernel, 0)
    random = np.random.default_rng(seed)
    # A column for each division: 1 where an image belongs to the first group; the true one comes first.
    member = np.zeros((n + m, PERMUTATIONS + 1), np.float32)
    member[:n, 0] = 1
    for column in range(1, PERMUTATIONS + 1):
        member[random.permutation(n + m)[:n], column] = 1
    towards = kernel @ member
    inside = (member * towards).sum(axis=0, dtype=np.float64)
    across = towards.sum(axis=0, dtype=np.float64) - inside
    outside = kernel.sum(dtype=np.float64) - inside - 2 * across
    values = inside / (n * (n - 1)) + outside / (m * (m - 1)) - 2 * across / (n * m)
    # Equal but for rounding counts as equal.
    return float((values[1:] >= values[0] - 1e-9).sum() + 1) / (PERMUTATIONS + 1)


def _evenly(count, most) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
