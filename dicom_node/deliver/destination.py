"""What every way of delivery shares: the protocol, and asking before and after."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from hashlib import file_digest
from typing import Protocol

from pydicom import dcmread

from dicom_node.association import UnreachableError
from dicom_node.errors import PacsightError, Permanent, Transient
from dicom_node.outgoing import Outcome, Outgoing
from dicom_node.peers import Caller, Peer
from dicom_node.query import Search, Whereabouts, archive, inquiry_of
from dicom_node.verification import Finding, Found, How

FOUND = "it is there: found by query under its study and patient"
NOT_FOUND = "the destination does not find it under its study and patient"


class Destination(Protocol):
    """A place that results are sent to."""

    def deliver(self, objects: Sequence[Outgoing]) -> Iterator[Outcome]:
        """Yield what became of each object, one outcome for each, in any order.

        An object is delivered as soon as its outcome is yielded, so that what a
        crash undoes is at most the one in flight; and that is harmless, because
        sending it again sends the same bytes under the same UID.
        """

    def verify(self, objects: Sequence[Outgoing]) -> Iterator[Finding]:
        """Yield what the destination says of objects that it said it stored.

        A request for storage commitment is yielded before it is made, so that its
        transaction is known before a report of it can come; what the report says is
        yielded, too, if it comes at once. So an object may have several findings,
        of which the last counts.
        """


def damage(outgoing: Outgoing) -> Outcome | None:
    """Return why the object's file must not be sent, or None if it is as encoded."""
    try:
        with outgoing.path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return Outcome.dead(outgoing, "its file is missing in the outbox")
    except OSError:
        return Outcome.slowly(outgoing, "its file in the outbox cannot be read")
    if digest != outgoing.sha256:
        return Outcome.dead(outgoing, "its file in the outbox was changed")
    return None


def settle_duplicate(outgoing: Outgoing, peer: Peer, caller: Caller) -> Outcome:
    """Return what a destination's "duplicate" is worth, by asking it.

    It means delivered only if the destination finds the instance under the right
    study and the right patient.
    """
    said = "the destination calls it a duplicate"
    try:
        found = _found(outgoing, peer, caller)
    except (Transient, Permanent) as error:
        return Outcome.doubtful(outgoing, f"{said}, but {error}")
    if found:
        return Outcome.delivered(outgoing, FOUND, how=How.QUERY)
    return Outcome.dead(
        outgoing, f"{said}, but does not find it under this study and patient"
    )


def settle_silence(outgoing: Outgoing, peer: Peer, caller: Caller) -> Outcome:
    """Return what became of an object of which the destination said nothing."""
    said = "the destination did not say what became of it"
    try:
        found = _found(outgoing, peer, caller)
    except (Transient, Permanent) as error:
        return Outcome.doubtful(outgoing, f"{said}; {error}")
    if found:
        return Outcome.delivered(outgoing, FOUND, how=How.QUERY)
    return Outcome.doubtful(outgoing, f"{said}, and does not find it")


def ask(objects: Iterable[Outgoing], peer: Peer, caller: Caller) -> Iterator[Finding]:
    """Yield whether the destination finds each object, over one connection."""
    waiting = deque(objects)
    if not waiting:
        return
    try:
        with archive(peer, inquiry_of(peer), caller) as asked:
            yield from found_by(Search(archive=asked), waiting)
    except PacsightError as error:
        yield from (cannot_say(one, error) for one in waiting)


def found_by(search: Search, waiting: deque[Outgoing]) -> Iterator[Finding]:
    """Yield what a search finds, and take each object that it speaks of from the queue.

    Raises
    ------
    Transient, Permanent
        If the destination cannot be asked for the first of those that are left.
    """
    while waiting:
        there = search.has(whereabouts(waiting[0]))
        key = waiting.popleft().delivery
        if there:
            yield Finding.there(key, How.QUERY, FOUND)
        else:
            yield Finding(delivery=key, found=Found.MISSING, detail=NOT_FOUND)


def cannot_say(outgoing: Outgoing, error: PacsightError) -> Finding:
    """Return what an error makes of a question about an object."""
    match error:
        case UnreachableError():
            found = Found.UNREACHABLE
        case Transient():
            found = Found.LATER
        case _:
            found = Found.UNABLE
    return Finding(delivery=outgoing.delivery, found=found, detail=str(error))


def whereabouts(outgoing: Outgoing) -> Whereabouts:
    """Return where an object belongs."""
    header = dcmread(outgoing.path, specific_tags=["PatientID", "SeriesInstanceUID"])
    return Whereabouts(
        patient_id=str(header.get("PatientID") or ""),
        study_uid=outgoing.study_uid,
        series_uid=str(header.SeriesInstanceUID),
        sop_instance_uid=outgoing.sop_instance_uid,
    )


def _found(outgoing: Outgoing, peer: Peer, caller: Caller) -> bool:
    """Return whether the destination has the object where it belongs."""
    with archive(peer, inquiry_of(peer), caller) as asked:
        return Search(archive=asked).has(whereabouts(outgoing))
