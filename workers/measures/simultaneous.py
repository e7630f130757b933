"""Gaps between groups with limits that hold for all of them at once.

The largest of K standardised gaps, max |t|, is compared with its own distribution under
their joint covariance, which is clustered by patient: a patient may have rows in several
groups. Hothorn, Bretz and Westfall, Biometrical Journal 2008; 50: 346-363. It is what the
bootstrap by patient tends to, without its runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.measures.linear import Linear

_DRAWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A group's figure less that of the rest, with simultaneous limits."""

    value: float
    low: float
    high: float

    @property
    def shows(self) -> bool:
        """Whether the limits leave out zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def simultaneous_gaps(
    pairs: Sequence[tuple[Linear, Linear]], *, confidence: float = 0.95, seed: int = 0
) -> tuple[Gap, ...]:
    """Return the gap of each (group, rest), all of them covered with `confidence`.

    Groups without variance get the limits of the others' critical value: none.
    """
    if not pairs:
        return ()
    values = np.array([group.value - rest.value for group, rest in pairs])
    errors = np.array([_error(group, rest) for group, rest in pairs])
    critical = critical_value(_correlation(pairs), confidence=confidence, seed=seed)
    return tuple(
        Gap(value=float(v), low=float(v - critical * e), high=float(v + critical * e))
        for v, e in zip(values, errors, strict=True)
    )


def critical_value(
    correlation: NDArray[np.float64], *, confidence: float, seed: int = 0
) -> float:
    """Return what max |t| of K gaps with this correlation (K, K) stays below."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0))
    draws = np.random.default_rng(seed).standard_normal((_DRAWS, len(values)))
    return float(np.quantile(np.abs(draws @ root.T).max(axis=1), confidence))


def _error(group: Linear, rest: Linear) -> float:
    """Return the standard error of a gap; patients in both are counted so."""
    variance = group.variance + rest.variance - 2 * group.covariance(rest)
    return math.sqrt(max(0.0, variance))


def _correlation(pairs: Sequence[tuple[Linear, Linear]]) -> NDArray[np.float64]:
    influence = np.stack([group.influence - rest.influence for group, rest in pairs])
    covariance = influence @ influence.T
    scale = np.sqrt(np.maximum(covariance.diagonal(), np.finfo(np.float64).tiny))
    correlation: NDArray[np.float64] = covariance / np.outer(scale, scale)
    return correlation
