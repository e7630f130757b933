"""Which rows a finding's figures rest on, and how many patients they are of."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.cohort import Truth as Label
from workers.evaluating.asked import Cases
from workers.evaluating.figures import Counts
from workers.evaluating.rules import FEWEST
from workers.measures import Clusters, Scores, Truth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows with a score and a certain label: what they have, and their numbers.

    Parameters
    ----------
    where
        (N,) their numbers among all rows.
    """

    scores: Scores
    truth: Truth
    patient: Clusters
    where: NDArray[np.int64]

    def among(self, chosen: NDArray[np.bool_]) -> "Rows":
        """Return those of them that are chosen (N,)."""
        return Rows(
            scores=self.scores[chosen],
            truth=self.truth[chosen],
            patient=self.patient[chosen],
            where=self.where[chosen],
        )

    @property
    def counts(self) -> Counts:
        """Return how many there are of each class, and of how many patients."""
        return Counts(
            positives=int(self.truth.sum()),
            negatives=int((~self.truth).sum()),
            positive_patients=_patients(self.patient[self.truth]),
            negative_patients=_patients(self.patient[~self.truth]),
        )


def rows_of(cases: Cases, column: int) -> Rows:
    """Return the rows that one finding's figures rest on."""
    truth, scores = cases.truth[:, column], cases.scores[:, column]
    certain = (truth == Label.PRESENT) | (truth == Label.ABSENT)
    where = np.flatnonzero(certain & ~np.isnan(scores))
    return Rows(
        scores=scores[where],
        truth=truth[where] == Label.PRESENT,
        patient=cases.patient[where],
        where=where,
    )


def counts_of(cases: Cases, column: int, rows: Rows) -> Counts:
    """Return the counts of `rows`, and how many others were left out, and why."""
    truth, silent = cases.truth[:, column], np.isnan(cases.scores[:, column])
    counts = rows.counts
    return Counts(
        positives=counts.positives,
        negatives=counts.negatives,
        positive_patients=counts.positive_patients,
        negative_patients=counts.negative_patients,
        uncertain=int((truth == Label.UNCERTAIN).sum()),
        missing=int((truth == Label.MISSING).sum()),
        not_evaluated=int(
            (silent & ((truth == Label.PRESENT) | (truth == Label.ABSENT))).sum()
        ),
        not_evaluated_positives=int((silent & (truth == Label.PRESENT)).sum()),
    )


def too_few(counts: Counts) -> str:
    """Return why nothing can be said of these rows; "" where something can."""
    if counts.positive_patients < FEWEST:
        return f"{counts.positive_patients} patients with the finding: too few to say"
    if counts.negative_patients < FEWEST:
        return f"{counts.negative_patients} patients without it: too few to say"
    return ""


def _patients(cluster: Clusters) -> int:
    return int(np.count_nonzero(np.bincount(cluster))) if len(cluster) else 0
