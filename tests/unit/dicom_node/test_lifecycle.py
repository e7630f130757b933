"""The life of a study: every pair of state and event, and when it is complete."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.lifecycle import (
    TRANSITIONS,
    Event,
    ImpossibleError,
    Patience,
    Signals,
    State,
    advance,
    completeness,
)

T0 = datetime(2026, 1, 15, 9, 0, tzinfo=UTC)
PATIENCE = Patience(quiet_s=30, expected_quiet_s=2, cap_s=600)

RECEIVES: Mapping[Event, str] = {
    Event.INSTANCE: "receiving",
    Event.CONFLICT: "held",
}
EXPECTED: Mapping[str, Mapping[Event, str]] = {
    "receiving": {
        **RECEIVES,
        Event.COMPLETE: "embedding",
        Event.NOTHING: "not analysed",
    },
    "embedding": {**RECEIVES, Event.EMBEDDED: "concluding"},
    "concluding": {**RECEIVES, Event.CONCLUDED: "delivering", Event.FAILED: "failed"},
    "delivering": {
        **RECEIVES,
        Event.DELIVERED: "done",
        Event.UNDELIVERED: "undelivered",
        Event.AGAIN: "embedding",
    },
    "done": {**RECEIVES, Event.AGAIN: "embedding"},
    "not analysed": RECEIVES,
    "held": {Event.INSTANCE: "held", Event.CONFLICT: "held", Event.AGREED: "receiving"},
    "failed": {**RECEIVES, Event.RETRY: "concluding", Event.AGAIN: "embedding"},
    "undelivered": {
        **RECEIVES,
        Event.RETRY: "delivering",
        Event.AGAIN: "embedding",
    },
}
"""The table once more, written by hand from the states' side."""


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_event_in_every_state(state: State, event: Event) -> None:
    """It leads where the table says, or is impossible and says so."""
    expected = EXPECTED[state].get(event)
    if expected is None:
        with pytest.raises(ImpossibleError, match=f"{state} cannot be {event}"):
            advance(state, event)
    else:
        assert advance(state, event) == expected


def test_every_state_can_be_reached() -> None:
    """From the first instance on, there is a way into each state."""
    reached = {State.RECEIVING}
    for _ in State:
        reached |= {new for (old, _event), new in TRANSITIONS.items() if old in reached}
    assert reached == set(State)


def test_no_state_is_a_dead_end() -> None:
    """From each state a study can still be delivered, whatever went wrong."""
    leads_on = {State.DONE}
    for _ in State:
        leads_on |= {
            old for (old, _event), new in TRANSITIONS.items() if new in leads_on
        }
    assert leads_on == set(State)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[Signals, datetime]:
    """Return what may be known of an arrival, and a time after it."""
    lasted_s = draw(st.floats(0, 2000))
    quiet_s = draw(st.floats(0, 2000))
    last_at = T0 + timedelta(seconds=lasted_s)
    signals = Signals(
        first_at=T0,
        last_at=last_at,
        open_association=draw(st.booleans()),
        received=draw(st.integers(0, 500)),
        expected=draw(st.none() | st.integers(-1, 500)),
        asked=draw(st.booleans()),
    )
    return signals, last_at + timedelta(seconds=quiet_s)


@given(arrivals())
def test_never_complete_while_the_association_is_open(
    arrival: tuple[Signals, datetime],
) -> None:
    """Unless somebody asked, or the cap was reached: both say so."""
    signals, now = arrival
    why = completeness(replace(signals, open_association=True), PATIENCE, now)
    capped = now - signals.first_at >= timedelta(seconds=PATIENCE.cap_s)
    assert bool(why) == (signals.asked or capped)
    if why:
        assert why == (
            "requested" if signals.asked else "waited the longest allowed (600 s)"
        )


@given(arrivals())
def test_an_expected_count_only_shortens(arrival: tuple[Signals, datetime]) -> None:
    """What is complete without a count is complete with any count."""
    signals, now = arrival
    without = completeness(replace(signals, expected=None), PATIENCE, now)
    with_it = completeness(signals, PATIENCE, now)
    assert bool(with_it) >= bool(without)


@given(arrivals())
def test_a_count_that_is_not_reached_changes_nothing(
    arrival: tuple[Signals, datetime],
) -> None:
    """A source that knows of more instances does not make a study wait longer."""
    signals, now = arrival
    missing = replace(signals, expected=signals.received + 1)
    without = replace(signals, expected=None)
    assert completeness(missing, PATIENCE, now) == completeness(without, PATIENCE, now)


@given(arrivals(), st.floats(0, 5000))
def test_what_is_complete_stays_complete(
    arrival: tuple[Signals, datetime], more_s: float
) -> None:
    """If nothing else happens, time never makes a complete study incomplete."""
    signals, now = arrival
    later = now + timedelta(seconds=more_s)
    before = completeness(signals, PATIENCE, now)
    assert bool(completeness(signals, PATIENCE, later)) >= bool(before)


@pytest.mark.parametrize(
    ("changes", "after_s", "why"),
    [
        ({}, 29.9, ""),
        ({}, 30, "quiet for 30 s"),
        ({"expected": 3}, 1.9, ""),
        ({"expected": 3}, 2, "all 3 expected instances are here"),
        ({"expected": 2}, 2, "all 2 expected instances are here"),
        ({"expected": 4}, 29.9, ""),
        ({"expected": 0}, 29.9, ""),
        ({"expected": 3, "open_association": True}, 100, ""),
        ({"open_association": True}, 599.9, ""),
        ({"open_association": True}, 600, "waited the longest allowed (600 s)"),
        ({"asked": True, "open_association": True}, 0, "requested"),
    ],
)
def test_when_and_why_a_study_is_complete(
    changes: dict[str, object], after_s: float, why: str
) -> None:
    """Three instances came at once; so many seconds later the reason is this."""
    values: dict[str, object] = {
        "first_at": T0,
        "last_at": T0,
        "open_association": False,
        "received": 3,
    }
    signals = Signals(**values | changes)  # type: ignore[arg-type]
    now = T0 + timedelta(seconds=after_s)
    assert completeness(signals, PATIENCE, now) == why
