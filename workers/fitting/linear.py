"""Logistic regression on frozen embeddings, with an L2 penalty."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from workers.fitting.fitted import Fitted
from workers.fitting.samples import Floats, Training

GRID = tuple(
    {"C": c, "scaling": scaling}
    for c in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
    for scaling in ("dimension", "overall")
)
"""From the most timid to the boldest. Dimensions are scaled one by one, or all alike."""

_NARROW = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaled:
    """Embeddings about their mean, scaled: (N, D) float64, and how.

    A dimension that does not vary is left as it is.
    """

    rows: Floats
    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, vectors: NDArray[np.float32], scaling: str) -> "Scaled":
        """Return them, standardised by dimension, or all by the same number."""
        rows = vectors.astype(np.float64)
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        if scaling == "overall":
            scale = np.full_like(scale, np.sqrt((scale**2).mean()))
        scale = np.where(scale < _NARROW, 1.0, scale)
        return cls(rows=(rows - mean) / scale, mean=mean, scale=scale)


def fits(training: Training, grid: Sequence[Mapping[str, Any]]) -> Iterator[Fitted]:
    """Yield a head for each penalty; the standardisation is folded into its numbers.

    A penalised solution lies in the span of the data, so with fewer items than
    dimensions it is found there, exactly, in a fraction of the time.
    """
    spans = {}
    for parameters in grid:
        scaling = parameters["scaling"]
        if scaling not in spans:
            scaled = Scaled.of(training.vectors, scaling)
            spans[scaling] = scaled, span(scaled.rows)
        scaled, basis = spans[scaling]
        model = LogisticRegression(
            C=parameters["C"], solver="newton-cholesky", tol=1e-8
        )
        model.fit(scaled.rows @ basis, training.present, training.weights)
        weight = basis @ model.coef_[0] / scaled.scale
        bias = model.intercept_ - weight @ scaled.mean
        tensors = {
            "weight": weight.astype(np.float32),
            "bias": bias.astype(np.float32),
        }
        yield Fitted(kind="linear", tensors=tensors)


def span(rows: Floats) -> Floats:
    """Return an orthonormal basis (D, R) in which the rows (N, D) lie."""
    if len(rows) >= rows.shape[1]:
        return np.eye(rows.shape[1])
    basis: Floats = np.linalg.svd(rows, full_matrices=False)[2].T
    return basis
