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
from workers.measures.areas import placements
from workers.measures.arrays import Undefined, distinct, sums
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
    """Return the share of pairs in the right order, among pairs of one stratum.

    A pair is a positive and a negative: it is the mean of the areas of the strata,
    weighted by pairs. A stratum may have few rows; one without a pair adds nothing.

    Raises
    ------
    Undefined
        If a class comes from fewer than two patients, all strata together.
    """
    strata = [rows for rows in strata if 0 < truth[rows].sum() < len(rows)]
    together = np.concatenate([*strata, np.zeros(0, np.intp)])
    if not measurable(truth, patient, together):
        raise Undefined("a class comes from one patient only")
    share, pairs = _shares(scores, truth, strata)
    value = float(share @ pairs / pairs.sum())
    # each pair is counted twice in both sums: once from either side
    influence = sums(pairs * (share - value), patient[together], int(patient.max()) + 1)
    error = math.sqrt(
        _variance(influence / (pairs.sum() / 2), distinct(patient[together]))
    )
    low, high = _limits(value, error, truth[together], patient[together])
    return Area(
        value=value,
        low=low,
        high=high,
        positives=int(truth[together].sum()),
        negatives=int((~truth[together]).sum()),
        patients=distinct(patient[together]),
        error=error,
        method="share of pairs within strata, linearised by patient, logit scale",
    )


def _shares(
    scores: Scores, truth: Truth, strata: Sequence[Rows]
) -> tuple[Scores, Scores]:
    """Return of each row, in the order of strata, which share of its pairs is right.

    And how many pairs it has: those with the other class of its stratum.
    """
    shares, pairs = [], []
    for rows in strata:
        ill = truth[rows]
        of_ill, of_well = placements(scores[rows], ill)
        found = np.empty(len(rows))
        found[ill], found[~ill] = of_ill, of_well
        shares.append(found)
        pairs.append(np.where(ill, (~ill).sum(), ill.sum()).astype(np.float64))
    return np.concatenate(shares), np.concatenate(pairs)


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
