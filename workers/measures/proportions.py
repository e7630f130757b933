"""Shares with limits on the effective number of rows, clustered by patient.

Wilson, JASA 1927; 22: 209-212, and Clopper and Pearson, Biometrika 1934; 26: 404-413,
on the number of independent rows that would vary as much: Korn and Graubard, Survey
Methodology 1998; 24: 193-201. Where each patient has one row, they are the plain ones.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from workers.measures.arrays import Clusters, Hits, Undefined, distinct, sums
from workers.measures.limits import two_sided


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A share with its limits.

    Parameters
    ----------
    hits, n
        Rows.
    effective
        How many independent rows would vary as much.
    """

    value: float
    low: float
    high: float
    hits: int
    n: int
    patients: int
    effective: float
    method: str

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def clustered_proportion(
    hits: Hits, cluster: Clusters, *, confidence: float = 0.95
) -> Proportion:
    """Return the share of rows (N,) with Wilson's limits on their effective number.

    Raises
    ------
    Undefined
        If there are no rows.
    """
    n = _effective(hits, cluster)
    share, z = float(hits.mean()), two_sided(confidence)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    spread = share * (1 - share) / n + z**2 / (4 * n**2)
    margin = z * float(np.sqrt(spread)) / (1 + z**2 / n)
    return _proportion(
        hits, cluster, n, (middle - margin, middle + margin), method="Wilson"
    )


def exact_proportion(
    hits: Hits, cluster: Clusters, *, confidence: float = 0.95
) -> Proportion:
    """Return the share of rows (N,) with the limits of Clopper and Pearson.

    Raises
    ------
    Undefined
        If there are no rows.
    """
    n = _effective(hits, cluster)
    tail = (1 - confidence) / 2
    limits = _exact_low(hits, n, tail), 1 - _exact_low(~hits, n, tail)
    return _proportion(hits, cluster, n, limits, method="Clopper-Pearson")


def lower_limit(hits: Hits, cluster: Clusters, *, confidence: float = 0.95) -> float:
    """Return the one-sided exact limit that the share is not below.

    Of n patients of whom all were hit it is ``(1 - confidence) ** (1 / n)``: 0.95 from 59
    patients on.

    Raises
    ------
    Undefined
        If there are no rows.
    """
    return _exact_low(hits, _effective(hits, cluster), 1 - confidence)


def _effective(hits: Hits, cluster: Clusters) -> float:
    """Return the effective number of rows, at most their number.

    Where all rows agree, nothing shows how they vary within a patient: each patient
    counts as one.
    """
    n = len(hits)
    if not n:
        raise Undefined("there is nothing to count")
    patients = distinct(cluster)
    if patients == n:
        return float(n)
    away = hits - hits.mean()
    independent = float(away @ away)
    if independent == 0 or patients == 1:
        return float(patients)
    by_patient = sums(away, cluster, int(cluster.max()) + 1)
    correction = (patients / (patients - 1)) / (n / (n - 1))
    design_effect = correction * float(by_patient @ by_patient) / independent
    return n / max(1.0, design_effect)


def _exact_low(hits: Hits, n: float, tail: float) -> float:
    share = float(hits.mean())
    if share == 0:
        return 0.0
    return float(beta.ppf(tail, share * n, n - share * n + 1))


def _proportion(
    hits: Hits,
    cluster: Clusters,
    effective: float,
    limits: tuple[float, float],
    *,
    method: str,
) -> Proportion:
    share = float(hits.mean())
    return Proportion(
        value=share,
        low=max(0.0, min(share, limits[0])),
        high=min(1.0, max(share, limits[1])),
        hits=int(hits.sum()),
        n=len(hits),
        patients=distinct(cluster),
        effective=effective,
        method=f"{method} on the effective number of rows",
    )
