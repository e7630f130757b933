"""Studies with scores and what is true of one finding, and what thresholds say of them."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from workers.thresholds.cuts import Ends
from workers.thresholds.sets import Counts

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Studies with what is true of one finding.

    Parameters
    ----------
    scores
        (N,) float64, finite.
    truth
        (N,) whether the finding is there.
    patient
        (N,) integers, 0 or more: whose study it is.
    fold
        (N,) in which fold it was left out; None for scores of a set held out.
    """

    scores: Floats
    truth: Flags
    patient: NDArray[np.integer]
    fold: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        if not self.scores.shape == self.truth.shape == self.patient.shape:
            raise ValueError("scores, truth and patient must be as many")
        if not np.isfinite(self.scores).all():
            raise ValueError("scores must be finite")

    @property
    def counts(self) -> Counts:
        """Return how many studies and patients it has."""
        return Counts(
            positive_studies=int(self.truth.sum()),
            positive_patients=len(np.unique(self.patient[self.truth])),
            negative_studies=int((~self.truth).sum()),
            negative_patients=len(np.unique(self.patient[~self.truth])),
        )

    @property
    def digest(self) -> str:
        """Return what stands for the data."""
        hashed = sha256()
        for column in (self.scores, self.truth, self.patient, self.fold):
            if column is not None:
                hashed.update(np.ascontiguousarray(column).tobytes())
        return hashed.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What thresholds say of N studies.

    Parameters
    ----------
    flagged
        (N,) at or above the threshold.
    kept
        (N,) not ruled out; where there is no band, the same.
    """

    flagged: Flags
    kept: Flags

    @property
    def indeterminate(self) -> float:
        """Return the share of studies that are neither flagged nor ruled out."""
        return float((self.kept & ~self.flagged).mean())


def answers(ends: Ends, scores: Floats) -> Answers:
    """Return what a threshold, or a pair, says of studies with these scores (N,)."""
    return Answers(flagged=scores >= ends.threshold, kept=scores >= ends.lowest)
