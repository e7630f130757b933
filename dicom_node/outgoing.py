"""An object on its way to a destination, what became of it, and when to try again.

Values and pure functions. What an answer means follows the Standard: PS3.7 Annex C
and PS3.4 Table B.2-1 for C-STORE, and the same codes in a STOW-RS response
(PS3.18 10.5.3). The rule behind the tables:

- what is wrong with the *object* is permanent: sending it again changes nothing;
- what is wrong with the *moment* is tried again soon;
- what is wrong with the *peer* (an unknown AE title, a rejected password) is tried
  again slowly, because somebody will mend it and the results must then flow;
- what *could be either* is tried again for a day.

A detail is one line for the person who looks after deliveries. It never repeats what
the peer said in its own words, because those may hold patient data.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self

from dicom_node.domain import (
    ObjectKind,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.peers import RetryPolicy
from dicom_node.verification import How

SLOWLY_S = 600.0
"""How long to wait at least, where somebody has to mend the peer or our settings."""
DOUBTFUL_AGE_S = 24 * 3600.0
"""How long to try what the moment or the object may have caused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An encoded object that a destination shall have.

    Parameters
    ----------
    delivery
        The ledger's key of this object at this destination.
    path
        Its Part 10 file; the bytes that are sent.
    sha256
        Digest of the whole file: a file with another one is never sent.
    asked
        Whether the destination was asked to commit to it, and has not reported.
    """

    delivery: int
    path: Path
    kind: ObjectKind
    study_uid: StudyUid
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    sha256: Sha256
    asked: bool = False


class Verdict(StrEnum):
    """What is to be done after an attempt."""

    SENT = "sent"
    """The destination says that it stored it."""
    DELIVERED = "delivered"
    """The destination was seen to have it."""
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one object in one attempt.

    Parameters
    ----------
    delivery
        The ledger's key, as in `Outgoing`.
    detail
        One line that a person understands, without patient data.
    how
        How it was seen that the destination has it.
    wait_s
        Wait at least so long before the next attempt.
    max_age_s
        Give up after so long, even if the peer's policy allows more.
    """

    delivery: int
    verdict: Verdict
    detail: str
    how: How = How.NOT
    wait_s: float = 0.0
    max_age_s: float | None = None

    @classmethod
    def sent(cls, outgoing: Outgoing, detail: str) -> Self:
        """Return that the destination said success."""
        return cls(delivery=outgoing.delivery, verdict=Verdict.SENT, detail=detail)

    @classmethod
    def delivered(cls, outgoing: Outgoing, detail: str, *, how: How) -> Self:
        """Return that the destination has the object."""
        return cls(
            delivery=outgoing.delivery,
            verdict=Verdict.DELIVERED,
            detail=detail,
            how=how,
        )

    @classmethod
    def dead(cls, outgoing: Outgoing, detail: str) -> Self:
        """Return that no further attempt makes sense."""
        return cls(delivery=outgoing.delivery, verdict=Verdict.DEAD, detail=detail)

    @classmethod
    def retry(cls, outgoing: Outgoing, detail: str, *, wait_s: float = 0.0) -> Self:
        """Return that the moment was wrong."""
        return cls(
            delivery=outgoing.delivery,
            verdict=Verdict.RETRY,
            detail=detail,
            wait_s=wait_s,
        )

    @classmethod
    def slowly(cls, outgoing: Outgoing, detail: str) -> Self:
        """Return that somebody has to mend the peer, or what we know of it."""
        return cls.retry(outgoing, detail, wait_s=SLOWLY_S)

    @classmethod
    def doubtful(cls, outgoing: Outgoing, detail: str) -> Self:
        """Return that moment or object may be wrong: more attempts, for a day."""
        return cls(
            delivery=outgoing.delivery,
            verdict=Verdict.RETRY,
            detail=detail,
            max_age_s=DOUBTFUL_AGE_S,
        )


