"""The rule: each of its conditions, and none of them."""

import numpy as np
import pytest

from workers.measures import Area, Difference
from workers.shortcuts.verdict import RULE, Left, Verdict, judged


def area(low: float) -> Area:
    """Return an area with this lower limit."""
    return Area(
        value=low + 0.05,
        low=low,
        high=low + 0.1,
        positives=100,
        negatives=100,
        patients=200,
        error=0.02,
        method="",
    )


def left(*, low: float = -0.01, positives: int = 30, negatives: int = 30) -> Left:
    """Return what matching left."""
    return Left(
        on="view",
        caliper=0.1,
        controls=1,
        positives=positives,
        negatives=negatives,
        patients=60,
        balance=area(0.45),
        area=area(0.7),
        lost=Difference(value=0.1, low=low, high=0.2, p=0.1, patients=60),
    )


def test_without_a_reason_there_is_no_shadow() -> None:
    """At the limits themselves: 0.65 does not exceed 0.65, 0 is not above 0."""
    found = judged({"view": area(0.65)}, left(low=0.0))
    assert found == (Verdict.CLEAN, ())


@pytest.mark.parametrize(
    ("low", "what", "says"),
    [
        (0.651, left(), "lower limit exceeds 0.65"),
        (0.5, left(low=0.001), "the area is lower by"),
        (0.5, left(positives=29), "fewer than 30"),
        (0.5, left(negatives=29), "fewer than 30"),
        (0.5, None, "No probe could be measured"),
    ],
)
def test_each_condition_is_enough(low: float, what: Left | None, says: str) -> None:
    """One reason, one sentence."""
    verdict, reasons = judged({"view": area(low)}, what)
    assert verdict is Verdict.SHADOW
    assert len(reasons) == 1
    assert says in reasons[0]


def test_the_rule_names_its_limits() -> None:
    """What is applied is what is written."""
    assert "exceeds 0.65" in RULE
    assert "fewer than 30 matched" in RULE
    assert np.isfinite(area(0.5).value)
