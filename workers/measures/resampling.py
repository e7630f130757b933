"""The bootstrap by patient: patients are drawn again, each with all of its rows.

Field and Welsh, JRSS B 2007; 69: 369-390 (the cluster bootstrap).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workers.measures.arrays import Clusters, Undefined


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    cluster: Clusters,
    *,
    runs: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the statistic of `runs` samples of patients (runs,), drawn with replacement.

    Parameters
    ----------
    statistic
        Of the rows whose numbers it is given; a row comes as often as its patient. Where
        it raises `Undefined`, that run is nan.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(cluster, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1)
    found = np.full(runs, np.nan)
    for run in range(runs):
        drawn = rng.integers(len(rows), size=len(rows))
        try:
            found[run] = statistic(np.concatenate([rows[i] for i in drawn]))
        except Undefined:
            continue
    return found
