"""Two packs on the same studies, paired: areas, and shares at their own thresholds."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import Permanent
from workers.cohort import Truth as Label
from workers.evaluating.asked import Cases, Point
from workers.evaluating.figures import ComparedFigures, Comparison, Counts
from workers.evaluating.rows import too_few
from workers.measures import (
    Clusters,
    Difference,
    Hits,
    Scores,
    Truth,
    clustered_auc,
    difference_of_hits,
    distinct,
    paired_difference,
)


def compare(first: Cases, second: Cases, *, names: tuple[str, str]) -> Comparison:
    """Return what the first has over the second, by finding, on the rows that both scored.

    Parameters
    ----------
    first, second
        Of the same rows in the same order.

    Raises
    ------
    Permanent
        If the rows are not the same, or no finding is common to both.
    """
    if not np.array_equal(first.patient, second.patient):
        raise Permanent("two packs can be compared on the same studies only")
    columns = {
        question.key: number
        for number, question in enumerate(second.questions)
        if not question.unit
    }
    findings = tuple(
        _compared(first, second, number, columns[question.key])
        for number, question in enumerate(first.questions)
        if question.key in columns and not question.unit
    )
    if not findings:
        raise Permanent("the two packs have no finding in common")
    return Comparison(first=names[0], second=names[1], findings=findings)


def _compared(first: Cases, second: Cases, a: int, b: int) -> ComparedFigures:
    question = first.questions[a]
    truth = first.truth[:, a]
    if not np.array_equal(truth, second.truth[:, b]):
        raise Permanent(f"the labels of {question.key} differ between the two packs")
    certain = (truth == Label.PRESENT) | (truth == Label.ABSENT)
    where = certain & ~np.isnan(first.scores[:, a]) & ~np.isnan(second.scores[:, b])
    of_first, of_second = first.scores[where, a], second.scores[where, b]
    present, patient = truth[where] == Label.PRESENT, first.patient[where]
    counts = _counts(present, patient)
    why = too_few(counts)
    if why:
        return ComparedFigures(
            key=question.key,
            meaning=question.meaning,
            counts=counts,
            areas=None,
            area=None,
            sensitivity=None,
            specificity=None,
            why_not=why,
        )
    points = question.points, second.questions[b].points
    shares = _shares(of_first, of_second, present, patient, points)
    return ComparedFigures(
        key=question.key,
        meaning=question.meaning,
        counts=counts,
        areas=(
            clustered_auc(of_first, present, patient),
            clustered_auc(of_second, present, patient),
        ),
        area=paired_difference(of_first, of_second, present, patient),
        sensitivity=shares.get("sensitivity"),
        specificity=shares.get("specificity"),
    )


def _shares(
    first: Scores,
    second: Scores,
    present: Truth,
    patient: Clusters,
    points: tuple[tuple[Point, ...], tuple[Point, ...]],
) -> Mapping[str, Difference]:
    """Return the differences at the thresholds in force; none where a pack has none."""
    if not points[0] or not points[1]:
        return {}
    flagged = first >= points[0][0].threshold, second >= points[1][0].threshold

    def difference(of: NDArray[np.bool_], right: tuple[Hits, Hits]) -> Difference:
        return difference_of_hits(right[0][of], right[1][of], patient[of])

    return {
        "sensitivity": difference(present, flagged),
        "specificity": difference(~present, (~flagged[0], ~flagged[1])),
    }


def _counts(present: Truth, patient: Clusters) -> Counts:
    return Counts(
        positives=int(present.sum()),
        negatives=int((~present).sum()),
        positive_patients=distinct(patient[present]),
        negative_patients=distinct(patient[~present]),
    )
