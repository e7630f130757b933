"""What the audit trail is told of a batch: by study, what was taken and what was not."""

from pathlib import Path

import pydicom

from dicom_node.deliver import destination
from dicom_node.domain import ResultsSent, SopClassCount
from dicom_node.outgoing import Outcome
from dicom_node.peers import Caller, Peer, Right, Via
from dicom_node.shipment import told
from tests.peers import outgoing


def test_each_study_is_told_once(tmp_path: Path) -> None:
    """With the patient of the object itself, read from the file that was sent."""
    parcel = outgoing(tmp_path)
    peer = Peer(
        name="out",
        via=Via.FOLDER,
        folder=tmp_path / "out",
        rights=frozenset({Right.DESTINATION}),
    )
    (outcome,) = destination(peer, Caller()).deliver([parcel])

    assert list(told(peer, [(parcel, outcome), (parcel, outcome)])) == [
        ResultsSent(
            destination="out",
            address=str(tmp_path / "out"),
            study_uid=parcel.study_uid,
            sop_classes=(
                SopClassCount(sop_class_uid=parcel.sop_class_uid, instances=2),
            ),
            patient_id=pydicom.dcmread(parcel.path).PatientID,
        )
    ]


def test_success_and_failure_are_told_apart(tmp_path: Path) -> None:
    """One message for each reason (PS3.15 A.5.2); a file that is gone names no patient."""
    parcel = outgoing(tmp_path)
    parcel.path.unlink()
    peer = Peer(
        name="pacs",
        aet="PACS",
        host="pacs.example",
        port=104,
        rights=frozenset({Right.DESTINATION}),
    )
    events = list(
        told(
            peer,
            [
                (parcel, Outcome.sent(parcel, "stored")),
                (parcel, Outcome.retry(parcel, "busy")),
                (parcel, Outcome.dead(parcel, "not a class it knows")),
            ],
        )
    )

    assert [(e.failure, e.given_up) for e in events] == [
        ("", False),
        ("busy", False),
        ("not a class it knows", True),
    ]
    assert {(e.aet, e.address, e.patient_id) for e in events} == {
        ("PACS", "pacs.example", "")
    }
