"""What statuses mean, and when a delivery is tried again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.domain import ObjectKind, Sha256, SopClassUid, SopInstanceUid, StudyUid
from dicom_node.outgoing import (
    DOUBTFUL_AGE_S,
    SLOWLY_S,
    Meaning,
    Outcome,
    Outgoing,
    Verdict,
    judged,
    meaning,
    next_attempt,
)
from dicom_node.peers import RetryPolicy

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

PARCEL = Outgoing(
    delivery=7,
    path=Path("x.dcm"),
    kind=ObjectKind.REPORT,
    study_uid=StudyUid("1.2"),
    sop_class_uid=SopClassUid("1.2.840.10008.5.1.4.1.1.88.34"),
    sop_instance_uid=SopInstanceUid("1.2.3"),
    sha256=Sha256("0" * 64),
)


@pytest.mark.parametrize(
    ("status", "means"),
    [
        (0x0000, Meaning.STORED),
        (0x0001, Meaning.STORED),
        (0x0107, Meaning.STORED),
        (0x0110, Meaning.NOT_NOW),
        (0x0111, Meaning.DUPLICATE),
        (0x0117, Meaning.NEVER),
        (0x0122, Meaning.NEVER),
        (0x0124, Meaning.NEVER),
        (0x0210, Meaning.NEVER),
        (0x0211, Meaning.NEVER),
        (0x0212, Meaning.NEVER),
        (0x0213, Meaning.NOT_NOW),
        (0xA700, Meaning.NOT_NOW),
        (0xA7FF, Meaning.NOT_NOW),
        (0xA800, Meaning.UNCLEAR),
        (0xA900, Meaning.UNCLEAR),
        (0xA9FF, Meaning.UNCLEAR),
        (0xB000, Meaning.STORED),
        (0xBFFF, Meaning.STORED),
        (0xC000, Meaning.UNCLEAR),
        (0xCFFF, Meaning.UNCLEAR),
        (0xFF00, Meaning.UNCLEAR),
        (0x1234, Meaning.UNCLEAR),
    ],
)
def test_a_status_means_what_the_standard_says(status: int, means: Meaning) -> None:
    """PS3.7 Annex C and PS3.4 Table B.2-1, with the ends of their ranges."""
    assert meaning(status)[0] is means


@given(st.integers(0, 0xFFFF))
def test_every_status_leads_to_one_outcome_that_names_it(status: int) -> None:
    """No status is unforeseen; all but plain success stand in the detail."""
    outcome = judged(PARCEL, status)
    assert outcome.delivery == PARCEL.delivery
    assert outcome.detail == "stored" or f"0x{status:04X}" in outcome.detail
    stored = meaning(status)[0] is Meaning.STORED
    assert (outcome.verdict is Verdict.SENT) == stored


def test_a_duplicate_alone_is_no_delivery() -> None:
    """0x0111 without a query that finds the instance is a failure."""
    assert judged(PARCEL, 0x0111).verdict is Verdict.DEAD


POLICY = RetryPolicy(
    first_s=10, factor=2, cap_s=60, jitter=0.1, max_attempts=None, max_age_s=200
)


def waits(policy: RetryPolicy, attempts: int, jitter: float = 0.0) -> float | None:
    """Return the seconds until the next attempt, or None."""
    at = next_attempt(policy, attempts, NOW, jitter=jitter)
    return None if at is None else (at - NOW).total_seconds()


def test_waits_grow_to_the_cap_and_end_with_the_age() -> None:
    """10, 20, 40, then 60 s; after 200 s of waiting nothing more."""
    assert [waits(POLICY, n) for n in range(1, 8)] == [10, 20, 40, 60, 60, 60, None]


def test_attempts_are_limited() -> None:
    """With max_attempts the last attempt is the last."""
    policy = RetryPolicy(max_attempts=2, max_age_s=None)
    assert [waits(policy, n) for n in (1, 2, 3)] == [5, None, None]


def test_jitter_spreads_by_its_fraction() -> None:
    """-1 and 1 are the ends: ten per cent less and more."""
    assert waits(POLICY, 1, -1.0) == pytest.approx(9)
    assert waits(POLICY, 1, 1.0) == pytest.approx(11)


def test_an_outcome_asks_for_patience() -> None:
    """What somebody has to mend waits longer than the policy says."""
    outcome = Outcome.slowly(PARCEL, "mend it")
    at = next_attempt(POLICY, 1, NOW, jitter=0, outcome=outcome)
    assert at == NOW + timedelta(seconds=SLOWLY_S)


def test_a_doubtful_outcome_is_given_up_after_a_day() -> None:
    """Even where the policy would go on for a week."""
    policy = RetryPolicy(first_s=3600, cap_s=3600, max_age_s=7 * 24 * 3600)
    outcome = Outcome.doubtful(PARCEL, "?")
    hours = int(DOUBTFUL_AGE_S / 3600)
    assert next_attempt(policy, hours, NOW, jitter=0, outcome=outcome) is not None
    assert next_attempt(policy, hours + 1, NOW, jitter=0, outcome=outcome) is None
    assert next_attempt(policy, hours + 1, NOW, jitter=0) is not None


@given(
    attempts=st.integers(1, 3000),
    jitter=st.floats(-1, 1),
    first_s=st.floats(0.1, 60),
    factor=st.floats(1, 10),
)
def test_a_next_attempt_lies_ahead_and_within_the_cap(
    attempts: int, jitter: float, first_s: float, factor: float
) -> None:
    """However many attempts were made, the wait is positive and bounded."""
    policy = RetryPolicy(
        first_s=first_s, factor=factor, cap_s=900, jitter=0.5, max_age_s=1e9
    )
    wait = waits(policy, attempts, jitter)
    assert wait is not None
    assert 0 < wait <= 900 * 1.5
