"""Which studies' files may go: the decision alone, over everything that can be."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.ledger.purging import Journey, Standing
from dicom_node.ledger.tables import CANCELLED, DEAD, DELIVERED, IN_MOTION
from dicom_node.lifecycle import State
from dicom_node.retention import why_kept
from tests.arrivals import T0, study_uid

DESTINATIONS = ("pacs", "archive", "folder")
JOURNEYS = st.builds(
    Journey,
    destination=st.sampled_from(DESTINATIONS),
    state=st.sampled_from([*IN_MOTION, DELIVERED, DEAD, CANCELLED]),
    verified=st.booleans(),
)
STANDINGS = st.builds(
    Standing,
    key=st.just(1),
    study_uid=st.just(study_uid()),
    state=st.sampled_from(State),
    last_at=st.integers(-10, 10).map(lambda days: T0 + timedelta(days=days)),
    unfinished=st.integers(0, 2),
    journeys=st.lists(JOURNEYS, max_size=4).map(tuple),
    nowhere=st.integers(0, 2),
)
UNASKED = st.sets(st.sampled_from(DESTINATIONS))
DONE = Standing(
    key=1,
    study_uid=study_uid(),
    state=State.DONE,
    last_at=T0,
    journeys=(Journey(destination="pacs", state=DELIVERED, verified=True),),
)


@given(STANDINGS, UNASKED)
def test_nothing_goes_unless_all_of_it_was_seen_to_be_there(
    standing: Standing, unasked: set[str]
) -> None:
    """Whatever may go is finished, old enough, delivered and verified everywhere."""
    if why_kept(standing, before=T0, unasked=unasked):
        return
    assert standing.state in {"done", "not analysed"}
    assert standing.unfinished == standing.nowhere == 0
    assert standing.last_at <= T0
    for journey in standing.journeys:
        assert journey.state == "delivered"
        assert journey.verified or journey.destination in unasked


@given(STANDINGS, UNASKED, JOURNEYS)
def test_one_more_object_under_way_never_lets_anything_go(
    standing: Standing, unasked: set[str], journey: Journey
) -> None:
    """What stays as it is stays with more to deliver, too."""
    more = replace(standing, journeys=(*standing.journeys, journey))
    if why_kept(standing, before=T0, unasked=unasked):
        assert why_kept(more, before=T0, unasked=unasked)


@given(st.lists(st.sampled_from(DESTINATIONS)))
def test_what_is_done_and_verified_goes(names: list[str]) -> None:
    """However many destinations there are; none for a study without results."""
    arrived = [Journey(destination=n, state=DELIVERED, verified=True) for n in names]
    assert why_kept(replace(DONE, journeys=tuple(arrived)), before=T0) == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": State.DELIVERING}, "the study is delivering"),
        ({"unfinished": 1}, "there is work to be done on it"),
        ({"nowhere": 1}, "a result of it went to no destination"),
        (
            {"journeys": (Journey(destination="pacs", state=DEAD, verified=False),)},
            "an object is dead at pacs",
        ),
        (
            {
                "journeys": (
                    Journey(destination="pacs", state=DELIVERED, verified=False),
                )
            },
            "an object was never verified at pacs",
        ),
        ({"last_at": T0 + timedelta(seconds=1)}, "it is not old enough"),
    ],
)
def test_what_stays_says_why(change: dict[str, object], why: str) -> None:
    """In words for the operator."""
    assert why_kept(replace(DONE, **change), before=T0) == why  # type: ignore[arg-type]
