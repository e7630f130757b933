"""A figure with what each patient contributes to it: the ground of every comparison.

A figure of many rows is, near enough, a constant plus a sum over patients (its influence
function). Two figures of the same patients, or of overlapping ones, are compared by these
sums, whatever the figures are (Hampel, JASA 1974; 69: 383-393).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from workers.measures.arrays import Clusters, Hits, Scores, Undefined, distinct, sums
from workers.measures.limits import wald


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its confidence limits, and what it was measured on."""

    value: float
    low: float
    high: float
    n: int
    patients: int
    method: str

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """A figure, its clustered variance, and each patient's part in it.

    Parameters
    ----------
    influence
        (P,) float64, by number of the patient; 0 where a patient has no row. Their
        squares add up to the variance, but for its correction for small numbers.
    """

    value: float
    variance: float
    influence: Scores

    def covariance(self, other: "Linear") -> float:
        """Return the covariance with a figure of the same numbering of patients."""
        return float(self.influence @ other.influence)


def linear_mean(values: Scores, cluster: Clusters, size: int = 0) -> Linear:
    """Return the mean of rows (N,), linearised by patient.

    Parameters
    ----------
    size
        How many numbers of patients there are; by default up to the highest one.

    Raises
    ------
    Undefined
        If there are no rows.
    """
    if not len(values):
        raise Undefined("there is nothing to average")
    size = max(size, int(cluster.max()) + 1)
    mean = float(values.mean())
    influence = sums(values - mean, cluster, size) / len(values)
    patients = distinct(cluster)
    correction = patients / (patients - 1) if patients > 1 else math.nan
    return Linear(
        value=mean,
        variance=correction * float(influence @ influence),
        influence=influence,
    )


def linear_share(hits: Hits, cluster: Clusters, size: int = 0) -> Linear:
    """Return the share of rows (N,), linearised by patient, for gaps and differences.

    Near 0 and 1 a share's own variance is too small for limits that are symmetric: it is
    not taken below that of the share with two hits and two misses more (Agresti and
    Coull, The American Statistician 1998; 52: 119-126).

    Raises
    ------
    Undefined
        If there are no rows.
    """
    found = linear_mean(hits.astype(np.float64), cluster, size)
    n, share = len(hits), found.value
    nearer = (share * n + 2) / (n + 4)
    least = nearer * (1 - nearer) / (n + 4)
    plain = share * (1 - share) / n
    if plain > 0:  # as much more as patients' rows resemble each other
        least *= max(1.0, found.variance / plain)
    return replace(found, variance=max(found.variance, least))


def clustered_mean(
    values: Scores, cluster: Clusters, *, confidence: float = 0.95
) -> Estimate:
    """Return the mean of rows (N,) with Wald's limits, clustered by patient.

    Limits are nan where there is only one patient.

    Raises
    ------
    Undefined
        If there are no rows.
    """
    found = linear_mean(values, cluster)
    low, high = wald(found.value, float(np.sqrt(found.variance)), confidence)
    return Estimate(
        value=found.value,
        low=low,
        high=high,
        n=len(values),
        patients=distinct(cluster),
        method="mean, Wald, clustered by patient",
    )
