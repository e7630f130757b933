"""What follows from a question about an object that was sent."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.verification import (
    LOST,
    MENDING_S,
    WEEK_S,
    Finding,
    Found,
    How,
    Patience,
    Ruling,
    Step,
    ruled,
)

SENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
EASY, STRICT = Patience(), Patience(demanded=True)


def ruling(found: Found, age_s: float, patience: Patience = EASY) -> Ruling:
    """Return what follows where the object was sent so many seconds ago."""
    finding = Finding(delivery=1, found=found, detail="said so", how=How.QUERY)
    now = SENT + timedelta(seconds=age_s)
    return ruled(finding, sent_at=SENT, now=now, patience=patience)


def wait_s(found: Found, age_s: float, patience: Patience = EASY) -> float | None:
    """Return how long until the next question, or None if there is none."""
    at = ruling(found, age_s, patience).at
    if at is None:
        return None
    return (at - SENT).total_seconds() - age_s


@pytest.mark.parametrize("patience", [EASY, STRICT], ids=["auto", "demanded"])
@pytest.mark.parametrize(
    ("found", "age_s", "step"),
    [
        (Found.THERE, 0, Step.DELIVERED),
        (Found.THERE, WEEK_S, Step.DELIVERED),
        (Found.CONFLICT, 0, Step.DEAD),
        (Found.LOST, 0, Step.RESEND),
        (Found.MISSING, 0, Step.ASK),
        (Found.MISSING, 899, Step.ASK),
        (Found.MISSING, 900, Step.RESEND),
        (Found.REQUESTED, 0, Step.ASK),
        (Found.UNREACHABLE, 0, Step.ASK),
        (Found.UNREACHABLE, WEEK_S - 1, Step.ASK),
        (Found.LATER, 899, Step.ASK),
    ],
)
def test_what_is_known_decides(
    found: Found, age_s: float, step: Step, patience: Patience
) -> None:
    """However much the peer's word is worth, what was seen counts."""
    assert ruling(found, age_s, patience).step is step


@pytest.mark.parametrize(
    ("found", "age_s"),
    [(Found.UNABLE, 0), (Found.LATER, 900), (Found.UNREACHABLE, WEEK_S)],
)
def test_what_cannot_be_known_is_believed_and_said(found: Found, age_s: float) -> None:
    """Delivered, not verified, and why."""
    assert ruling(found, age_s) == Ruling(
        step=Step.DELIVERED, detail="sent, not verified: said so"
    )


@pytest.mark.parametrize(
    ("found", "slowly_s"), [(Found.UNABLE, MENDING_S), (Found.LATER, 300)]
)
def test_what_has_to_be_known_is_asked_slowly_then_dead(
    found: Found, slowly_s: float
) -> None:
    """Where verification is demanded, a word alone is never a delivery."""
    assert wait_s(found, 900, STRICT) == slowly_s
    assert ruling(found, WEEK_S - 1, STRICT).step is Step.ASK
    assert ruling(found, WEEK_S, STRICT).detail == "never verified: said so"


def test_questions_come_less_and_less_often() -> None:
    """After 2, 10, 60, then every 300 s, the last one at the end of the patience."""
    age_s, ages_s = 0.0, []
    while (wait := wait_s(Found.MISSING, age_s)) is not None:
        age_s += wait
        ages_s.append(age_s)
    assert ages_s == [2, 12, 72, 372, 672, 900]
    assert ruling(Found.MISSING, age_s) == Ruling(step=Step.RESEND, detail=LOST)


def test_a_report_has_its_own_patience() -> None:
    """A request for commitment is followed by a question when it is over."""
    assert wait_s(Found.REQUESTED, 0, Patience(commitment_s=7)) == 7


@given(
    found=st.sampled_from(Found),
    age_s=st.floats(0, 3 * WEEK_S),
    demanded=st.booleans(),
)
def test_no_object_is_asked_for_without_end(
    found: Found,
    age_s: float,
    demanded: bool,  # noqa: FBT001 - hypothesis names it
) -> None:
    """Whatever is found, a next question lies ahead, and none after a week's silence."""
    patience = Patience(demanded=demanded)
    wait = wait_s(found, age_s, patience)
    assert wait is None or wait > 0
    if age_s >= WEEK_S:
        assert ruling(found, age_s, patience).step is not Step.ASK


@pytest.mark.parametrize("found", [Found.UNABLE, Found.LATER, Found.UNREACHABLE])
def test_what_was_not_there_once_has_to_be_seen_there(found: Found) -> None:
    """An archive that is busy when patience ends may not have it all the same."""
    finding = Finding(delivery=1, found=found, detail="HTTP 503")
    now = SENT + timedelta(seconds=901)
    step = ruled(finding, sent_at=SENT, now=now, patience=EASY, missed=True).step
    assert step is Step.ASK


def test_a_peer_that_is_tried_often_is_asked_often() -> None:
    """No question waits longer than a retry would."""
    quick = Patience(longest_wait_s=2)
    assert wait_s(Found.UNREACHABLE, 900, quick) == 2
