"""Areas and their limits, beside published examples and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from workers.measures import (
    Undefined,
    auc_covariance,
    clustered_auc,
    linear_auc,
    paired_difference,
)

OVARIAN = """
3.0 5.8 10 0   3.2 6.3  5 1   3.9 6.8  3 1   2.8 4.8  6 0
3.2 5.8  3 1   0.9 4.0  5 0   2.5 5.7  8 0   1.6 5.6  5 1
3.8 5.7  5 1   3.7 6.7  6 1   3.2 5.4  4 1   3.8 6.6  6 1
4.1 6.6  5 1   3.6 5.7  5 1   4.3 7.0  4 1   3.6 6.7  4 0
2.3 4.4  6 1   4.2 7.6  4 0   4.0 6.6  6 0   3.5 5.8  6 1
3.8 6.8  7 1   3.0 4.7  8 0   4.5 7.4  5 1   3.7 7.4  5 1
3.1 6.6  6 1   4.1 8.2  6 1   4.3 7.0  5 1   4.3 6.5  4 1
3.2 5.1  5 1   2.6 4.7  6 1   3.3 6.8  6 0   1.7 4.0  7 0
3.7 6.1  5 1   3.3 6.3  7 1   4.2 7.7  6 1   3.5 6.2  5 1
2.9 5.7  9 0   2.1 4.8  7 1   2.8 6.2  8 0   4.0 7.0  7 1
3.3 5.7  6 1   3.7 6.9  5 1   3.6 6.6  5 1
"""
"""Albumin, total protein, 10 less the K-G score, benefit from surgery (0 = none).

Data of DeLong et al. 1988, as the documentation of SAS/STAT prints them with its results
(PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves").
"""


WFNS = ((37, 2), (20, 12), (3, 1), (8, 8), (4, 18))
"""Patients with a good and with a poor outcome, by grade 1 to 5: the data aSAH of pROC.

Robin et al., BMC Bioinformatics 2011; 12: 77. Its tests publish the area and its
variance with all their digits.
"""


def ovarian() -> tuple[np.ndarray, np.ndarray]:
    """Return the scores (3, 43) of albumin, K-G score and protein, and the truth."""
    rows = np.array(OVARIAN.split(), np.float64).reshape(-1, 4)
    albumin, protein, kg, popind = rows.T
    return np.stack([-albumin, kg, -protein]), popind == 0


def test_areas_and_errors_are_those_that_sas_publishes() -> None:
    """Areas, standard errors and Wald limits of DeLong's own data, to their four digits."""
    scores, truth = ovarian()
    each = np.arange(len(truth))
    found = [clustered_auc(s, truth, each, scale="linear") for s in scores]
    assert [
        tuple(round(v, 4) for v in (a.value, a.error, a.low, a.high)) for a in found
    ] == [
        (0.7366, 0.0927, 0.5549, 0.9182),
        (0.7258, 0.1028, 0.5243, 0.9273),
        (0.6478, 0.1000, 0.4518, 0.8439),
    ]


def test_area_and_variance_are_those_that_proc_publishes() -> None:
    """Heavily tied scores, to twelve digits; its limits to four."""
    counts = np.array(WFNS).ravel()
    scores = np.repeat(np.repeat(np.arange(1.0, 6.0), 2), counts)
    truth = np.repeat(np.tile([False, True], 5), counts)
    found = clustered_auc(scores, truth, np.arange(len(truth)), scale="linear")
    assert found.value == pytest.approx(0.823678861788618, abs=1e-12)
    assert found.error**2 == pytest.approx(0.00146991470882363, abs=1e-12)
    assert (round(found.low, 4), round(found.high, 4)) == (0.7485, 0.8988)


def test_the_covariance_is_the_papers_on_every_pair() -> None:
    """Equations 5 to 7 of DeLong et al., all 12 x 31 pairs one by one."""
    scores, truth = ovarian()
    areas, covariance = auc_covariance(scores, truth, np.arange(len(truth)))
    above = [np.sign(s[truth][:, None] - s[~truth][None]) / 2 + 0.5 for s in scores]
    s10 = np.cov([pairs.mean(axis=1) for pairs in above])
    s01 = np.cov([pairs.mean(axis=0) for pairs in above])
    expected = s10 / truth.sum() + s01 / (~truth).sum()
    assert areas == pytest.approx([pairs.mean() for pairs in above], abs=1e-12)
    assert covariance == pytest.approx(expected, abs=1e-12)


def test_differences_are_those_that_sas_publishes() -> None:
    """Against the K-G score: estimates, limits, p, and the joint chi-square."""
    (albumin, kg, protein), truth = ovarian()
    each = np.arange(len(truth))
    found = [paired_difference(s, kg, truth, each) for s in (albumin, protein)]
    assert [
        tuple(round(v, 4) for v in (d.value, d.low, d.high, d.p)) for d in found
    ] == [
        (0.0108, -0.1761, 0.1976, 0.9102),
        (-0.0780, -0.2830, 0.1271, 0.4561),
    ]
    areas, covariance = auc_covariance(np.stack([albumin, kg, protein]), truth, each)
    contrast = np.array([[1, -1, 0], [0, -1, 1]])
    away = contrast @ areas
    chi_square = away @ np.linalg.solve(contrast @ covariance @ contrast.T, away)
    assert round(float(chi_square), 4) == 2.5340


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 5)), min_size=4
    ).filter(lambda rows: 0 < sum(t for _, t, _ in rows) < len(rows))
)
def test_an_area_is_that_of_scikit_learn(rows: list[tuple[int, bool, int]]) -> None:
    """Ties, clusters of any size; the value lies within its limits."""
    scores = np.array([score for score, _, _ in rows], np.float64)
    truth = np.array([present for _, present, _ in rows])
    cluster = np.array([patient for _, _, patient in rows])
    found = clustered_auc(scores, truth, cluster)
    assert found.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_rows_repeated_within_a_patient_add_nothing() -> None:
    """Each row three times: Obuchowski's variance is that of DeLong on the rows once."""
    rng = np.random.default_rng(3)
    truth = rng.random(60) < 0.4
    scores = rng.normal(size=60) + truth
    once = clustered_auc(scores, truth, np.arange(60))
    scores, truth = np.repeat(scores, 3), np.repeat(truth, 3)
    thrice = clustered_auc(scores, truth, np.repeat(np.arange(60), 3))
    assert (thrice.value, thrice.error) == pytest.approx((once.value, once.error))
    unclustered = clustered_auc(scores, truth, np.arange(180))
    assert unclustered.error < 0.6 * thrice.error


