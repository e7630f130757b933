"""Linear heads on frozen embeddings: logistic regression by Newton's method."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers.demo.samples import Samples

_ITERATIONS = 30
_RIDGE = 1.0


def fit_head(
    embeddings: NDArray[np.float32], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """Return weight (D,) and bias of the ridge-penalised logistic regression.

    Both labels weigh the same, however many there are of each. Deterministic.
    """
    x = np.c_[embeddings.astype(np.float64), np.ones(len(embeddings))]
    share = labels.mean()
    weight = np.where(labels, 0.5 / share, 0.5 / (1 - share))
    penalty = np.full(x.shape[1], _RIDGE)
    penalty[-1] = 1e-6
    theta = np.zeros(x.shape[1])
    for _ in range(_ITERATIONS):
        p = sigmoid(x @ theta)
        gradient = x.T @ (weight * (p - labels)) + penalty * theta
        hessian = (x.T * (weight * p * (1 - p) + 1e-9)) @ x + np.diag(penalty)
        theta -= np.linalg.solve(hessian, gradient)
    return theta[:-1], float(theta[-1])


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)), safe for any x."""
    score: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
    return score


def by_study(
    scores: NDArray[np.float64], samples: Samples, studies: Sequence[int]
) -> NDArray[np.float64]:
    """Return the highest score of each study's images."""
    highest = np.full(len(samples.kinds), -np.inf)
    np.maximum.at(highest, samples.study, scores)
    chosen: NDArray[np.float64] = highest[np.asarray(studies)]
    return chosen
