"""How well scores separate: the area under the curve with its limits, and the curve.

Variance of the area: DeLong et al., Biometrics 1988; 44: 837-845. Limits of proportions:
Wilson, JASA 1927; 22: 209-212.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Z_95: Final = 1.959964

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % confidence limits."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def area(scores: Scores, truth: Truth) -> Estimate:
    """Return the area under the ROC curve, with DeLong's limits.

    Ties between a positive and a negative count half.
    """
    positive, negative = scores[truth], scores[~truth]
    ranks_all = _midranks(scores)
    of_positive = ranks_all[truth] - _midranks(positive)
    of_negative = ranks_all[~truth] - _midranks(negative)
    value = float(of_positive.mean() / len(negative))
    above = of_positive / len(negative)
    below = 1 - of_negative / len(positive)
    variance = above.var(ddof=1) / len(positive) + below.var(ddof=1) / len(negative)
    margin = Z_95 * float(np.sqrt(variance))
    return Estimate(
        value=value, low=max(0.0, value - margin), high=min(1.0, value + margin)
    )


def proportion(hits: int, total: int) -> Estimate:
    """Return a share with Wilson's limits."""
    share = hits / total
    middle = (share + Z_95**2 / (2 * total)) / (1 + Z_95**2 / total)
    spread = share * (1 - share) / total + Z_95**2 / (4 * total**2)
    margin = Z_95 * float(np.sqrt(spread)) / (1 + Z_95**2 / total)
    return Estimate(
        value=share,
        low=max(0.0, min(share, middle - margin)),
        high=min(1.0, max(share, middle + margin)),
    )


def curve(scores: Scores, truth: Truth, *, points: int) -> list[list[float]]:
    """Return at most `points` of (false, true positive rate, threshold), ascending."""
    thresholds = np.unique(scores)[::-1]
    fpr = np.array([(scores[~truth] >= t).mean() for t in thresholds])
    tpr = np.array([(scores[truth] >= t).mean() for t in thresholds])
    turns = np.flatnonzero(np.diff(np.r_[-1.0, fpr]) + np.diff(np.r_[-1.0, tpr]) > 0)
    if len(turns) > points:
        turns = turns[np.linspace(0, len(turns) - 1, points).round().astype(int)]
    return [
        [round(float(v), 5) for v in (fpr[i], tpr[i], thresholds[i])] for i in turns
    ]


def threshold_for(scores: Scores, truth: Truth, *, sensitivity: float) -> float:
    """Return the highest threshold that so many positives reach."""
    positive = np.sort(scores[truth])
    allowed = int(np.floor((1 - sensitivity) * len(positive)))
    return float(positive[allowed])


def _midranks(values: Scores) -> Scores:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Scores = (ends - (counts - 1) / 2)[inverse]
    return ranks
