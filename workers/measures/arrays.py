"""The arrays that every measure takes, and the one way in which a measure may not exist."""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
"""(N,) float64, finite; higher speaks for the finding."""

Truth = NDArray[np.bool_]
"""(N,) whether the finding is there."""

Hits = NDArray[np.bool_]
"""(N,) whether something was right."""

Clusters = NDArray[np.integer]
"""(N,) the number of each row's patient, 0 or more; any numbers, in any order."""


class Undefined(ValueError):  # noqa: N818 - named for what the caller reports
    """A figure that these data do not define, as an area where one class is missing."""


def two_classes(truth: Truth) -> None:
    """Check that there are positives and negatives.

    Raises
    ------
    Undefined
        If there is one class only.
    """
    positives = int(truth.sum())
    if not positives:
        raise Undefined("there is no positive")
    if positives == len(truth):
        raise Undefined("there is no negative")


def distinct(cluster: Clusters) -> int:
    """Return how many patients there are among these rows."""
    return int(np.count_nonzero(np.bincount(cluster)))


def sums(values: Scores, cluster: Clusters, size: int) -> Scores:
    """Return the sum of `values` (N,) by patient, (size,)."""
    total = np.bincount(cluster, weights=values, minlength=size)
    return total.astype(np.float64, copy=False)
