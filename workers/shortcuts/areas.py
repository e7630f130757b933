"""Areas in parts of a sample: what is lost in a part, and means over strata.

An area is linearised by patient (`workers.measures.linear`), so that the one in a
sample and the one in a part of it are compared as figures of the same patients.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.measures import (
    Area,
    Clusters,
    Difference,
    Linear,
    Scores,
    Truth,
    clustered_auc,
    difference_of,
    linear_auc,
)
from workers.measures.arrays import distinct
from workers.measures.limits import logit_limits

Rows = NDArray[np.intp]

CONFIDENCE: Final = 0.95
_LEAST: Final = 2


def measurable(truth: Truth, patient: Clusters, rows: Rows) -> bool:
    """Return whether `rows` have two patients of each class: an area needs them."""
    among, who = truth[rows], patient[rows]
    return all(len(np.unique(who[among == value])) >= _LEAST for value in (True, False))


def area(
    scores: Scores, truth: Truth, patient: Clusters, rows: Rows | None = None
) -> Area:
    """Return the area among `rows` (all of them unless given), with its limits."""
    rows = np.arange(len(truth)) if rows is None else rows
    return clustered_auc(scores[rows], truth[rows], patient[rows])


def lost(scores: Scores, truth: Truth, patient: Clusters, rows: Rows) -> Difference:
    """Return the area among all rows (N,) less that among `rows`, paired by patient.

    Raises
    ------
    Undefined
        If a class comes from fewer than two patients.
    """
    everything = np.arange(len(truth))
    raw = _linear(scores, truth, patient, everything)
    part = _linear(scores, truth, patient, rows)
    error = math.sqrt(_variance(raw.influence - part.influence, distinct(patient)))
    return difference_of(raw.value - part.value, error, patients=distinct(patient))


def adjusted(
    scores: Scores, truth: Truth, patient: Clusters, strata: Sequence[Rows]
) -> Area:
    """Return the mean area over strata, weighted by pairs of a positive and a negative.

    It is the share of pairs in the right order, among pairs of one stratum.

    Raises
    ------
    Undefined
        If a stratum has fewer than two patients of a class.
    """
    parts = [_linear(scores, truth, patient, rows) for rows in strata]
    pairs = [int(truth[rows].sum()) * int((~truth[rows]).sum()) for rows in strata]
    shares = np.array(pairs) / sum(pairs)
    together = np.concatenate(list(strata))
    value = float(shares @ [part.value for part in parts])
    influence = shares @ np.stack([part.influence for part in parts])
    error = math.sqrt(_variance(influence, distinct(patient[together])))
    low, high = _limits(value, error, truth[together], patient[together])
    return Area(
        value=value,
        low=low,
        high=high,
        positives=int(truth[together].sum()),
        negatives=int((~truth[together]).sum()),
        patients=distinct(patient[together]),
        error=error,
        method="mean over strata weighted by pairs, linearised by patient, logit scale",
    )


def _linear(scores: Scores, truth: Truth, patient: Clusters, rows: Rows) -> Linear:
    size = int(patient.max()) + 1
    return linear_auc(scores[rows], truth[rows], patient[rows], size)


def _variance(influence: Scores, patients: int) -> float:
    return float(influence @ influence) * patients / (patients - 1)


def _limits(
    value: float, error: float, truth: Truth, patient: Clusters
) -> tuple[float, float]:
    """Limits on the logit scale; at 0 and 1 exact on pairs that share no patient."""
    if 0 < value < 1:
        return logit_limits(value, error, CONFIDENCE)
    fewest = min(distinct(patient[truth]), distinct(patient[~truth]))
    exact = (1 - CONFIDENCE) ** (1 / min(fewest, max(1, distinct(patient) // 2)))
    return (exact, 1.0) if value >= 1 else (0.0, 1 - exact)
