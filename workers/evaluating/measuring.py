"""An evaluation from scores: every figure of every question, in one pass."""

from collections.abc import Callable, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from workers.cohort import Truth as Label
from workers.evaluating.asked import Cases, Groups, Point, Question
from workers.evaluating.figures import (
    AtPrevalence,
    CalibrationFigures,
    Confusion,
    Evaluation,
    FindingFigures,
    Histogram,
    PointFigures,
    QuantityFigures,
)
from workers.evaluating.grouping import (
    Attribute,
    attributes,
    finding_groups,
    quantity_groups,
)
from workers.evaluating.rows import Rows, counts_of, rows_of
from workers.evaluating.rules import BINS, CURVE_POINTS, PREVALENCES, SCORE_BINS
from workers.measures import (
    Hits,
    Proportion,
    Recalibration,
    Undefined,
    average_precision,
    brier,
    calibration_curve,
    calibration_slope_intercept,
    clustered_auc,
    clustered_mean,
    clustered_proportion,
    mae,
    pr,
    predictive,
    predictive_range,
    roc,
)

Progress = Callable[[str, int, int], None]
"""What is being done, how many are done, how many there are."""


def evaluate(
    cases: Cases,
    groups: Groups,
    *,
    prevalences: Sequence[float] = PREVALENCES,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """Return the figures of every question of `cases`.

    Parameters
    ----------
    groups
        Attributes of the rows, for the figures by group.
    prevalences
        At which predictive values are stated, besides that of development.
    """
    of_rows = attributes(groups)
    findings: list[FindingFigures] = []
    quantities: list[QuantityFigures] = []
    with threadpool_limits(
        limits=1
    ):  # many small sums: threads only wait for each other
        for column, question in enumerate(cases.questions):
            if question.unit:
                quantities.append(_quantity(cases, column, of_rows))
            else:
                findings.append(_finding(cases, column, of_rows, prevalences))
            progress("evaluating", column + 1, len(cases.questions))
    return Evaluation(
        pack=cases.pack,
        data=cases.data,
        level=cases.level,
        kind=cases.kind,
        rows=len(cases.patient),
        patients=len(np.unique(cases.patient)),
        findings=tuple(findings),
        quantities=tuple(quantities),
        any_flag=_any_flag(cases),
        thresholds=cases.thresholds,
        gate=cases.gate,
    )


def _finding(
    cases: Cases,
    column: int,
    groups: Sequence[Attribute],
    prevalences: Sequence[float],
) -> FindingFigures:
    question, rows = cases.questions[column], rows_of(cases, column)
    counts = counts_of(cases, column, rows)
    share = float(rows.truth.mean()) if len(rows.truth) else float("nan")
    if not counts.positives or not counts.negatives:
        lacking = "positives" if not counts.positives else "negatives"
        return FindingFigures(
            key=question.key,
            meaning=question.meaning,
            mode=question.mode,
            calibrated=question.calibrated,
            counts=counts,
            prevalence=share,
            why_not=f"there are no {lacking}: nothing can be measured",
        )
    curve = roc(rows.scores, rows.truth).thinned(CURVE_POINTS)
    precise = pr(rows.scores, rows.truth).thinned(CURVE_POINTS)
    return FindingFigures(
        key=question.key,
        meaning=question.meaning,
        mode=question.mode,
        calibrated=question.calibrated,
        counts=counts,
        prevalence=share,
        area=clustered_auc(rows.scores, rows.truth, rows.patient),
        average_precision=average_precision(rows.scores, rows.truth),
        roc=_points(1 - curve.specificity, curve.sensitivity, curve.thresholds),
        pr=_points(precise.recall, precise.precision, precise.thresholds),
        histogram=_histogram(rows),
        points=tuple(
            _at(point, rows, _prevalences(question, share, prevalences))
            for point in question.points
        ),
        calibration=_calibration(rows) if question.calibrated else None,
        attributes=finding_groups(rows, groups, question),
    )


def _points(*columns: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    return tuple(
        (float(a), float(b), float(c)) for a, b, c in zip(*columns, strict=True)
    )


def _histogram(rows: Rows) -> Histogram:
    """Return how scores are spread, in bins of equal width."""
    edges = np.histogram_bin_edges(rows.scores, SCORE_BINS)
    return Histogram(
        edges=tuple(edges.tolist()),
        positives=tuple(np.histogram(rows.scores[rows.truth], edges)[0].tolist()),
        negatives=tuple(np.histogram(rows.scores[~rows.truth], edges)[0].tolist()),
    )


def _prevalences(
    question: Question, share: float, stated: Sequence[float]
) -> tuple[tuple[str, float], ...]:
    own = question.prevalence
    first = ("these data", share) if own is None else ("development", own)
    return (first, *((f"{value:.3g}", value) for value in stated))


def _at(
    point: Point, rows: Rows, prevalences: Sequence[tuple[str, float]]
) -> PointFigures:
    flagged = rows.scores >= point.threshold
    truth, patient = rows.truth, rows.patient
    low = point.threshold if point.rule_out is None else point.rule_out
    clear = rows.scores < low
    sensitivity = clustered_proportion(flagged[truth], patient[truth])
    specificity = clustered_proportion(~flagged[~truth], patient[~truth])
    undecided = ~flagged & ~clear
    return PointFigures(
        name=point.name,
        threshold=point.threshold,
        rule_out=point.rule_out,
        sensitivity=sensitivity,
        specificity=specificity,
        ruled_out=None
        if point.rule_out is None
        else clustered_proportion(clear[truth], patient[truth]),
        confusion=Confusion(
            flagged_positive=int((flagged & truth).sum()),
            flagged_negative=int((flagged & ~truth).sum()),
            undecided_positive=int((undecided & truth).sum()),
            undecided_negative=int((undecided & ~truth).sum()),
            clear_positive=int((clear & truth).sum()),
            clear_negative=int((clear & ~truth).sum()),
        ),
        at=tuple(
            _at_prevalence(label, share, sensitivity, specificity)
            for label, share in prevalences
        ),
    )


def _at_prevalence(
    label: str, share: float, sensitivity: Proportion, specificity: Proportion
) -> AtPrevalence:
    found = predictive(sensitivity.value, specificity.value, share)
    low, high = predictive_range(sensitivity, specificity, share)
    return AtPrevalence(
        label=label,
        prevalence=share,
        ppv=(found.ppv, low.ppv, high.ppv),
        npv=(found.npv, low.npv, high.npv),
        alarms_per_100=found.alarms_per_100,
    )


def _calibration(rows: Rows) -> CalibrationFigures:
    share = float(rows.truth.mean())
    return CalibrationFigures(
        brier=brier(rows.scores, rows.truth, rows.patient),
        reference=share * (1 - share),
        recalibration=_recalibration(rows),
        bins=calibration_curve(rows.scores, rows.truth, rows.patient, bins=BINS),
    )


def _recalibration(rows: Rows) -> Recalibration | None:
    try:
        return calibration_slope_intercept(rows.scores, rows.truth, rows.patient)
    except Undefined:  # the scores separate the classes: any slope would do
        return None


def _quantity(
    cases: Cases, column: int, groups: Sequence[Attribute]
) -> QuantityFigures:
    question = cases.questions[column]
    values, estimates = cases.values[:, column], cases.scores[:, column]
    known = np.isfinite(values)
    where = np.flatnonzero(known & ~np.isnan(estimates))
    estimates, values, patient = estimates[where], values[where], cases.patient[where]
    some = len(where) > 0
    return QuantityFigures(
        key=question.key,
        meaning=question.meaning,
        unit=question.unit,
        rows=len(where),
        patients=len(np.unique(patient)),
        not_evaluated=int(known.sum()) - len(where),
        mae=mae(estimates, values, patient) if some else None,
        bias=clustered_mean(estimates - values, patient) if some else None,
        attributes=quantity_groups(np.abs(estimates - values), patient, where, groups),
    )


def _any_flag(cases: Cases) -> Proportion | None:
    """Return the share of studies without any live finding that have a flag."""
    live = [
        column
        for column, question in enumerate(cases.questions)
        if question.points and question.mode == "live" and not question.unit
    ]
    absent = cases.truth[:, live] == Label.ABSENT
    negative: Hits = absent.sum(axis=1) == len(live)
    if not live or not negative.any():
        return None
    thresholds = np.array([cases.questions[c].points[0].threshold for c in live])
    above = cases.scores[:, live] >= thresholds
    flagged: Hits = above.sum(axis=1) > 0
    return clustered_proportion(flagged[negative], cases.patient[negative])
