"""How many of the nearest cases share a query's finding."""

import numpy as np
from numpy.typing import NDArray

from workers.measures.arrays import Scores, Undefined

Relevant = NDArray[np.bool_]
"""(Q, R): whether the case at each rank of each query's answer is relevant."""


def precision_at_k(relevant: Relevant, k: int) -> Scores:
    """Return the share of relevant cases among the first k of each query (Q,).

    Raises
    ------
    Undefined
        If fewer than k cases were ranked.
    """
    if relevant.shape[1] < k:
        raise Undefined(f"{relevant.shape[1]} cases cannot show the first {k}")
    share: Scores = relevant[:, :k].mean(axis=1)
    return share


def average_precisions(relevant: Relevant) -> Scores:
    """Return the average precision (Q,) of each query's whole ranking.

    nan where nothing is relevant.
    """
    query, rank = relevant.nonzero()
    count = np.bincount(query, minlength=len(relevant))
    before = np.repeat(np.cumsum(count) - count, count)
    precision = (np.arange(len(query)) - before + 1) / (rank + 1)
    with np.errstate(invalid="ignore"):
        total = np.bincount(query, precision, minlength=len(relevant))
        mean: Scores = total / count
    return mean


def mean_average_precision(relevant: Relevant) -> float:
    """Return the mean of the average precision over queries that have relevant cases.

    Raises
    ------
    Undefined
        If no query has any.
    """
    of_queries = average_precisions(relevant)
    of_queries = of_queries[~np.isnan(of_queries)]
    if not len(of_queries):
        raise Undefined("no query has a relevant case")
    return float(of_queries.mean())
