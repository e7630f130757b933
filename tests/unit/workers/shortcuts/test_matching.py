"""Greedy matching within a caliper: who may be paired with whom."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from workers.shortcuts.matching import CALIPER_SD, match


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(4, 80),
    controls=st.integers(1, 3),
    kinds=st.integers(1, 30),
)
def test_pairs_are_alike_unused_and_of_other_patients(
    seed: int, count: int, controls: int, kinds: int
) -> None:
    """Whatever the log odds, ties among them, and patients with both classes."""
    rng = np.random.default_rng(seed)
    logit = rng.integers(0, kinds, count) / 7.0
    truth = rng.random(count) < 0.4
    truth[:2] = (True, False)
    patient = rng.integers(0, count // 2, count)
    found = match(logit, truth, patient, seed=seed, controls=controls)
    used = [*found.cases.tolist(), *found.controls.ravel().tolist()]
    assert len(set(used)) == len(used)
    for case, others in zip(found.cases, found.controls, strict=True):
        assert (truth[others] != truth[case]).all()
        assert (patient[others] != patient[case]).all()
        assert (np.abs(logit[others] - logit[case]) <= found.caliper).all()


def test_each_case_gets_the_nearest_control() -> None:
    """With one case, the nearest control of another patient."""
    logit = np.array([0.0, 0.01, 0.02, 0.03, -0.5, 0.5])
    truth = np.array([True, False, False, False, False, False])
    patient = np.array([0, 0, 1, 2, 3, 4])
    found = match(logit, truth, patient, seed=0)
    assert found.cases.tolist() == [0]
    assert found.controls.tolist() == [[2]]


def test_the_caliper_is_a_fifth_of_the_pooled_deviation() -> None:
    """As Austin recommends, of the log odds of both classes."""
    rng = np.random.default_rng(0)
    logit, truth = rng.normal(size=200), np.arange(200) % 2 == 0
    pooled = np.sqrt((logit[truth].var() + logit[~truth].var()) / 2)
    found = match(logit, truth, np.arange(200), seed=0)
    assert found.caliper == CALIPER_SD * pooled


def test_matching_balances_what_it_matches_for() -> None:
    """A probe that tells the classes apart no longer does so on matched rows."""
    rng = np.random.default_rng(0)
    truth = rng.random(1000) < 0.4
    logit = rng.normal(size=1000) + 1.0 * truth
    found = match(logit, truth, np.arange(1000), seed=0)
    assert roc_auc_score(truth, logit) > 0.72
    assert abs(roc_auc_score(truth[found.rows], logit[found.rows]) - 0.5) < 0.02
    assert len(found.cases) > 250


def test_a_seed_decides_the_order() -> None:
    """The same seed gives the same rows, another one others."""
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.5
    logit = rng.normal(size=300) + truth
    one, again, other = (
        match(logit, truth, np.arange(300), seed=seed) for seed in (1, 1, 2)
    )
    assert one.rows.tolist() == again.rows.tolist()
    assert one.rows.tolist() != other.rows.tolist()


def test_the_rarer_class_are_the_cases() -> None:
    """Two controls to each, where positives are the commoner ones too."""
    truth = np.arange(90) % 3 != 0
    found = match(np.zeros(90), truth, np.arange(90), seed=0, controls=2)
    assert not truth[found.cases].any()
    assert found.controls.shape == (30, 2)
