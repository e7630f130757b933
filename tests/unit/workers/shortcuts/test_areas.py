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
