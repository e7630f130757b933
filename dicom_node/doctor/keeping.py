"""Whether a destination keeps what it says it stored.

The ledger knows of objects that were not there when they were asked for. A test
object shows it at once: a secondary capture of 8 x 8 pixels in a study of its own,
of nobody, sent and asked for as results are.
"""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from dicom_node.deliver import destination
from dicom_node.deliver.destination import ask
from dicom_node.doctor.finding import Ailment, Finding, Hop
from dicom_node.doctor.neighbours import hurried
from dicom_node.domain import (
    ObjectKind,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.errors import PacsightError
from dicom_node.ledger.health import Debts, debts, file_of, looked_at
from dicom_node.outgoing import Outgoing, Verdict
from dicom_node.peers import Caller, Peer, Via
from dicom_node.verification import Finding as Seen
from dicom_node.verification import Found

PATIENCE_S = 2.0
ASKED_FOR_S = 3.0
"""So long a destination may take to show what it stored."""
PATIENT = "PACSIGHT-DOCTOR"


def look_at_debts(url: str, peer: Peer) -> list[Finding]:
    """Return what the ledger says of objects that the destination lost or refused."""
    try:
        file = file_of(url)
        if file is not None and not file.exists():
            return []
        with looked_at(url, patience_s=PATIENCE_S) as ledger:
            owed = debts(ledger, peer.name)
    except PacsightError:
        return []  # said of the ledger already
    return _owed(peer, owed)


def look_by_storing(peer: Peer, caller: Caller) -> list[Finding]:
    """Return whether the destination has a test object that it is sent."""
    with TemporaryDirectory(prefix="pacsight-") as folder:
        sent = test_object(Path(folder))
        to = destination(peer, hurried(caller))
        (outcome,) = to.deliver([sent])
        if outcome.verdict not in {Verdict.SENT, Verdict.DELIVERED}:
            said = f"it did not take a test object: {outcome.detail}"
            return [_told(peer, said, Ailment.NOT_STORED)]

        def asked() -> Seen:
            if peer.via in {Via.ORTHANC, Via.FOLDER}:
                return list(to.verify([sent]))[-1]
            return list(ask([sent], peer, hurried(caller)))[-1]

        return [_kept(peer, _patiently(asked))]


def test_object(folder: Path) -> Outgoing:
    """Return a small image of nobody, in the folder, that says what it is."""
    made = Dataset()
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = generate_uid(prefix=None)
    made.StudyInstanceUID = generate_uid(prefix=None)
    made.SeriesInstanceUID = generate_uid(prefix=None)
    made.PatientName, made.PatientID = "PACSIGHT^DOCTOR", PATIENT
    made.StudyDescription = made.SeriesDescription = "pacsight doctor: may be deleted"
    made.PatientBirthDate = made.PatientSex = made.StudyID = ""
    made.StudyDate = made.StudyTime = made.AccessionNumber = ""
    made.ReferringPhysicianName = ""
    made.Modality, made.ConversionType = "OT", "SYN"
    made.SeriesNumber = made.InstanceNumber = 1
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = 8
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = bytes(64)
    made["PixelData"].VR = "OB"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / "test.dcm"
    made.save_as(path, enforce_file_format=True)
    return Outgoing(
        delivery=0,
        path=path,
        kind=ObjectKind.CAPTURE,
        study_uid=StudyUid(made.StudyInstanceUID),
        sop_class_uid=SopClassUid(made.SOPClassUID),
        sop_instance_uid=SopInstanceUid(made.SOPInstanceUID),
        sha256=Sha256(sha256(path.read_bytes()).hexdigest()),
    )


def _patiently(asked: Callable[[], Seen]) -> Seen:
    """Return the last answer: an archive may index a little later than it stores."""
    deadline = time.monotonic() + ASKED_FOR_S
    while True:
        seen = asked()
        if seen.found is not Found.MISSING or time.monotonic() > deadline:
            return seen
        time.sleep(0.5)


def _kept(peer: Peer, seen: Seen) -> Finding:
    match seen.found:
        case Found.THERE:
            return _told(peer, f"it stored a test object: {seen.detail}")
        case Found.MISSING | Found.LOST | Found.CONFLICT:
            said = "it loses objects: it said that it stored a test object, and has not"
            return _told(peer, said, Ailment.LOSES_OBJECTS)
        case _:
            said = f"it said that it stored a test object, and cannot be asked: {seen.detail}"
            return _told(peer, said)


def _owed(peer: Peer, owed: Debts) -> list[Finding]:
    found = []
    if owed.missed:
        said = (
            f"it loses objects: it said that it stored {owed.missed}, and did not"
            " have them when it was asked"
        )
        found.append(_told(peer, said, Ailment.LOSES_OBJECTS))
    if owed.dead:
        said = f"{owed.dead} objects were given up, the last one: {owed.detail}"
        found.append(_told(peer, said, Ailment.GIVEN_UP))
    return found


def _told(peer: Peer, said: str, ailment: Ailment | None = None) -> Finding:
    return Finding(hop=Hop.PEERS, who=peer.name, said=said, ailment=ailment)
