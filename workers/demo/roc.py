"""The measures as the demo uses them: every phantom is a patient of its own.

Limits of areas stand on the linear scale, as in the figures of the shipped pack.
"""

import numpy as np

from workers.measures import (
    Area,
    Hits,
    Proportion,
    Scores,
    Truth,
    clustered_auc,
    clustered_proportion,
    roc,
)

Stated = dict[str, float]
"""A value with its limits, as a manifest has it."""


def area(scores: Scores, truth: Truth) -> Area:
    """Return the area under the ROC curve, with DeLong's limits."""
    return clustered_auc(scores, truth, np.arange(len(scores)), scale="linear")


def proportion(hits: Hits) -> Proportion:
    """Return a share with Wilson's limits."""
    return clustered_proportion(hits, np.arange(len(hits)))


def stated(found: Area | Proportion) -> Stated:
    """Return what the manifest says of a figure."""
    return {"value": found.value, "low": found.low, "high": found.high}


def curve(scores: Scores, truth: Truth, *, points: int) -> list[list[float]]:
    """Return at most `points` of (false, true positive rate, threshold), ascending."""
    found = roc(scores, truth)
    fpr, tpr = 1 - found.specificity[1:], found.sensitivity[1:]
    turns = np.arange(len(fpr))
    if len(turns) > points:
        turns = turns[np.linspace(0, len(turns) - 1, points).round().astype(int)]
    return [
        [round(float(v), 5) for v in (fpr[i], tpr[i], found.thresholds[1 + i])]
        for i in turns
    ]
