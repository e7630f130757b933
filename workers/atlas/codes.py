"""Vectors in eight bits, and what that costs: a bound that is proved, not hoped.

Pure, numpy only. A row x is kept as ``mean + scale * code`` with one scale a row; what
is left, r = x - mean - scale * code, is known when the code is made, so its length is
kept beside it. For a query q the score of the code then differs from that of the row
by no more than |q| |r| (Cauchy-Schwarz), whatever the data.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 127
_AT_ONCE = 8192

Rows = NDArray[np.float32]
"""(N, D) float32, as embedded."""

Wide = NDArray[np.float64]
"""The same in double precision."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Codes:
    """Rows in eight bits.

    Parameters
    ----------
    codes
        (N, D) int8, -127 to 127.
    scale
        (N,) float32: a code times its scale is the row less the mean, about.
    residual
        (N,) float32: length of what is left of the row; rounded up.
    length
        (N,) float32: length of scale times code; rounded up.
    """

    codes: NDArray[np.int8]
    scale: NDArray[np.float32]
    residual: NDArray[np.float32]
    length: NDArray[np.float32]


def mean_of(vectors: Rows) -> Rows:
    """Return the mean row (D,) float32: embeddings of one kind lie around it."""
    total = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), _AT_ONCE):
        total += vectors[start : start + _AT_ONCE].sum(axis=0, dtype=np.float64)
    mean: Rows = (total / max(len(vectors), 1)).astype(np.float32)
    return mean


def quantise(vectors: Rows | Wide, mean: Rows | Wide) -> Codes:
    """Return `vectors` (N, D) in eight bits around `mean` (D,)."""
    rest = vectors.astype(np.float64) - mean
    largest = np.abs(rest).max(axis=1, initial=0.0)
    scale = np.where(largest > 0, largest / LEVELS, 1.0).astype(np.float32)
    wide = scale.astype(np.float64)[:, None]
    codes = np.clip(np.rint(rest / wide), -LEVELS, LEVELS)
    meant = codes * wide
    return Codes(
        codes=codes.astype(np.int8),
        scale=scale,
        residual=_rounded_up(np.linalg.norm(rest - meant, axis=1)),
        length=_rounded_up(np.linalg.norm(meant, axis=1)),
    )


def _rounded_up(values: NDArray[np.float64]) -> NDArray[np.float32]:
    single = (values * (1 + 1e-9)).astype(np.float32)
    above: NDArray[np.float32] = np.nextafter(single, np.float32(np.inf))
    return above
