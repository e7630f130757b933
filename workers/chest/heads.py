"""Linear heads on embeddings of altered views: logistic regression, classes balanced."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

PENALTY: Final = 1.0
"""Inverse strength; embeddings have length one."""


def fit_linear(
    views: NDArray[np.float32], labels: NDArray[np.int8]
) -> LogisticRegression:
    """Return a head that has seen V views of each of N images.

    Parameters
    ----------
    views
        (V, N, D), embeddings of length one.
    labels
        (N,), 1 or 0.
    """
    count, _, width = views.shape
    head = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=2000)
    return head.fit(views.reshape(-1, width), np.tile(labels, count))
