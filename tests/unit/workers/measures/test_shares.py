"""Shares, curves, calibration, retrieval: beside scikit-learn, scipy and statsmodels' kin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.calibration import calibration_curve as sklearn_curve
from sklearn.linear_model import LogisticRegression

from workers.measures import (
    Undefined,
    average_precision,
    average_precisions,
    bootstrap,
    brier,
    calibration_curve,
    calibration_slope_intercept,
    clustered_proportion,
    difference_of_hits,
    exact_proportion,
    linear_auc,
    linear_mean,
    linear_share,
    lower_limit,
    mae,
    mean_average_precision,
    pr,
    precision_at_k,
    predictive,
    roc,
    simultaneous_gaps,
    threshold_at_sensitivity,
    youden,
)

SCORED = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2).filter(
    lambda rows: 0 < sum(t for _, t in rows) < len(rows)
)


def columns(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    """Return scores in [0, 1] and truth."""
    return (
        np.array([score / 10 for score, _ in rows]),
        np.array([present for _, present in rows]),
    )


@settings(max_examples=40)
@given(SCORED)
def test_curves_are_those_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    """ROC, precision-recall and average precision, ties and all."""
    scores, truth = columns(rows)
    found = roc(scores, truth)
    fpr, tpr, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert found.sensitivity == pytest.approx(tpr, abs=1e-12)
    assert 1 - found.specificity == pytest.approx(fpr, abs=1e-12)
    assert found.thresholds.tolist() == thresholds.tolist()
    precise = pr(scores, truth)
    precision, recall, _ = metrics.precision_recall_curve(truth, scores)
    assert precise.precision[::-1] == pytest.approx(precision[:-1], abs=1e-12)
    assert precise.recall[::-1] == pytest.approx(recall[:-1], abs=1e-12)
    assert average_precision(scores, truth) == pytest.approx(
        metrics.average_precision_score(truth, scores), abs=1e-12
    )


@settings(max_examples=40)
@given(SCORED)
def test_the_brier_score_is_that_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    """The mean, whatever the clusters are."""
    scores, truth = columns(rows)
    found = brier(scores, truth, np.zeros(len(truth), np.int64))
    assert found.value == pytest.approx(metrics.brier_score_loss(truth, scores))


def test_the_calibration_curve_is_that_of_scikit_learn() -> None:
    """Bins by quantile: what was said, and what came true."""
    rng = np.random.default_rng(2)
    scores = rng.random(500)
    truth = rng.random(500) < scores**2
    found = calibration_curve(scores, truth, np.arange(500))
    observed, predicted = sklearn_curve(truth, scores, n_bins=10, strategy="quantile")
    assert [one.predicted for one in found] == pytest.approx(predicted.tolist())
    assert [one.observed.value for one in found] == pytest.approx(observed.tolist())


def test_recalibration_is_logistic_regression() -> None:
    """Slope and intercept of scikit-learn's, without penalty; the shift by itself."""
    rng = np.random.default_rng(4)
    logits = rng.normal(size=800)
    truth = rng.random(800) < 1 / (1 + np.exp(-(0.4 + 0.6 * logits)))
    scores = 1 / (1 + np.exp(-logits))
    found = calibration_slope_intercept(scores, truth, np.arange(800))
    judge = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cg")
    judge.fit(logits[:, None], truth)
    assert found.slope.value == pytest.approx(judge.coef_[0, 0], abs=1e-6)
    assert found.intercept.value == pytest.approx(judge.intercept_[0], abs=1e-6)
    assert found.slope.low < 0.6 < found.slope.high
    shifted = 1 / (1 + np.exp(-(logits + found.in_the_large.value)))
    assert shifted.mean() == pytest.approx(truth.mean())


def test_scores_that_separate_have_no_slope() -> None:
    """It would be infinite."""
    scores = np.linspace(0.01, 0.99, 40)
    with pytest.raises(Undefined, match="separate"):
        calibration_slope_intercept(scores, scores > 0.5, np.arange(40))


@settings(max_examples=40)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_limits_of_single_rows_are_those_of_scipy(counts: tuple[int, int]) -> None:
    """Wilson's, Clopper and Pearson's, and the one-sided one, where nobody is there twice."""
    hits, n = counts
    rows, each = np.arange(n) < hits, np.arange(n)
    found = clustered_proportion(rows, each)
    wilson = binomtest(hits, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))
    exact = exact_proportion(rows, each)
    judged = binomtest(hits, n).proportion_ci(method="exact")
    assert (exact.low, exact.high) == pytest.approx((judged.low, judged.high))
    one_sided = binomtest(hits, n, alternative="greater").proportion_ci(0.95)
    assert lower_limit(rows, each) == pytest.approx(one_sided.low)


def test_rows_of_one_patient_that_agree_count_once() -> None:
    """Each row three times gives the limits of the rows once; so does a patient's alone."""
    rng = np.random.default_rng(7)
    hits, each = rng.random(80) < 0.7, np.arange(80)
    once = clustered_proportion(hits, each)
    thrice = clustered_proportion(np.repeat(hits, 3), np.repeat(each, 3))
    assert thrice.effective == pytest.approx(80, rel=0.01)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-3)


def test_fifty_nine_patients_without_a_miss_show_95_percent() -> None:
    """And 58 do not, however many studies they have."""
    shown = lower_limit(np.ones(59, bool), np.arange(59))
    missed = lower_limit(np.ones(58 * 4, bool), np.repeat(np.arange(58), 4))
    assert shown >= 0.95 > missed


def test_a_share_of_nothing_is_undefined() -> None:
    """As is an area of nothing."""
    with pytest.raises(Undefined):
        clustered_proportion(np.zeros(0, bool), np.zeros(0, np.int64))


