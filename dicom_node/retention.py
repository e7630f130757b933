"""Whether a study's files are needed no more. Pure.

They are not once nothing is left to be done with the study, and every destination was
seen to have every object of it: never otherwise.
"""

from collections.abc import Collection
from datetime import datetime

from dicom_node.ledger.purging import Journey, Standing
from dicom_node.ledger.tables import DELIVERED
from dicom_node.lifecycle import State

FINISHED = (State.DONE, State.NOT_ANALYSED)
"""States in which nothing is left to be done with a study."""


def why_kept(
    standing: Standing, *, before: datetime, unasked: Collection[str] = ()
) -> str:
    """Return why the study's files stay, in words; empty if they may go.

    Parameters
    ----------
    before
        What happened to the study since then keeps them.
    unasked
        Destinations that the site wants not to be asked whether they have what they
        said they stored. Of any other, also of one that cannot be asked, it counts only
        what was seen to be there.
    """
    if standing.state not in FINISHED:
        return f"the study is {standing.state}"
    if standing.unfinished:
        return "there is work to be done on it"
    if standing.nowhere:
        return "a result of it went to no destination"
    on_its_way = (_why_not_there(one, unasked) for one in standing.journeys)
    if why := next(filter(None, on_its_way), ""):
        return why
    return "it is not old enough" if standing.last_at > before else ""


def _why_not_there(journey: Journey, unasked: Collection[str]) -> str:
    if journey.state != DELIVERED:
        return f"an object is {journey.state} at {journey.destination}"
    if not journey.verified and journey.destination not in unasked:
        return f"an object was never verified at {journey.destination}"
    return ""
