"""ROC and precision-recall curves at every distinct score, and points on them."""

from dataclasses import dataclass

import numpy as np

from workers.measures.arrays import Scores, Truth, Undefined, two_classes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """A ROC curve, thresholds (T,) descending from infinity, which flags nothing."""

    thresholds: Scores
    sensitivity: Scores
    specificity: Scores

    def thinned(self, points: int) -> "Curve":
        """Return at most `points` of the places where the curve moves, ends kept."""
        moves = np.abs(np.diff(self.sensitivity)) + np.abs(np.diff(self.specificity))
        kept = np.r_[0, 1 + np.flatnonzero(moves > 0)]
        if len(kept) > points:
            kept = kept[np.linspace(0, len(kept) - 1, points).round().astype(int)]
        return Curve(
            thresholds=self.thresholds[kept],
            sensitivity=self.sensitivity[kept],
            specificity=self.specificity[kept],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrecisionRecall:
    """A precision-recall curve, thresholds (T,) descending."""

    thresholds: Scores
    precision: Scores
    recall: Scores

    def thinned(self, points: int) -> "PrecisionRecall":
        """Return at most `points` of it, ends kept."""
        kept = np.arange(len(self.thresholds))
        if len(kept) > points:
            kept = kept[np.linspace(0, len(kept) - 1, points).round().astype(int)]
        return PrecisionRecall(
            thresholds=self.thresholds[kept],
            precision=self.precision[kept],
            recall=self.recall[kept],
        )


def roc(scores: Scores, truth: Truth) -> Curve:
    """Return the ROC curve of scores (N,), flagged from the threshold on.

    Raises
    ------
    Undefined
        If there is one class only.
    """
    two_classes(truth)
    thresholds, true, false = _counts(scores, truth)
    return Curve(
        thresholds=np.r_[np.inf, thresholds],
        sensitivity=np.r_[0.0, true / true[-1]],
        specificity=np.r_[1.0, 1 - false / false[-1]],
    )


def pr(scores: Scores, truth: Truth) -> PrecisionRecall:
    """Return the precision-recall curve of scores (N,).

    Raises
    ------
    Undefined
        If there is no positive.
    """
    if not truth.any():
        raise Undefined("there is no positive")
    thresholds, true, false = _counts(scores, truth)
    return PrecisionRecall(
        thresholds=thresholds, precision=true / (true + false), recall=true / true[-1]
    )


def average_precision(scores: Scores, truth: Truth) -> float:
    """Return the sum of precision times the step in recall, without interpolation.

    Raises
    ------
    Undefined
        If there is no positive.
    """
    curve = pr(scores, truth)
    return float(curve.precision @ np.diff(np.r_[0.0, curve.recall]))


def youden(scores: Scores, truth: Truth) -> float:
    """Return the threshold with the highest sensitivity + specificity - 1.

    Youden, Cancer 1950; 3: 32-35. Of equal ones the highest.

    Raises
    ------
    Undefined
        If there is one class only.
    """
    curve = roc(scores, truth)
    best = int((curve.sensitivity + curve.specificity)[1:].argmax())
    return float(curve.thresholds[1 + best])


def threshold_at_sensitivity(
    scores: Scores, truth: Truth, *, sensitivity: float
) -> float:
    """Return the highest threshold that so large a share of positives reaches.

    Raises
    ------
    Undefined
        If there is no positive.
    """
    positive = np.sort(scores[truth])
    if not len(positive):
        raise Undefined("there is no positive")
    wanted = max(1, int(np.ceil(sensitivity * len(positive) - 1e-9)))
    return float(positive[len(positive) - wanted])


def _counts(scores: Scores, truth: Truth) -> tuple[Scores, Scores, Scores]:
    """Return distinct thresholds, descending, with the positives and negatives flagged."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.r_[np.flatnonzero(np.diff(ordered)), len(ordered) - 1]
    true = np.cumsum(truth[order], dtype=np.float64)[last]
    return ordered[last], true, last + 1 - true
