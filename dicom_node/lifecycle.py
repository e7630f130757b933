"""The life of a study as a table, and when a study is complete. Pure.

States are what the ledger shows, events are what happens to a study. Whatever
is not in the table is not possible and raises.

::

    RECEIVING ──complete──► EMBEDDING ──embedded──► CONCLUDING ──concluded──►
        ▲  ▲                    │                       │
        │  └─────── image ──────┴───────────────────────┴──── ... from any state
      agreed                                     DELIVERING ──delivered──► DONE
        │                                             │
       HELD ◄──conflict── from any state              └──undelivered──► UNDELIVERED
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dicom_node.errors import PacsightError


class State(StrEnum):
    """Where a study stands."""

    RECEIVING = "receiving"
    """Instances are arriving; images are embedded meanwhile."""
    EMBEDDING = "embedding"
    """Complete; some of its images are not embedded yet."""
    CONCLUDING = "concluding"
    """A revision exists; its packs are being run."""
    DELIVERING = "delivering"
    """Reports are in the outbox."""
    DONE = "done"
    """Every destination has the reports of the current revision."""
    NOT_ANALYSED = "not analysed"
    """Complete, but without any image: there is nothing to conclude."""
    HELD = "held"
    """Instances contradict each other: nothing is composed until they agree."""
    FAILED = "failed"
    """A pack could not be run; ``pacsight retry`` tries again."""
    UNDELIVERED = "undelivered"
    """A destination refused for good; ``pacsight retry`` sends again."""


class Event(StrEnum):
    """What happens to a study."""

    INSTANCE = "instance"
    """An instance, or a new version of one, came in."""
    CONFLICT = "conflict"
    """Its instances belong to more than one patient."""
    AGREED = "agreed"
    """They agree again, or a person decided."""
    COMPLETE = "complete"
    """See `completeness`."""
    NOTHING = "nothing"
    """Complete, and there is no image in it."""
    EMBEDDED = "embedded"
    """Every frame is embedded, or recorded as unreadable."""
    CONCLUDED = "concluded"
    """Every pack has a result for the current revision."""
    FAILED = "failed"
    """A pack failed for good."""
    DELIVERED = "delivered"
    """Every delivery of the current revision has arrived."""
    UNDELIVERED = "undelivered"
    """No delivery is left to try, and at least one did not arrive."""
    RETRY = "retry"
    """An operator asks for another try."""
    AGAIN = "again"
    """An operator wants it concluded with the packs that are in use now."""


class ImpossibleError(PacsightError):
    """An event that the study's state does not allow: a fault of ours."""


CONCLUDED = (State.DELIVERING, State.DONE, State.FAILED, State.UNDELIVERED)
"""States in which nothing is left to be concluded of what is there."""

_S, _E = State, Event

TRANSITIONS: dict[tuple[State, Event], State] = {
    (_S.RECEIVING, _E.COMPLETE): _S.EMBEDDING,
    (_S.RECEIVING, _E.NOTHING): _S.NOT_ANALYSED,
    (_S.EMBEDDING, _E.EMBEDDED): _S.CONCLUDING,
    (_S.CONCLUDING, _E.CONCLUDED): _S.DELIVERING,
    (_S.CONCLUDING, _E.FAILED): _S.FAILED,
    (_S.DELIVERING, _E.DELIVERED): _S.DONE,
    (_S.DELIVERING, _E.UNDELIVERED): _S.UNDELIVERED,
    (_S.HELD, _E.INSTANCE): _S.HELD,
    (_S.HELD, _E.CONFLICT): _S.HELD,
    (_S.HELD, _E.AGREED): _S.RECEIVING,
    (_S.FAILED, _E.RETRY): _S.CONCLUDING,
    (_S.UNDELIVERED, _E.RETRY): _S.DELIVERING,
    **{(state, _E.AGAIN): _S.EMBEDDING for state in CONCLUDED},
    **{(state, _E.INSTANCE): _S.RECEIVING for state in State if state is not _S.HELD},
    **{(state, _E.CONFLICT): _S.HELD for state in State},
}


def advance(state: State, event: Event) -> State:
    """Return the state that `event` leads to from `state`.

    Raises
    ------
    ImpossibleError
        If the table does not have the pair.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ImpossibleError(f"a study that is {state} cannot be {event}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for more instances.

    Parameters
    ----------
    quiet_s
        Silence after the last instance, and after the association's release.
    expected_quiet_s
        The same where a named source's instance count has been reached.
    cap_s
        The longest that a study may wait since its first unconcluded instance.
    """

    quiet_s: float
    expected_quiet_s: float
    cap_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What is known of a study's arrival.

    Parameters
    ----------
    first_at, last_at
        When its first instance since the last conclusion, and its last one,
        came in, UTC.
    open_association
        Whether a sender of its instances is still connected.
    received, expected
        Number of instances; expected is None where no source said.
    asked
        Whether somebody said explicitly that it is complete.
    """

    first_at: datetime
    last_at: datetime
    open_association: bool
    received: int
    expected: int | None = None
    asked: bool = False


def completeness(signals: Signals, patience: Patience, now: datetime) -> str:
    """Return why a study is complete, in words for the ledger; empty if it is not."""
    if signals.asked:
        return "requested"
    if now - signals.first_at >= timedelta(seconds=patience.cap_s):
        return f"waited the longest allowed ({patience.cap_s:g} s)"
    if signals.open_association:
        return ""
    quiet = now - signals.last_at
    if _reached(signals) and quiet >= timedelta(seconds=patience.expected_quiet_s):
        return f"all {signals.expected} expected instances are here"
    if quiet >= timedelta(seconds=patience.quiet_s):
        return f"quiet for {patience.quiet_s:g} s"
    return ""


def _reached(signals: Signals) -> bool:
    return signals.expected is not None and signals.received >= signals.expected > 0
