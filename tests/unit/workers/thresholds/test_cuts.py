"""Which threshold a rule takes: every one reaches its target, on whatever scores."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_curve

from dicom_node.errors import Permanent
from tests.operated import studies
from workers.thresholds.cuts import cut_for, cuts_of, ends_for
from workers.thresholds.rules import (
    PositivePredictive,
    RuleInOut,
    Sensitivity,
    Specificity,
    Youden,
)

SHARES = st.floats(0.01, 1.0)
COARSE = st.integers(0, 30).map(lambda n: n / 30)
"""Scores with many ties."""
FINE = st.floats(0.0, 1.0)
"""Scores of which some differ by less than float32 can tell."""


@st.composite
def scored(draw: Any) -> tuple[Any, Any]:
    """Return scores and labels, both classes among them."""
    n = draw(st.integers(2, 60))
    elements = draw(st.sampled_from([COARSE, FINE]))
    scores = draw(arrays(np.float64, n, elements=elements))
    truth = draw(arrays(np.bool_, n))
    truth[:2] = [True, False]
    return scores, truth


def shares(scores: Any, truth: Any, threshold: float) -> tuple[float, float]:
    """Return sensitivity and specificity at a threshold."""
    flagged = scores >= threshold
    return float(flagged[truth].mean()), float((~flagged[~truth]).mean())


@given(scored(), SHARES)
def test_a_sensitivity_is_reached_and_no_higher_threshold_reaches_it(
    given_: Any, share: float
) -> None:
    """Of all thresholds that find enough, the highest: it flags least besides."""
    scores, truth = given_
    ends = ends_for(Sensitivity(at_least=share), cuts_of(scores, truth))
    assert ends is not None
    found, _ = shares(scores, truth, ends.threshold)
    assert found >= share - 1e-9
    higher = scores[scores.astype(np.float32) > np.float32(ends.threshold)]
    above = higher[higher > scores[scores >= ends.threshold].min()]
    for one in above:
        if np.float32(one) > np.float32(scores[scores >= ends.threshold].min()):
            assert shares(scores, truth, one)[0] < share


@given(scored(), SHARES)
def test_a_specificity_is_reached_with_all_that_can_be_found(
    given_: Any, share: float
) -> None:
    """No other threshold that keeps it finds more."""
    scores, truth = given_
    ends = ends_for(Specificity(at_least=share), cuts_of(scores, truth))
    assert ends is not None
    found, kept = shares(scores, truth, ends.threshold)
    assert kept >= share - 1e-9
    for one in np.unique(scores.astype(np.float32)):
        other = shares(scores.astype(np.float32), truth, float(one))
        assert other[1] < share - 1e-9 or other[0] <= found + 1e-9


@given(scored(), st.floats(0.05, 1.0), st.floats(0.01, 0.9))
def test_a_ppv_is_reached_at_its_prevalence_or_nothing_is_chosen(
    given_: Any, share: float, prevalence: float
) -> None:
    """By Bayes' rule, from sensitivity and specificity at the threshold."""
    scores, truth = given_
    rule = PositivePredictive(at_least=share, prevalence=prevalence)
    ends = ends_for(rule, cuts_of(scores, truth))
    if ends is None:
        return
    found, kept = shares(scores, truth, ends.threshold)
    right, wrong = found * prevalence, (1 - kept) * (1 - prevalence)
    assert right / (right + wrong) >= share - 1e-9


@given(scored())
def test_youden_is_that_of_scikit_learn(given_: Any) -> None:
    """The highest distance of the ROC curve from the diagonal."""
    scores, truth = given_
    scores = scores.astype(np.float32).astype(np.float64)
    ends = ends_for(Youden(), cuts_of(scores, truth))
    assert ends is not None
    fpr, tpr, _ = roc_curve(truth, scores)
    expected = pytest.approx(float((tpr - fpr).max()))
    assert sum(shares(scores, truth, ends.threshold)) - 1 == expected


@given(scored(), SHARES, SHARES)
def test_both_ends_of_a_pair_reach_their_targets(
    given_: Any, inside: float, outside: float
) -> None:
    """The band between them lies in order; where none is needed there is none."""
    scores, truth = given_
    rule = RuleInOut(
        rule_in=Specificity(at_least=inside), rule_out=Sensitivity(at_least=outside)
    )
    ends = ends_for(rule, cuts_of(scores, truth))
    assert ends is not None
    assert shares(scores, truth, ends.threshold)[1] >= inside - 1e-9
    assert shares(scores, truth, ends.lowest)[0] >= outside - 1e-9
    assert ends.rule_out is None or ends.rule_out < ends.threshold


@given(scored(), SHARES, SHARES)
def test_more_sensitivity_is_no_higher_threshold(
    given_: Any, one: float, other: float
) -> None:
    """Who wants to find more flags more."""
    cuts = cuts_of(*given_)
    low, high = sorted((one, other))
    cut = (
        cut_for(Sensitivity(at_least=low), cuts),
        cut_for(Sensitivity(at_least=high), cuts),
    )
    assert cut[0] is not None
    assert cut[1] is not None
    assert cut[0] <= cut[1]


@given(scored(), SHARES)
def test_float32_flags_what_float64_flags(given_: Any, share: float) -> None:
    """A score that a worker computes in fewer digits lies on the same side."""
    scores, truth = given_
    ends = ends_for(Sensitivity(at_least=share), cuts_of(scores, truth))
    assert ends is not None
    short = scores.astype(np.float32).astype(np.float64)
    assert np.array_equal(scores >= ends.threshold, short >= ends.threshold)


def test_a_threshold_lies_midway_to_the_next_score_below() -> None:
    """Rounding has as far to go on one side as on the other."""
    cuts = cuts_of(np.array([0.9, 0.5, 0.1]), np.array([True, True, False]))
    assert cuts.threshold(1) == pytest.approx(0.7)
    assert cuts.threshold(2) == pytest.approx(0.3)
    assert cuts.threshold(0) > 0.9
    assert cuts.threshold(3) < 0.1


def test_weights_count_studies() -> None:
    """A study of weight two is there twice, one of weight nought is not."""
    sample = studies(60, 1)
    rng = np.random.default_rng(2)
    weights = rng.integers(0, 3, len(sample.scores))
    rows = np.repeat(np.arange(len(weights)), weights)
    rule = Sensitivity(at_least=0.9)
    weighted = cuts_of(sample.scores, sample.truth, weights.astype(np.float64))
    repeated = cuts_of(sample.scores[rows], sample.truth[rows])
    assert ends_for(rule, weighted) == ends_for(rule, repeated)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    """In a sentence, before anything is computed."""
    with pytest.raises(Permanent, match="a sensitivity lies above 0"):
        Sensitivity(at_least=share)
    with pytest.raises(Permanent, match="a prevalence lies between"):
        PositivePredictive(at_least=0.5, prevalence=share)
