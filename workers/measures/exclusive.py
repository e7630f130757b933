"""How often the right one of several exclusive values is chosen, each value alike.

The balanced accuracy is the mean of the values' recalls (Brodersen et al., ICPR 2010).
A patient may have rows of several values, so the recalls are not independent: what each
patient adds to them is added up before it is squared.
"""

import math

import numpy as np
from numpy.typing import NDArray

from workers.measures.arrays import Clusters, Hits, Undefined, distinct
from workers.measures.limits import wald
from workers.measures.linear import Estimate, linear_share


def balanced_accuracy(
    hits: Hits,
    value: NDArray[np.integer],
    cluster: Clusters,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Return the mean recall over the values that rows (N,) have, clustered by patient.

    Where a value comes from one patient, the limits are 0 and 1.

    Raises
    ------
    Undefined
        If there are no rows.
    """
    if not len(hits):
        raise Undefined("there is nothing to count")
    size = int(cluster.max()) + 1
    parts = [
        linear_share(hits[value == one], cluster[value == one], size)
        for one in np.unique(value)
    ]
    share = sum(part.value for part in parts) / len(parts)
    variance = sum(part.variance for part in parts)
    variance += sum(a.covariance(b) for a in parts for b in parts if a is not b)
    low, high = 0.0, 1.0
    if math.isfinite(variance):
        error = math.sqrt(max(0.0, variance)) / len(parts)
        low, high = wald(share, error, confidence)
    return Estimate(
        value=share,
        low=max(0.0, low),
        high=min(1.0, high),
        n=len(hits),
        patients=distinct(cluster),
        method="mean of recalls, Wald, clustered by patient",
    )
