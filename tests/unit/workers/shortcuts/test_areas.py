"""Areas in parts of a sample, judged by counting pairs and by the patient bootstrap."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from workers.measures import bootstrap, clustered_auc
from workers.shortcuts.areas import adjusted, area, lost

RNG = np.random.default_rng(0)
PATIENT = RNG.integers(0, 150, 400)
TRUTH = RNG.random(400) < 0.45
SCORES = RNG.normal(size=400) + TRUTH + RNG.normal(size=150)[PATIENT] / 2
PART = np.flatnonzero(RNG.random(400) < 0.6)


def test_an_area_of_rows_is_that_of_the_rows_alone() -> None:
    """As if there were no others."""
    found = area(SCORES, TRUTH, PATIENT, PART)
    assert found == clustered_auc(SCORES[PART], TRUTH[PART], PATIENT[PART])


def test_what_is_lost_is_raw_minus_part() -> None:
    """By scikit-learn's areas."""
    found = lost(SCORES, TRUTH, PATIENT, PART)
    raw = roc_auc_score(TRUTH, SCORES)
    part = roc_auc_score(TRUTH[PART], SCORES[PART])
    assert found.value == pytest.approx(raw - part, abs=1e-12)


def test_the_interval_of_what_is_lost_is_that_of_the_patient_bootstrap() -> None:
    """Within an eighth: patients are drawn, both areas computed again."""
    inside = np.isin(np.arange(400), PART)

    def again(rows: np.ndarray) -> float:
        part = rows[inside[rows]]
        raw = clustered_auc(SCORES[rows], TRUTH[rows], PATIENT[rows]).value
        return raw - clustered_auc(SCORES[part], TRUTH[part], PATIENT[part]).value

    drawn = bootstrap(again, PATIENT, runs=300, seed=0)
    found = lost(SCORES, TRUTH, PATIENT, PART)
    margin = (found.high - found.low) / 2
    assert margin == pytest.approx(1.96 * float(np.std(drawn)), rel=0.12)


def test_nothing_is_lost_among_all_rows() -> None:
    """The difference of an area with itself is 0."""
    assert lost(SCORES, TRUTH, PATIENT, np.arange(400)).value == 0


def test_an_adjusted_area_counts_pairs_within_strata() -> None:
    """The share of rightly ordered pairs among those that agree in the stratum."""
    stratum = RNG.integers(0, 3, 400)
    strata = [np.flatnonzero(stratum == value) for value in range(3)]
    right = total = 0.0
    for rows in strata:
        positive = SCORES[rows][TRUTH[rows]][:, None]
        negative = SCORES[rows][~TRUTH[rows]]
        right += float((positive > negative).sum())
        total += positive.size * negative.size
    found = adjusted(SCORES, TRUTH, PATIENT, strata)
    assert found.value == pytest.approx(right / total, abs=1e-12)


def test_one_stratum_changes_nothing() -> None:
    """Its limits are those of the area itself, but for the smaller correction."""
    whole, found = (
        area(SCORES, TRUTH, PATIENT),
        adjusted(SCORES, TRUTH, PATIENT, [np.arange(400)]),
    )
    assert found.value == pytest.approx(whole.value, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=1e-3)


def test_strata_in_which_all_is_right_have_a_lower_limit() -> None:
    """At 1 the limit is one-sided: forty pairs of patients refute 0.92."""
    truth = np.arange(80) % 2 == 0
    halves = [np.arange(40), np.arange(40, 80)]
    found = adjusted(truth.astype(np.float64), truth, np.arange(80), halves)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.05 ** (1 / 40))


def test_strata_of_few_rows_count_by_their_pairs() -> None:
    """One positive and one negative make a stratum; one without a pair adds nothing."""
    truth = np.arange(200) % 2 == 0
    right = np.arange(200) // 2 % 4 > 0
    scores = np.where(truth, 1.0, 0.5 + right[np.arange(200)] * -1.0 + ~right)
    patient = np.random.default_rng(1).integers(0, 90, 200)
    couples = [np.array([2 * n, 2 * n + 1]) for n in range(100)]
    found = adjusted(scores, truth, patient, [*couples, np.array([0])])
    assert found.value == pytest.approx(0.75)
    # shares of independent couples: the patients are as good as those
    assert found.error == pytest.approx(np.sqrt(0.75 * 0.25 / 100), rel=0.4)


def test_the_interval_of_an_adjusted_area_is_that_of_the_patient_bootstrap() -> None:
    """Within an eighth: patients are drawn, the share of pairs counted again."""
    stratum = np.random.default_rng(2).integers(0, 30, 400)

    def again(rows: np.ndarray) -> float:
        strata = [np.flatnonzero(stratum[rows] == number) for number in range(30)]
        return adjusted(SCORES[rows], TRUTH[rows], PATIENT[rows], strata).value

    drawn = bootstrap(again, PATIENT, runs=300, seed=0)
    found = adjusted(
        SCORES,
        TRUTH,
        PATIENT,
        [np.flatnonzero(stratum == number) for number in range(30)],
    )
    assert found.error == pytest.approx(drawn.std(), rel=0.125)