def test_a_difference_of_shares_is_mcnemars() -> None:
    """Where each patient has one row: (b - c) / n, with its variance."""
    a, b = np.arange(100) < 60, np.arange(100) >= 50
    found = difference_of_hits(a, b, np.arange(100))
    assert found.value == pytest.approx(0.1)
    away = a.astype(float) - b
    assert (found.high - found.value) / 1.959964 == pytest.approx(
        away.std(ddof=1) / 10, rel=1e-6
    )


def test_packs_that_always_agree_may_yet_differ() -> None:
    """Of 20 patients none differed: up to 17 % might."""
    hits = np.arange(20) < 12
    found = difference_of_hits(hits, hits, np.arange(20))
    assert (found.value, round(found.high, 3), found.p) == (0.0, 0.168, 1.0)


def test_predictive_values_are_bayes_rule() -> None:
    """At 95 % and 90 %, one in a hundred: one flag in eleven is right."""
    found = predictive(0.95, 0.90, 0.01)
    assert found.ppv == pytest.approx(0.0095 / 0.1085)
    assert found.npv == pytest.approx(0.891 / 0.8915)
    assert found.alarms_per_100 == pytest.approx(10.85)


def test_simultaneous_limits_are_those_of_the_bootstrap_by_patient() -> None:
    """max |t| over resampled patients; wider than one interval by itself."""
    rng = np.random.default_rng(11)
    size, rows = 250, 700
    cluster = rng.integers(size, size=rows)
    truth = rng.random(rows) < 0.4
    scores = rng.normal(size=rows) + truth + 0.5 * rng.normal(size=size)[cluster]
    group = rng.integers(4, size=rows)

    def areas(drawn: NDArray[np.int64]) -> list[float]:
        s, t, c, g = scores[drawn], truth[drawn], cluster[drawn], group[drawn]
        return [
            linear_auc(s[g == k], t[g == k], c[g == k], size).value
            - linear_auc(s[g != k], t[g != k], c[g != k], size).value
            for k in range(4)
        ]

    runs: list[list[float]] = []

    def noted(drawn: NDArray[np.int64]) -> float:
        runs.append(areas(drawn))
        return 0.0

    found = simultaneous_gaps(
        [
            (
                linear_auc(scores[inside], truth[inside], cluster[inside], size),
                linear_auc(scores[~inside], truth[~inside], cluster[~inside], size),
            )
            for inside in (group == k for k in range(4))
        ]
    )
    bootstrap(noted, cluster, runs=300)
    away = np.array(runs) - areas(np.arange(rows))
    errors = away.std(axis=0)
    critical = np.quantile((np.abs(away) / errors).max(axis=1), 0.95)
    margins = [gap.high - gap.value for gap in found]
    assert margins == pytest.approx((critical * errors).tolist(), rel=0.15)
    assert all(m > 2.2 * e for m, e in zip(margins, errors, strict=True))


def test_gaps_of_shares_near_one_are_not_called_too_soon() -> None:
    """No gap is there: of 150 draws of four groups at 99 %, few show one."""
    rng = np.random.default_rng(3)
    shown = 0
    for _ in range(150):
        hits, group = rng.random(800) < 0.99, rng.integers(4, size=800)
        pairs = [
            tuple(
                linear_share(hits[rows], np.flatnonzero(rows), 800)
                for rows in (group == k, group != k)
            )
            for k in range(4)
        ]
        gaps = simultaneous_gaps([(inside, outside) for inside, outside in pairs])
        shown += any(gap.shows for gap in gaps)
    assert shown / 150 < 0.09


def test_the_mean_error_is_that_of_scikit_learn() -> None:
    """With limits that widen where patients have several rows."""
    rng = np.random.default_rng(0)
    values, cluster = rng.uniform(0, 200, 300), np.repeat(np.arange(100), 3)
    estimates = values + 8 * np.repeat(rng.normal(size=100), 3)
    found = mae(estimates, values, cluster)
    assert found.value == pytest.approx(metrics.mean_absolute_error(values, estimates))
    alone = mae(estimates, values, np.arange(300))
    assert found.high - found.low > 1.6 * (alone.high - alone.low)
    assert linear_mean(values, np.arange(300)).variance == pytest.approx(
        values.var(ddof=1) / 300
    )


def test_retrieval_is_that_of_scikit_learn() -> None:
    """Average precision of each query's ranking, and the share among the first k."""
    rng = np.random.default_rng(0)
    relevant = rng.random((20, 50)) < 0.3
    nearness = np.tile(np.arange(50, 0, -1), (20, 1))
    judged = [
        metrics.average_precision_score(row, near)
        for row, near in zip(relevant, nearness, strict=True)
    ]
    assert average_precisions(relevant).tolist() == pytest.approx(judged)
    assert mean_average_precision(relevant) == pytest.approx(np.mean(judged))
    assert precision_at_k(relevant, 5).tolist() == relevant[:, :5].mean(1).tolist()
    with pytest.raises(Undefined):
        precision_at_k(relevant, 51)


def test_the_threshold_keeps_the_sensitivity_that_was_asked_for() -> None:
    """The highest one that 19 of 20 positives reach; 9 of 10 are 90 %."""
    scores = np.arange(40, dtype=np.float64)
    truth = scores >= 20
    assert threshold_at_sensitivity(scores, truth, sensitivity=0.95) == 21.0
    ten = scores[:10]
    assert threshold_at_sensitivity(ten, ten >= 0, sensitivity=0.9) == 1.0


def test_youden_takes_the_highest_of_the_best() -> None:
    """Flagging nothing is no choice."""
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    assert youden(scores, np.array([False, False, True, True])) == 0.3
    assert youden(scores, np.array([True, True, False, False])) == 0.1
