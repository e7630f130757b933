"""How far estimates of a quantity are from its value."""

import numpy as np

from workers.measures.arrays import Clusters, Scores
from workers.measures.linear import Estimate, clustered_mean


def mae(
    estimates: Scores, values: Scores, cluster: Clusters, *, confidence: float = 0.95
) -> Estimate:
    """Return the mean absolute error of estimates (N,), in the unit of both.

    Raises
    ------
    Undefined
        If there are no rows.
    """
    return clustered_mean(np.abs(estimates - values), cluster, confidence=confidence)
