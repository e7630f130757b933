"""What a question about a sent object led to, and what follows. Values; pure.

A destination that answered success is asked whether it really has the object, under
its study and its patient. Archives index late, so "not there" is asked again with
growing waits before the object counts as lost and is sent once more: the same bytes,
under the same UID.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

WAITS_S = (2.0, 10.0, 60.0, 300.0)
"""Between one question and the next; the last one goes on."""
MENDING_S = 600.0
WEEK_S = 7 * 24 * 3600.0
LOST = "it said success and does not have it"


class How(StrEnum):
    """How it was seen that a destination has an object."""

    COMMITMENT = "commitment"
    """It took responsibility for it (PS3.4 Annex J)."""
    QUERY = "query"
    """It finds it under its study and patient."""
    CONTENT = "content"
    """What it holds was read and is what was sent."""
    NOT = ""


class Found(StrEnum):
    """What a question about an object led to."""

    THERE = "there"
    REQUESTED = "commitment requested"
    MISSING = "not there (yet)"
    LOST = "not there, it says"
    CONFLICT = "something else is there"
    LATER = "cannot say now"
    UNREACHABLE = "nobody answers"
    UNABLE = "cannot be asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a question about one object led to.

    Parameters
    ----------
    delivery
        The ledger's key of this object at this destination.
    detail
        One line that a person understands, without patient data.
    transaction_uid
        Of a request for storage commitment; empty to ask with a new one, None to
        leave what the ledger has.
    """

    delivery: int
    found: Found
    detail: str
    how: How = How.NOT
    transaction_uid: str | None = None

    @classmethod
    def there(cls, delivery: int, how: How, detail: str) -> Self:
        """Return that the destination has it."""
        return cls(delivery=delivery, found=Found.THERE, detail=detail, how=how)


class Step(StrEnum):
    """What is to be done with a delivery after a question."""

    DELIVERED = "delivered"
    ASK = "ask again"
    RESEND = "send again"
    DEAD = "give up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What is to be done, and why.

    Parameters
    ----------
    at
        When to ask again.
    """

    step: Step
    detail: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a destination to have what it says it stored.

    Parameters
    ----------
    commitment_s
        For a report on storage commitment, before it is asked by a query.
    missing_s
        For an object that it does not find, before it is sent again.
    silence_s
        For a destination that does not answer.
    demanded
        Whether an object that cannot be asked for is no delivery.
    longest_wait_s
        Between two questions.
    """

    commitment_s: float = 60.0
    missing_s: float = 900.0
    silence_s: float = WEEK_S
    demanded: bool = False
    longest_wait_s: float = WAITS_S[-1]


def ruled(
    finding: Finding,
    *,
    sent_at: datetime,
    now: datetime,
    patience: Patience,
    missed: bool = False,
) -> Ruling:
    """Return what follows from a finding.

    Parameters
    ----------
    missed
        Whether the destination said before that it does not have the object: then
        nothing but seeing it there counts.
    """
    if missed:
        patience = replace(patience, demanded=True)
    match finding.found:
        case Found.THERE:
            return Ruling(step=Step.DELIVERED, detail=finding.detail)
        case Found.CONFLICT:
            return Ruling(step=Step.DEAD, detail=finding.detail)
        case Found.LOST:
            return Ruling(step=Step.RESEND, detail=finding.detail)
        case Found.MISSING:
            return _missing(finding, sent_at, now, patience)
        case Found.REQUESTED:
            wait_s, limit_s = patience.commitment_s, patience.silence_s
        case Found.UNREACHABLE:
            wait_s, limit_s = _wait_s(now - sent_at, patience), patience.silence_s
        case Found.LATER:
            wait_s, limit_s = _wait_s(now - sent_at, patience), patience.missing_s
        case Found.UNABLE:
            wait_s, limit_s = MENDING_S, 0.0
    return _unsure(finding, sent_at, now, patience, wait_s=wait_s, limit_s=limit_s)


def _missing(
    finding: Finding, sent_at: datetime, now: datetime, patience: Patience
) -> Ruling:
    left_s = patience.missing_s - (now - sent_at).total_seconds()
    if left_s <= 0:
        return Ruling(step=Step.RESEND, detail=LOST)
    wait_s = min(_wait_s(now - sent_at, patience), left_s)
    return Ruling(
        step=Step.ASK, detail=finding.detail, at=now + timedelta(seconds=wait_s)
    )


def _unsure(
    finding: Finding,
    sent_at: datetime,
    now: datetime,
    patience: Patience,
    *,
    wait_s: float,
    limit_s: float,
) -> Ruling:
    """Return whether to ask again, and what it is worth where that is no use."""
    age_s = (now - sent_at).total_seconds()
    if not patience.demanded and age_s >= limit_s:
        return Ruling(
            step=Step.DELIVERED, detail=f"sent, not verified: {finding.detail}"
        )
    if age_s >= patience.silence_s:
        return Ruling(step=Step.DEAD, detail=f"never verified: {finding.detail}")
    return Ruling(
        step=Step.ASK, detail=finding.detail, at=now + timedelta(seconds=wait_s)
    )


def _wait_s(age: timedelta, patience: Patience) -> float:
    """Return how long to wait from here to the next question."""
    point_s = 0.0
    for wait_s in WAITS_S:
        point_s += wait_s
        if age.total_seconds() < point_s:
            return min(wait_s, patience.longest_wait_s)
    return min(WAITS_S[-1], patience.longest_wait_s)
