"""The area under the ROC curve, with intervals clustered by patient.

Obuchowski, Biometrics 1997; 53: 567-578, which is DeLong et al., Biometrics 1988; 44:
837-845 where each patient has one row. Placement values come from midranks, O(n log n):
Sun and Xu, IEEE Signal Processing Letters 2014; 21: 1389-1393. A tie counts half.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.measures.arrays import (
    Clusters,
    Scores,
    Truth,
    Undefined,
    distinct,
    sums,
    two_classes,
)
from workers.measures.limits import logit_limits, wald
from workers.measures.linear import Linear
from workers.measures.pairs import Difference, difference_of

Scale = Literal["logit", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """An area under the ROC curve with its limits.

    Parameters
    ----------
    positives, negatives
        Rows of each class.
    patients
        Among all rows.
    error
        Standard error of the area itself, not of its logit; nan where undefined.
    method
        How the limits were found, in words.
    """

    value: float
    low: float
    high: float
    positives: int
    negatives: int
    patients: int
    error: float
    method: str

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def clustered_auc(
    scores: Scores,
    truth: Truth,
    cluster: Clusters,
    *,
    confidence: float = 0.95,
    scale: Scale = "logit",
) -> Area:
    """Return the area with its clustered limits.

    At 0 and 1 the variance says nothing and one limit is the value itself. The other is
    exact and one-sided: of k pairs of a positive and a negative that share no patient,
    all are ordered rightly with probability ``area ** k``; so an area under
    ``(1 - confidence) ** (1 / k)`` is refuted. Where a class comes from one patient, the
    limits are 0 and 1.

    Raises
    ------
    Undefined
        If there is one class only.
    """
    two_classes(truth)
    parts = _Parts.of(scores, truth, cluster, int(cluster.max()) + 1)
    low, high, method = _limits(parts, confidence, scale)
    return Area(
        value=parts.area,
        low=low,
        high=high,
        positives=parts.positives,
        negatives=parts.negatives,
        patients=distinct(cluster),
        error=math.sqrt(parts.variance) if parts.enough else math.nan,
        method=method,
    )


def auc_covariance(
    score_sets: NDArray[np.float64], truth: Truth, cluster: Clusters
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the areas (K,) of K sets of scores (K, N), and their covariance (K, K).

    Raises
    ------
    Undefined
        If there is one class only, or a class comes from one patient.
    """
    two_classes(truth)
    size = int(cluster.max()) + 1
    sets = [_Parts.of(scores, truth, cluster, size) for scores in score_sets]
    if not sets[0].enough:
        raise Undefined("a class comes from one patient only")
    areas = np.array([parts.area for parts in sets])
    covariance = np.array([[a.covariance(b) for b in sets] for a in sets])
    return areas, covariance


def linear_auc(scores: Scores, truth: Truth, cluster: Clusters, size: int) -> Linear:
    """Return the area, linearised by patient; `size` numbers of patients.

    Raises
    ------
    Undefined
        If there is one class only, or a class comes from one patient.
    """
    two_classes(truth)
    parts = _Parts.of(scores, truth, cluster, size)
    if not parts.enough:
        raise Undefined("a class comes from one patient only")
    return Linear(
        value=parts.area,
        variance=parts.variance,
        influence=parts.of_positive + parts.of_negative,
    )


def paired_difference(
    a: Scores,
    b: Scores,
    truth: Truth,
    cluster: Clusters,
    *,
    confidence: float = 0.95,
) -> Difference:
    """Return the area of `a` less that of `b`, on the same rows.

    Raises
    ------
    Undefined
        If there is one class only, or a class comes from one patient.
    """
    (of_a, of_b), covariance = auc_covariance(np.stack([a, b]), truth, cluster)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return difference_of(
        float(of_a - of_b),
        math.sqrt(max(0.0, float(variance))),
        patients=distinct(cluster),
        confidence=confidence,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parts:
    """An area and what each patient's positives (P,) and negatives (P,) add to it."""

    area: float
    positives: int
    negatives: int
    of_positive: Scores
    of_negative: Scores
    with_positives: NDArray[np.bool_]
    with_negatives: NDArray[np.bool_]

    @classmethod
    def of(cls, scores: Scores, truth: Truth, cluster: Clusters, size: int) -> "_Parts":
        """Return the parts of the area of `scores`, centred, over their numbers."""
        above, below = placements(scores, truth)
        area = float(above.mean())
        where_positive, where_negative = cluster[truth], cluster[~truth]
        return cls(
            area=area,
            positives=len(above),
            negatives=len(below),
            of_positive=sums(above - area, where_positive, size) / len(above),
            of_negative=sums(below - area, where_negative, size) / len(below),
            with_positives=np.bincount(where_positive, minlength=size) > 0,
            with_negatives=np.bincount(where_negative, minlength=size) > 0,
        )

    @property
    def counts(self) -> tuple[int, int, int]:
        """Patients with positives, with negatives, with either: I10, I01 and I."""
        positive, negative = self.with_positives, self.with_negatives
        return (
            int(positive.sum()),
            int(negative.sum()),
            int((positive | negative).sum()),
        )

    @property
    def enough(self) -> bool:
        """Whether each class comes from two patients or more."""
        return min(self.counts[:2]) > 1

    @property
    def variance(self) -> float:
        """Obuchowski's variance of the area."""
        return self.covariance(self)

    @property
    def pairs(self) -> int:
        """How many pairs of a positive and a negative share no patient."""
        positive, negative, patients = self.counts
        return min(positive, negative, patients // 2)

    def covariance(self, other: "_Parts") -> float:
        """Return S10 / M + S01 / N + (S11 + S11') / (M N) of the paper, page 571."""
        positive, negative, patients = (n / (n - 1) for n in self.counts)
        both = (
            self.of_positive @ other.of_negative + self.of_negative @ other.of_positive
        )
        return float(
            positive * (self.of_positive @ other.of_positive)
            + negative * (self.of_negative @ other.of_negative)
            + patients * both
        )


def placements(scores: Scores, truth: Truth) -> tuple[Scores, Scores]:
    """Return the share of negatives below each positive, of positives above each negative."""
    distinct_scores, code = np.unique(scores, return_inverse=True)
    of_positive, of_negative = code[truth], code[~truth]
    below = _midcounts(of_negative, len(distinct_scores)) / len(of_negative)
    above = 1 - _midcounts(of_positive, len(distinct_scores)) / len(of_positive)
    return below[of_positive], above[of_negative]


def _midcounts(codes: NDArray[np.int64], size: int) -> Scores:
    """Return how many `codes` lie below each code (size,); equal ones count half."""
    counts = np.bincount(codes, minlength=size)
    middles: Scores = np.cumsum(counts) - counts / 2
    return middles


def _limits(parts: _Parts, confidence: float, scale: Scale) -> tuple[float, float, str]:
    exact = (1 - confidence) ** (1 / max(1, parts.pairs))
    if not parts.enough:
        return 0.0, 1.0, "no limits: a class comes from one patient"
    if parts.area == 1:
        return exact, 1.0, "exact on pairs that share no patient, one-sided"
    if parts.area == 0:
        return 0.0, 1 - exact, "exact on pairs that share no patient, one-sided"
    error = math.sqrt(parts.variance)
    if scale == "logit":
        low, high = logit_limits(parts.area, error, confidence)
    else:
        low, high = wald(parts.area, error, confidence)
    return max(0.0, low), min(1.0, high), f"Obuchowski, {scale} scale"
