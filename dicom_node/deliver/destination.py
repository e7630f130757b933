"""What every way of delivery shares: the protocol, and the check before and after."""

from collections.abc import Iterator, Sequence
from hashlib import file_digest
from typing import Protocol

from pydicom import dcmread

from dicom_node.errors import Permanent, Transient
from dicom_node.outgoing import Outcome, Outgoing
from dicom_node.peers import Caller, Peer
from dicom_node.query import Whereabouts, archive, inquiry_of, is_stored

FOUND = "it is there: found by query under its study and patient"


class Destination(Protocol):
    """A place that results are sent to."""

    def deliver(self, objects: Sequence[Outgoing]) -> Iterator[Outcome]:
        """Yield what became of each object, one outcome for each, in any order.

        An object is delivered as soon as its outcome is yielded, so that what a
        crash undoes is at most the one in flight; and that is harmless, because
        sending it again sends the same bytes under the same UID.
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
        return Outcome.delivered(outgoing, FOUND)
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
        return Outcome.delivered(outgoing, FOUND)
    return Outcome.doubtful(outgoing, f"{said}, and does not find it")


def _found(outgoing: Outgoing, peer: Peer, caller: Caller) -> bool:
    """Return whether the destination has the object where it belongs."""
    asked = archive(peer, inquiry_of(peer), caller)
    header = dcmread(outgoing.path, specific_tags=["PatientID", "SeriesInstanceUID"])
    instance = Whereabouts(
        patient_id=str(header.get("PatientID") or ""),
        study_uid=outgoing.study_uid,
        series_uid=str(header.SeriesInstanceUID),
        sop_instance_uid=outgoing.sop_instance_uid,
    )
    return is_stored(asked, instance)
