"""Linear heads on embeddings of altered views: logistic regression, classes balanced."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

PENALTY: Final = 10.0
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


def fit_ordinary(states: NDArray[np.float32]) -> LogisticRegression:
    """Return a head that tells images as they should be from those in wrong states.

    Parameters
    ----------
    states
        (S, N, D); the first state is the one that images should be in.
    """
    ordinary = np.zeros(states.shape[:2], np.int8)
    ordinary[0] = 1
    return fit_linear(states.reshape(1, -1, states.shape[2]), ordinary.ravel())
