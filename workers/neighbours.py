"""A value from labelled images nearby: weighted nearest neighbours in embedding space.

Pure, numpy only. The protocol is that of MedImageInsight's bone age benchmark: softmax
of temperature times cosine over all references, the k largest, equal values added up,
and the mean of the highest few values, weighted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent

_LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class References:
    """Labelled images: embeddings (N, D) float32 of length one, values (N,) float32.

    Raises
    ------
    Permanent
        If the arrays are others.
    """

    embeddings: NDArray[np.float32]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape, values = self.embeddings.shape, self.values.shape
        if len(shape) != 2 or values != shape[:1] or 0 in shape:  # noqa: PLR2004 - (N, D)
            raise Permanent(
                f"references need embeddings (N, D) and values (N,), "
                f"not {shape} and {values}"
            )
        lengths = np.linalg.norm(self.embeddings.astype(np.float64), axis=1)
        if not np.allclose(lengths, 1.0, atol=_LENGTH_TOLERANCE):
            raise Permanent("an embedding of the references does not have length one")
        if not np.isfinite(self.values).all():
            raise Permanent("a value of the references is no number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearby:
    """What the references nearby say.

    Parameters
    ----------
    value, spread
        In the references' unit: weighted mean and standard deviation of the values
        that all frames found.
    frames
        The value that each frame gave.
    """

    value: float
    spread: float
    frames: tuple[float, ...]


def nearby(
    references: References,
    vectors: NDArray[np.float32],
    *,
    k: int,
    values: int,
    temperature: float,
) -> Nearby:
    """Return the value of a study, of whose frames each has the same say.

    Parameters
    ----------
    vectors
        (N, D) float32 of length one.
    k, values
        How many references count, and how many of their distinct values.
    temperature
        Before the softmax.
    """
    cosines = vectors.astype(np.float64) @ references.embeddings.astype(np.float64).T
    found = [
        _weighted(row, references.values.astype(np.float64), k=k, values=values)
        for row in _softmax(temperature * cosines)
    ]
    means = np.array([mean for mean, _ in found])
    squares = np.array([square for _, square in found])
    value = float(means.mean())
    variance = float(squares.mean()) - value**2
    return Nearby(
        value=value,
        spread=float(np.sqrt(max(variance, 0.0))),
        frames=tuple(means.tolist()),
    )


def _weighted(
    scores: NDArray[np.float64], labels: NDArray[np.float64], *, k: int, values: int
) -> tuple[float, float]:
    """Return the weighted mean of the nearest values, and that of their squares."""
    nearest = np.argsort(-scores, kind="stable")[:k]
    distinct, inverse = np.unique(labels[nearest], return_inverse=True)
    sums = np.bincount(inverse, weights=scores[nearest])
    highest = np.argsort(-sums, kind="stable")[:values]
    weights = sums[highest] / sums[highest].sum()
    kept = distinct[highest]
    return float(weights @ kept), float(weights @ kept**2)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
