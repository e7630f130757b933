"""What is said of a fit: how the whole procedure does on patients it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dicom_node.errors import Permanent
from workers.calibration import EDGE
from workers.cohort import Truth
from workers.fitting.choosing import Choice
from workers.fitting.nested import Outcome
from workers.fitting.samples import Floats, Mask, Samples
from workers.measures import (
    Area,
    Estimate,
    Proportion,
    Recalibration,
    Undefined,
    brier,
    calibration_slope_intercept,
    clustered_auc,
    clustered_proportion,
    youden,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One finding: what was made, and its figures.

    Parameters
    ----------
    kind
        ``out-of-fold``, or ``test`` where the labels assign roles.
    left_out
        Studies whose label is uncertain or missing.
    choice, choices
        What the pack has, and what each outer fold had.
    recalibration
        Slope and intercept of what was said; None with `why_no_slope` where they
        cannot be told.
    threshold
        Youden's, of the same scores: provisional, and flattered at its own point.
    """

    finding: str
    kind: str
    studies: int
    positives: int
    patients: int
    left_out: int
    choice: Choice
    choices: tuple[Choice, ...]
    area: Area
    brier: Estimate
    recalibration: Recalibration | None
    why_no_slope: str
    threshold: float
    sensitivity: Proportion
    specificity: Proportion

    @property
    def calibrated(self) -> bool:
        """Return whether the scores are probabilities."""
        return self.choice.calibration.method is not None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        slope = self.recalibration
        return {
            "finding": self.finding,
            "kind": self.kind,
            "studies": self.studies,
            "positives": self.positives,
            "patients": self.patients,
            "left_out": self.left_out,
            "head": _chosen(self.choice),
            "heads_of_folds": [_chosen(choice) for choice in self.choices],
            "cross_entropy": dict(self.choice.calibration.losses),
            "prevalence": self.choice.calibration.prevalence,
            "auc": _interval(self.area),
            "brier": _interval(self.brier),
            "calibration_slope": _interval(slope.slope) if slope else None,
            "calibration_intercept": _interval(slope.intercept) if slope else None,
            "why_no_slope": self.why_no_slope,
            "threshold": self.threshold,
            "sensitivity": _interval(self.sensitivity),
            "specificity": _interval(self.specificity),
        }


def judged(finding: str, samples: Samples, outcome: Outcome, *, kind: str) -> Fit:
    """Return the figures of the studies that were scored without having been seen.

    Raises
    ------
    Permanent
        If they have one label only.
    """
    scored: Mask = samples.known & np.isfinite(outcome.scores)
    scores, present = outcome.scores[scored], samples.present[scored]
    patient = samples.study_patient[scored]
    try:
        area, threshold = (
            clustered_auc(scores, present, patient),
            youden(scores, present),
        )
    except Undefined as error:
        raise Permanent(f"{finding} cannot be judged: {error}") from error
    slope, why = _slope(scores, present, patient)
    flagged = scores >= threshold
    return Fit(
        finding=finding,
        kind=kind,
        studies=len(scores),
        positives=int(present.sum()),
        patients=len(np.unique(patient)),
        left_out=int((samples.study_truth < Truth.ABSENT).sum()),
        choice=outcome.choice,
        choices=outcome.choices,
        area=area,
        brier=brier(scores, present, patient),
        recalibration=slope,
        why_no_slope=why,
        threshold=threshold,
        sensitivity=clustered_proportion(flagged[present], patient[present]),
        specificity=clustered_proportion(~flagged[~present], patient[~present]),
    )


def _slope(
    scores: Floats, present: Mask, patient: Any
) -> tuple[Recalibration | None, str]:
    inside = np.clip(scores, EDGE, 1 - EDGE)
    try:
        return calibration_slope_intercept(inside, present, patient), ""
    except Undefined as error:
        return None, str(error)


def _chosen(choice: Choice) -> Mapping[str, Any]:
    return {
        "kind": choice.kind,
        **choice.parameters,
        "calibration": choice.calibration.method or "none",
    }


def _interval(found: Area | Estimate | Proportion) -> list[float]:
    return [found.value, found.low, found.high]