def test_the_influence_of_patients_gives_the_variance() -> None:
    """But for the correction for small numbers, with rows of both classes in patients."""
    rng = np.random.default_rng(5)
    cluster = rng.integers(400, size=1500)
    truth = rng.random(1500) < 0.3
    scores = rng.normal(size=1500) + 0.5 * truth + rng.normal(size=400)[cluster]
    found = linear_auc(scores, truth, cluster, 400)
    assert found.influence @ found.influence == pytest.approx(found.variance, rel=0.01)
    assert found.value == clustered_auc(scores, truth, cluster).value


def test_a_perfect_area_has_an_exact_one_sided_limit() -> None:
    """As for a share: of k pairs that share no patient all were ordered rightly."""
    truth = np.arange(70) < 30
    found = clustered_auc(truth.astype(np.float64), truth, np.arange(70))
    exact = binomtest(30, 30, alternative="greater").proportion_ci(0.95)
    assert (found.low, found.high) == pytest.approx((exact.low, 1.0))
    mirrored = clustered_auc((~truth).astype(np.float64), truth, np.arange(70))
    assert (mirrored.low, mirrored.high) == pytest.approx((0.0, 1 - exact.low))


def test_one_class_has_no_area_and_one_patient_no_limits() -> None:
    """The first is said, the second is known to lie between 0 and 1."""
    scores = np.array([1.0, 2.0, 3.0])
    with pytest.raises(Undefined, match="no negative"):
        clustered_auc(scores, np.ones(3, bool), np.arange(3))
    with pytest.raises(Undefined, match="no positive"):
        clustered_auc(scores, np.zeros(3, bool), np.arange(3))
    found = clustered_auc(scores, np.array([True, False, False]), np.arange(3))
    assert (found.low, found.high) == (0.0, 1.0)
