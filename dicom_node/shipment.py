"""What a batch of deliveries was, study by study, as the audit trail is told it.

One message tells what a destination took of a study, another what it did not (PS3.15
A.5.2, EventOutcomeIndicator: never both in one). Pure, but for the Patient ID, which is
read from the object's own header: the ledger has none.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.domain import ResultsSent, SopClassCount, SopClassUid, StudyUid
from dicom_node.outgoing import Outcome, Outgoing, Verdict
from dicom_node.peers import Peer, Via


@dataclass(slots=True)
class _Part:
    """What happened alike to objects of one study."""

    first: Outgoing
    by_class: Counter[SopClassUid] = field(default_factory=Counter)


def told(
    peer: Peer, outcomes: Iterable[tuple[Outgoing, Outcome]]
) -> Iterator[ResultsSent]:
    """Yield an event for each study, and for each reason why objects were not taken."""
    parts: dict[tuple[StudyUid, str, bool], _Part] = {}
    for outgoing, outcome in outcomes:
        took = outcome.verdict in {Verdict.SENT, Verdict.DELIVERED}
        key = (
            outgoing.study_uid,
            "" if took else outcome.detail,
            outcome.verdict is Verdict.DEAD,
        )
        part = parts.setdefault(key, _Part(outgoing))
        part.by_class[outgoing.sop_class_uid] += 1
    for (study_uid, failure, given_up), part in parts.items():
        yield ResultsSent(
            destination=peer.name,
            aet=peer.aet if peer.via is Via.DIMSE else "",
            address=_address(peer),
            study_uid=study_uid,
            sop_classes=tuple(
                SopClassCount(sop_class_uid=uid, instances=count)
                for uid, count in part.by_class.items()
            ),
            patient_id=_patient_id(part.first),
            failure=failure,
            given_up=given_up,
        )


def _address(peer: Peer) -> str:
    """Return where results reach the peer."""
    match peer.via:
        case Via.DIMSE:
            return peer.host
        case Via.STOW:
            return peer.dicomweb
        case Via.ORTHANC:
            return peer.orthanc
        case Via.FOLDER:
            return str(peer.folder)


def _patient_id(outgoing: Outgoing) -> str:
    """Return whose object it is; empty where the file does not say it any more."""
    try:
        header = dcmread(outgoing.path, specific_tags=["PatientID"])
    except (OSError, InvalidDicomError):
        return ""
    return str(header.get("PatientID") or "")
