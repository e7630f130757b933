"""What a score says of its threshold, for any score and any threshold."""

from hypothesis import assume, given
from hypothesis import strategies as st

from dicom_node.domain import Flag, OperatingPoint, Sha256

NUMBERS = st.floats(0, 1)


def point(
    threshold: float, rule_out: float | None = None, tolerance: float = 0.0
) -> OperatingPoint:
    """Return an operating point."""
    return OperatingPoint(
        name="any",
        threshold=threshold,
        rule_out=rule_out,
        tolerance=tolerance,
        threshold_set="set",
        threshold_set_digest=Sha256("0" * 64),
    )


@given(NUMBERS, NUMBERS)
def test_without_a_band_a_threshold_decides(score: float, threshold: float) -> None:
    """At or above, or below; nothing is indeterminate."""
    expected = Flag.ABOVE if score >= threshold else Flag.BELOW
    assert point(threshold).flag_of(score) is expected


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_band_only_makes_negatives_indeterminate(
    score: float, threshold: float, rule_out: float
) -> None:
    """What is flagged stays flagged; below the band is below."""
    assume(rule_out < threshold)
    flag = point(threshold, rule_out).flag_of(score)
    assert (flag is Flag.ABOVE) == (score >= threshold)
    assert (flag is Flag.BELOW) == (score < rule_out)


@given(NUMBERS, NUMBERS, st.none() | NUMBERS, st.floats(0, 0.2))
def test_a_tolerance_only_makes_scores_indeterminate(
    score: float, threshold: float, rule_out: float | None, tolerance: float
) -> None:
    """Only those nearer to an edge of the band than it."""
    assume(rule_out is None or rule_out < threshold)
    exact = point(threshold, rule_out).flag_of(score)
    flag = point(threshold, rule_out, tolerance).flag_of(score)
    edges = [threshold, threshold if rule_out is None else rule_out]
    near = any(abs(score - edge) < tolerance for edge in edges)
    assert flag is (Flag.INDETERMINATE if near else exact)


@given(st.lists(NUMBERS, min_size=2, max_size=9), NUMBERS, st.none() | NUMBERS)
def test_a_higher_score_never_says_less(
    scores: list[float], threshold: float, rule_out: float | None
) -> None:
    """Below, indeterminate, above: in this order, without a tolerance."""
    assume(rule_out is None or rule_out < threshold)
    order = [Flag.BELOW, Flag.INDETERMINATE, Flag.ABOVE]
    one = point(threshold, rule_out)
    ranks = [order.index(one.flag_of(score)) for score in sorted(scores)]
    assert ranks == sorted(ranks)
