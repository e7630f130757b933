"""Differences of two figures on the same rows, with limits clustered by patient."""

import math
from dataclasses import dataclass

import numpy as np

from workers.measures.arrays import Clusters, Hits, distinct
from workers.measures.limits import p_of, wald
from workers.measures.linear import linear_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure less another, its limits, and the two-sided p of no difference."""

    value: float
    low: float
    high: float
    p: float
    patients: int

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def difference_of(
    value: float, error: float, *, patients: int, confidence: float = 0.95
) -> Difference:
    """Return a difference with Wald's limits.

    Where nothing varies, as between two equal sets of scores, the limits are those of a
    share of which `patients` showed none: a difference in fewer patients than that could
    have been missed.
    """
    if error == 0:
        missed = 1 - ((1 - confidence) / 2) ** (1 / patients)
        low, high = max(-1.0, value - missed), min(1.0, value + missed)
        return Difference(value=value, low=low, high=high, p=1.0, patients=patients)
    low, high = wald(value, error, confidence)
    p = p_of(value / error)
    return Difference(value=value, low=low, high=high, p=p, patients=patients)


def difference_of_hits(
    a: Hits, b: Hits, cluster: Clusters, *, confidence: float = 0.95
) -> Difference:
    """Return the share of `a` less that of `b`, on the same rows (N,).

    Raises
    ------
    Undefined
        If there are no rows.
    """
    found = linear_mean(a.astype(np.float64) - b, cluster)
    error = 0.0 if math.isnan(found.variance) else math.sqrt(found.variance)
    return difference_of(
        found.value, error, patients=distinct(cluster), confidence=confidence
    )
