"""What is evaluated: scores of studies, what is true of them, and what is asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Groups = Mapping[str, tuple[str, ...]]
"""By attribute, the group of each row (S,); "" where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A threshold of a finding: flagged from it on.

    Parameters
    ----------
    rule_out
        Below it the finding is ruled out; between the two nothing is said.
    """

    name: str
    threshold: float
    rule_out: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One finding, or one quantity, of a pack.

    Parameters
    ----------
    meaning
        What people call it.
    points
        Operating points; the first is the one in force.
    calibrated
        Whether scores are probabilities.
    prevalence
        Share of studies with the finding where the pack was developed; None: unknown.
    mode
        A finding in shadow mode flags nothing.
    unit
        Of a quantity; "" for a finding.
    itself
        Attributes of the header that are what is asked: no shortcuts to it.
    """

    key: str
    meaning: str
    points: tuple[Point, ...] = ()
    calibrated: bool = False
    prevalence: float | None = None
    mode: Literal["live", "shadow"] = "live"
    unit: str = ""
    itself: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cases:
    """Scores of S studies (or images) on F questions.

    Parameters
    ----------
    scores
        (S, F) float64; nan: not evaluated.
    truth
        (S, F) int8, values of `workers.cohort.Truth`: missing is never negative.
    values
        (S, F) float64, what is true of quantities; nan where nothing is known.
    patient
        (S,) int: rows with the same number are of one patient.
    level
        What a row is. Only studies are flagged: figures of images are labelled so.
    kind
        Scores of folds that were left out, or of patients never seen.
    pack, data
        What was evaluated on what, for people: name, version, digest.
    thresholds
        The set that operating points are of; "" where there is none.
    gate
        How many images the pack's gate left out; "" where it has none.
    """

    questions: tuple[Question, ...]
    scores: NDArray[np.float64]
    truth: NDArray[np.int8]
    values: NDArray[np.float64]
    patient: NDArray[np.integer]
    level: Literal["study", "image"] = "study"
    kind: Literal["out-of-fold", "test"] = "test"
    pack: str = ""
    data: str = ""
    thresholds: str = ""
    gate: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.patient), len(self.questions))
        if any(a.shape != shape for a in (self.scores, self.truth, self.values)):
            raise ValueError(f"scores, truth and values must be {shape}")
        if np.isinf(self.scores).any():
            raise ValueError("a score is infinite")
