"""Logistic regression on frozen embeddings, with an L2 penalty."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from workers.fitting.fitted import Fitted
from workers.fitting.samples import Floats, Training

GRID = tuple({"C": c} for c in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0))
"""From the most timid to the boldest, for standardised embeddings."""

_NARROW = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaled:
    """Embeddings standardised by dimension: (N, D) float64, and how.

    A dimension that does not vary is left as it is.
    """

    rows: Floats
    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> "Scaled":
        """Return them, standardised by their own mean and standard deviation."""
        rows = vectors.astype(np.float64)
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(scale < _NARROW, 1.0, scale)
        return cls(rows=(rows - mean) / scale, mean=mean, scale=scale)


def fits(training: Training, grid: Sequence[Mapping[str, Any]]) -> Iterator[Fitted]:
    """Yield a head for each penalty; the standardisation is folded into its numbers.

    A penalised solution lies in the span of the data, so with fewer items than
    dimensions it is found there, exactly, in a fraction of the time.
    """
    scaled = Scaled.of(training.vectors)
    basis = np.eye(scaled.rows.shape[1])
    if len(scaled.rows) < len(basis):
        basis = np.linalg.svd(scaled.rows, full_matrices=False)[2].T
    rows = scaled.rows @ basis
    for parameters in grid:
        model = LogisticRegression(
            C=parameters["C"], solver="newton-cholesky", max_iter=100
        ).fit(rows, training.present, sample_weight=training.weights)
        weight = basis @ model.coef_[0] / scaled.scale
        bias = model.intercept_ - weight @ scaled.mean
        tensors = {
            "weight": weight.astype(np.float32),
            "bias": bias.astype(np.float32),
        }
        yield Fitted(kind="linear", tensors=tensors)