class Meaning(StrEnum):
    """What a status says of the object that it answers."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    NOT_NOW = "not now"
    UNCLEAR = "unclear"
    NEVER = "never"


DUPLICATE_SOP_INSTANCE = 0x0111

_STATUS: dict[int, tuple[Meaning, str]] = {
    # PS3.7 Annex C
    0x0000: (Meaning.STORED, "success"),
    0x0001: (Meaning.STORED, "warning"),
    0x0107: (Meaning.STORED, "warning: attribute list error"),
    0x0116: (Meaning.STORED, "warning: attribute value out of range"),
    0x0105: (Meaning.NEVER, "no such attribute"),
    0x0106: (Meaning.NEVER, "invalid attribute value"),
    0x0110: (Meaning.NOT_NOW, "processing failure"),
    0x0111: (Meaning.DUPLICATE, "duplicate SOP instance"),
    0x0112: (Meaning.NEVER, "no such SOP instance"),
    0x0115: (Meaning.NEVER, "invalid argument value"),
    0x0117: (Meaning.NEVER, "invalid object instance"),
    0x0118: (Meaning.NEVER, "no such SOP class"),
    0x0119: (Meaning.NEVER, "class-instance conflict"),
    0x0120: (Meaning.NEVER, "missing attribute"),
    0x0121: (Meaning.NEVER, "missing attribute value"),
    0x0122: (Meaning.NEVER, "SOP class not supported"),
    0x0124: (Meaning.NEVER, "not authorized"),
    0x0210: (Meaning.NEVER, "duplicate invocation"),
    0x0211: (Meaning.NEVER, "unrecognized operation"),
    0x0212: (Meaning.NEVER, "mistyped argument"),
    0x0213: (Meaning.NOT_NOW, "resource limitation"),
}

_RANGES: tuple[tuple[range, Meaning, str], ...] = (
    # PS3.4 Table B.2-1
    (range(0xA700, 0xA800), Meaning.NOT_NOW, "out of resources"),
    (range(0xA900, 0xAA00), Meaning.UNCLEAR, "data set does not match SOP class"),
    (range(0xB000, 0xC000), Meaning.STORED, "warning: stored with changes"),
    (range(0xC000, 0xD000), Meaning.UNCLEAR, "cannot understand"),
)


def meaning(status: int) -> tuple[Meaning, str]:
    """Return what a C-STORE status or a STOW-RS reason means, and its name."""
    if status in _STATUS:
        return _STATUS[status]
    for codes, means, name in _RANGES:
        if status in codes:
            return means, name
    return Meaning.UNCLEAR, "a status that the Standard does not define"


def judged(outgoing: Outgoing, status: int) -> Outcome:
    """Return what a status makes of the delivery.

    A duplicate is a failure here: only who can ask the destination for the
    instance may call it delivered.
    """
    means, name = meaning(status)
    detail = f"the destination answered 0x{status:04X}, {name}"
    match means:
        case Meaning.STORED:
            return Outcome.sent(outgoing, "stored" if status == 0 else detail)
        case Meaning.NOT_NOW:
            return Outcome.retry(outgoing, detail)
        case Meaning.UNCLEAR:
            return Outcome.doubtful(outgoing, detail)
        case Meaning.DUPLICATE | Meaning.NEVER:
            return Outcome.dead(outgoing, detail)


def next_attempt(
    policy: RetryPolicy,
    attempts: int,
    now: datetime,
    *,
    jitter: float,
    outcome: Outcome | None = None,
) -> datetime | None:
    """Return when to try again, or None if the delivery is to be given up.

    Parameters
    ----------
    attempts
        How many were made, this one included: at least 1. The age of the delivery
        is taken from them: the sum of the waits between them.
    jitter
        A random number in [-1, 1], drawn by the caller.
    outcome
        Of this attempt: it may ask for patience, or to give up sooner.
    """
    if policy.max_attempts is not None and attempts >= policy.max_attempts:
        return None
    ages_s = [policy.max_age_s, outcome.max_age_s if outcome else None]
    waited_s = _waited_s(policy, attempts)
    if any(age_s is not None and waited_s >= age_s for age_s in ages_s):
        return None
    delay_s = _delay_s(policy, attempts) * (1 + policy.jitter * jitter)
    return now + timedelta(seconds=max(delay_s, outcome.wait_s if outcome else 0.0))


def _delay_s(policy: RetryPolicy, attempt: int) -> float:
    """Return the wait after the n-th attempt, without jitter."""
    try:
        grown = policy.first_s * policy.factor ** (attempt - 1)
    except OverflowError:
        return policy.cap_s
    return min(grown, policy.cap_s)


def _waited_s(policy: RetryPolicy, attempts: int) -> float:
    """Return how long the attempts before this one made the delivery wait."""
    return sum(_delay_s(policy, attempt) for attempt in range(1, attempts))
