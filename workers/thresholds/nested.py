"""Out-of-fold scores judged without having chosen: each fold at the others' threshold.

The interval is that of a bootstrap by patient (Field and Welsh, JRSS B 2007; 69:
369-390) in which every sample of patients chooses anew, fold by fold. What is found at
a sensitivity's threshold varies little then, because each sample reaches its target; the
threshold itself varies as ranks do, so the exact limits of the share count where they
are wider.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.thresholds.cuts import Ends, cuts_of, ends_for
from workers.thresholds.rules import Rule
from workers.thresholds.samples import Answers, Floats, Sample, answers

NOTHING = Ends(threshold=float("inf"))
"""What is chosen where the target is out of reach: nothing is flagged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Where 95 % of the samples' figures lie: (low, high)."""

    sensitivity: tuple[float, float]
    specificity: tuple[float, float]
    kept: tuple[float, float]


def by_folds(rule: Rule, sample: Sample) -> Answers:
    """Return what each fold's studies are told at the threshold of the others.

    Raises
    ------
    Permanent
        If the others lack one of the classes.
    """
    for number in np.unique(_folds(sample)):
        rest = sample.truth[_folds(sample) != number]
        if rest.all() or not rest.any():
            raise Permanent(
                "too few studies for folds: without one of them there is one class only"
            )
    return _judged(rule, sample, np.ones(len(sample.scores)))


def spread(rule: Rule, sample: Sample, *, runs: int, seed: int) -> Spread:
    """Return how the figures vary over samples of patients, each choosing anew."""
    rng = np.random.default_rng(seed)
    order = np.argsort(-sample.scores, kind="stable")
    fallen = Sample(
        scores=sample.scores[order],
        truth=sample.truth[order],
        patient=np.unique(sample.patient, return_inverse=True)[1][order],
        fold=_folds(sample)[order],
    )
    patients = int(fallen.patient.max()) + 1
    found = np.full((runs, 3), np.nan)
    for run in range(runs):
        drawn = rng.multinomial(patients, np.full(patients, 1 / patients))
        found[run] = _shares(rule, fallen, drawn[fallen.patient].astype(np.float64))
    low, high = np.nanquantile(found, [0.025, 0.975], axis=0)
    pairs = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return Spread(sensitivity=pairs[0], specificity=pairs[1], kept=pairs[2])


def _shares(rule: Rule, sample: Sample, weights: Floats) -> tuple[float, float, float]:
    """Return sensitivity, specificity and the share not ruled out of one sample."""
    positive, negative = weights * sample.truth, weights * ~sample.truth
    if not positive.any() or not negative.any():
        return (np.nan, np.nan, np.nan)
    told = _judged(rule, sample, weights)
    return (
        float(positive @ told.flagged / positive.sum()),
        float(negative @ ~told.flagged / negative.sum()),
        float(positive @ told.kept / positive.sum()),
    )


def _judged(rule: Rule, sample: Sample, weights: Floats) -> Answers:
    flagged = np.zeros(len(weights), dtype=np.bool_)
    kept = flagged.copy()
    fold = _folds(sample)
    for number in np.unique(fold):
        here = fold == number
        ends = _chosen(rule, sample, np.where(here, 0.0, weights))
        told = answers(ends, sample.scores[here])
        flagged[here], kept[here] = told.flagged, told.kept
    return Answers(flagged=flagged, kept=kept)


def _chosen(rule: Rule, sample: Sample, weights: Floats) -> Ends:
    """Return what the studies with a weight choose; without both classes, nothing."""
    there = weights > 0
    classes = sample.truth[there]
    if not classes.any() or classes.all():
        return NOTHING
    return ends_for(rule, cuts_of(sample.scores, sample.truth, weights)) or NOTHING


def _folds(sample: Sample) -> NDArray[np.int8]:
    if sample.fold is None:
        raise ValueError("the studies have no folds")
    return sample.fold
