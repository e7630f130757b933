"""C-STORE to a peer that gives every answer, and to a real PACS."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from orthanc_api_client import OrthancApiClient
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dicom_node.deliver import destination
from dicom_node.domain import ObjectKind
from dicom_node.outgoing import SLOWLY_S, Outcome, Outgoing, Verdict
from dicom_node.peers import Peer, Syntax
from dicom_node.verification import How
from tests.integration.conftest import Orthanc, free_port
from tests.peers import (
    DROP,
    QUICK,
    SILENCE,
    StorePeer,
    data_set_bytes,
    outgoing,
    pictured,
)


def deliver(peer: Peer, *objects: Outgoing) -> dict[int, Outcome]:
    """Return what became of each object, by delivery."""
    outcomes = list(destination(peer, QUICK).deliver(objects))
    by_delivery = {outcome.delivery: outcome for outcome in outcomes}
    assert len(by_delivery) == len(outcomes) == len(objects)
    return by_delivery


def one(peer: Peer, parcel: Outgoing) -> Outcome:
    """Return what became of a single object."""
    return deliver(peer, parcel)[parcel.delivery]


def held_instance(parcel: Outgoing, *, patient_id: str = "PAT-0001") -> list[Dataset]:
    """Return what C-FIND finds of an object in an archive that has it."""
    study = Dataset()
    study.QueryRetrieveLevel = "STUDY"
    study.StudyInstanceUID = parcel.study_uid
    study.PatientID = patient_id
    image = Dataset()
    image.QueryRetrieveLevel = "IMAGE"
    image.StudyInstanceUID = parcel.study_uid
    image.SeriesInstanceUID = f"{parcel.study_uid}.9"
    image.SOPInstanceUID = parcel.sop_instance_uid
    return [study, image]


def test_sends_the_bytes_that_lie_in_the_outbox(tmp_path: Path) -> None:
    """What arrives is the file's data set, byte for byte, over one association."""
    parcels = [
        outgoing(tmp_path, 1),
        outgoing(tmp_path, 2, kind=ObjectKind.CAPTURE),
        outgoing(tmp_path, 3),
    ]
    with StorePeer().running() as pacs:
        outcomes = deliver(pacs.peer(calling_aet="AINODE"), *parcels)
    assert {o.verdict for o in outcomes.values()} == {Verdict.SENT}
    assert pacs.received == [
        (
            p.sop_instance_uid,
            ExplicitVRLittleEndian,
            data_set_bytes(p.path.read_bytes()),
        )
        for p in parcels
    ]
    assert pacs.callers == ["AINODE"]


def test_encodes_anew_for_a_peer_that_takes_implicit_alone(tmp_path: Path) -> None:
    """Implicit VR Little Endian carries the same values, and the same bytes twice."""
    parcel = outgoing(tmp_path)
    with StorePeer(syntaxes=[ImplicitVRLittleEndian]).running() as pacs:
        assert one(pacs.peer(), parcel).verdict is Verdict.SENT
        assert one(pacs.peer(), parcel).verdict is Verdict.SENT
    (_, syntax, first), (_, _, second) = pacs.received
    assert syntax == ImplicitVRLittleEndian
    assert first == second
    read = dcmread(BytesIO(first), force=True)
    sent = dcmread(parcel.path)
    assert {e.tag: e.value for e in read} == {e.tag: e.value for e in sent}


def test_offers_the_syntaxes_that_the_peer_wants(tmp_path: Path) -> None:
    """RLE for an image, explicit for a report; values and pixels are the same."""
    report, capture = outgoing(tmp_path, 1), pictured(tmp_path, 2)
    every = [RLELossless, ImplicitVRLittleEndian, ExplicitVRLittleEndian]
    wanted = (Syntax.RLE, Syntax.EXPLICIT)
    with StorePeer(syntaxes=every).running() as pacs:
        for _ in range(2):
            deliver(pacs.peer(transfer_syntaxes=wanted), report, capture)
    (_, plain, first), (_, packed, image), *again = pacs.received
    assert (plain, packed) == (ExplicitVRLittleEndian, RLELossless)
    assert [content for _, _, content in again] == [first, image]
    read = dcmread(BytesIO(image), force=True)
    read.file_meta = FileMetaDataset()
    read.file_meta.TransferSyntaxUID = RLELossless
    assert np.array_equal(read.pixel_array, dcmread(capture.path).pixel_array)


def test_the_peers_order_counts(tmp_path: Path) -> None:
    """Of two syntaxes that it accepts, the one that stands first is used."""
    with StorePeer().running() as pacs:
        one(
            pacs.peer(transfer_syntaxes=(Syntax.IMPLICIT, Syntax.EXPLICIT)),
            outgoing(tmp_path),
        )
    assert [syntax for _, syntax, _ in pacs.received] == [ImplicitVRLittleEndian]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.SENT),
        (0xB000, Verdict.SENT),
        (0xB006, Verdict.SENT),
        (0xB007, Verdict.SENT),
        (0x0110, Verdict.RETRY),
        (0x0213, Verdict.RETRY),
        (0xA700, Verdict.RETRY),
        (0xA900, Verdict.RETRY),
        (0xC000, Verdict.RETRY),
        (0xC123, Verdict.RETRY),
        (0x0117, Verdict.DEAD),
        (0x0122, Verdict.DEAD),
        (0x0124, Verdict.DEAD),
        (0x0210, Verdict.DEAD),
        (0x0211, Verdict.DEAD),
        (0x0212, Verdict.DEAD),
    ],
)
def test_reads_a_status_as_the_standard_means_it(
    tmp_path: Path, status: int, verdict: Verdict
) -> None:
    """Each status of C-STORE leads to the right next step, and the detail names it."""
    with StorePeer(script=[status]).running() as pacs:
        outcome = one(pacs.peer(), outgoing(tmp_path))
    assert outcome.verdict is verdict
    assert f"0x{status:04X}" in outcome.detail or status == 0


def test_a_refused_object_disturbs_no_other(tmp_path: Path) -> None:
    """After a failure the association goes on with the next object."""
    parcels = [outgoing(tmp_path, n) for n in (1, 2, 3)]
    with StorePeer(script=[0x0000, 0x0122, 0x0000]).running() as pacs:
        outcomes = deliver(pacs.peer(), *parcels)
    assert [outcomes[n].verdict for n in (1, 2, 3)] == [
        Verdict.SENT,
        Verdict.DEAD,
        Verdict.SENT,
    ]
    assert len(pacs.callers) == 1


def test_a_duplicate_is_delivered_once_a_query_finds_it(tmp_path: Path) -> None:
    """0x0111 counts where the archive has the instance under study and patient."""
    parcel = outgoing(tmp_path)
    pacs = StorePeer(script=[0x0111], holds=held_instance(parcel))
    with pacs.running():
        outcome = one(pacs.peer(), parcel)
    assert (outcome.verdict, outcome.how) == (Verdict.DELIVERED, How.QUERY)
    assert "found by query" in outcome.detail


@pytest.mark.parametrize("patient_id", ["SOMEBODY-ELSE", None])
def test_a_duplicate_elsewhere_is_a_failure(
    tmp_path: Path, patient_id: str | None
) -> None:
    """0x0111 for an instance that the archive has not, or under another patient."""
    parcel = outgoing(tmp_path)
    holds = held_instance(parcel, patient_id=patient_id) if patient_id else []
    with StorePeer(script=[0x0111], holds=holds).running() as pacs:
        outcome = one(pacs.peer(), parcel)
    assert outcome.verdict is Verdict.DEAD
    assert "does not find it" in outcome.detail
    assert "SOMEBODY" not in outcome.detail


def test_a_duplicate_that_cannot_be_asked_for_is_tried_again(tmp_path: Path) -> None:
    """0x0111 and a query that fails: nothing is known, so nothing is given up."""
    with StorePeer(script=[0x0111], find_status=0xA700).running() as pacs:
        outcome = one(pacs.peer(), outgoing(tmp_path))
    assert outcome.verdict is Verdict.RETRY
    assert outcome.max_age_s is not None


def test_an_association_lost_in_the_middle_costs_one_attempt_of_one_object(
    tmp_path: Path,
) -> None:
    """The object in flight is tried again later, the rest goes over a new one."""
    parcels = [outgoing(tmp_path, n) for n in (1, 2, 3)]
    with StorePeer(script=[0x0000, DROP]).running() as pacs:
        outcomes = deliver(pacs.peer(), *parcels)
    assert [outcomes[n].verdict for n in (1, 2, 3)] == [
        Verdict.SENT,
        Verdict.RETRY,
        Verdict.SENT,
    ]
    assert len(pacs.callers) == 2


def test_a_peer_that_always_drops_is_left_alone(tmp_path: Path) -> None:
    """After three lost associations the rest waits for its next turn."""
    parcels = [outgoing(tmp_path, n) for n in range(1, 6)]
    with StorePeer(script=[DROP] * 5).running() as pacs:
        outcomes = deliver(pacs.peer(), *parcels)
    assert {o.verdict for o in outcomes.values()} == {Verdict.RETRY}
    assert len(pacs.callers) == 3


def test_a_peer_that_does_not_answer_is_tried_again(tmp_path: Path) -> None:
    """A C-STORE that is not answered in time may or may not be stored: once more."""
    with StorePeer(script=[SILENCE]).running() as pacs:
        outcome = one(pacs.peer(), outgoing(tmp_path))
    assert outcome.verdict is Verdict.RETRY
    assert "lost before it was answered" in outcome.detail


def test_a_peer_that_is_down_is_tried_again(tmp_path: Path) -> None:
    """A refused connection is about the moment, for every object."""
    peer = StorePeer(port=free_port()).peer()
    outcomes = deliver(peer, outgoing(tmp_path, 1), outgoing(tmp_path, 2))
    assert {o.verdict for o in outcomes.values()} == {Verdict.RETRY}
    assert outcomes[1].detail == "pacs: no connection, is it running?"
    assert outcomes[1].wait_s == 0


def test_a_peer_without_an_address_is_tried_again(tmp_path: Path) -> None:
    """A host name that has no address may have one later."""
    outcome = one(StorePeer(port=104).peer(host="pacs.invalid"), outgoing(tmp_path))
    assert outcome.verdict is Verdict.RETRY
    assert "cannot be resolved" in outcome.detail


@pytest.mark.parametrize(
    ("reject", "wait_s", "reason"),
    [
        ((0x02, 0x03, 0x01), 0.0, "Temporary congestion"),
        ((0x02, 0x03, 0x02), 0.0, "Local limit exceeded"),
        ((0x01, 0x01, 0x03), SLOWLY_S, "Calling AE title not recognised"),
        ((0x01, 0x01, 0x07), SLOWLY_S, "Called AE title not recognised"),
    ],
)
def test_a_rejected_association_is_tried_again(
    tmp_path: Path, reject: tuple[int, int, int], wait_s: float, reason: str
) -> None:
    """Soon if the peer is busy, slowly if somebody has to mend a title."""
    with StorePeer(reject=reject).running() as pacs:
        outcome = one(pacs.peer(), outgoing(tmp_path))
    assert outcome.verdict is Verdict.RETRY
    assert outcome.wait_s == wait_s
    assert reason in outcome.detail


def test_an_object_that_the_peer_takes_in_no_context_is_dead(tmp_path: Path) -> None:
    """What it takes is sent; what it never takes is said by its name."""
    parcels = [outgoing(tmp_path, 1), outgoing(tmp_path, 2, kind=ObjectKind.CAPTURE)]
    with StorePeer(classes=[SecondaryCaptureImageStorage]).running() as pacs:
        outcomes = deliver(pacs.peer(), *parcels)
    assert outcomes[2].verdict is Verdict.SENT
    assert outcomes[1].verdict is Verdict.DEAD
    assert Comprehensive3DSRStorage.name in outcomes[1].detail


def test_a_peer_that_accepts_nothing_is_tried_slowly(tmp_path: Path) -> None:
    """An association without any context is a matter of the peer's settings."""
    with StorePeer(classes=["1.2.840.10008.5.1.4.1.1.2"]).running() as pacs:
        outcome = one(pacs.peer(), outgoing(tmp_path))
    assert (outcome.verdict, outcome.wait_s) == (Verdict.RETRY, SLOWLY_S)
    assert "accepts nothing" in outcome.detail


def test_a_damaged_file_is_never_sent(tmp_path: Path) -> None:
    """Bytes whose digest is another one, or that are gone, do not go out."""
    changed, gone, whole = (outgoing(tmp_path, n) for n in (1, 2, 3))
    changed.path.write_bytes(changed.path.read_bytes() + b"x")
    gone.path.unlink()
    with StorePeer().running() as pacs:
        outcomes = deliver(pacs.peer(), changed, gone, whole)
    assert outcomes[1].verdict is Verdict.DEAD
    assert outcomes[2].verdict is Verdict.DEAD
    assert outcomes[3].verdict is Verdict.SENT
    assert [uid for uid, _, _ in pacs.received] == [whole.sop_instance_uid]


def test_orthanc_stores_the_same_bytes_once(orthanc: Orthanc, tmp_path: Path) -> None:
    """Sent twice, an object is one instance in the PACS, with the data set sent."""
    parcel = outgoing(tmp_path, study_uid="2.25.2001")
    peer = orthanc_peer(orthanc)
    assert one(peer, parcel).verdict is Verdict.SENT
    assert one(peer, parcel).verdict is Verdict.SENT
    pacs = OrthancApiClient(orthanc.url)
    study = pacs.studies.lookup(parcel.study_uid)
    (instance,) = pacs.studies.get_instances_ids(study)
    kept = pacs.instances.get_file(instance)
    assert data_set_bytes(kept) == data_set_bytes(parcel.path.read_bytes())


def test_orthanc_that_does_not_know_us_says_so(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    """A wrong called title is reported as such, and tried slowly."""
    peer = orthanc_peer(orthanc, aet="ORTHANK")
    outcome = one(peer, outgoing(tmp_path, study_uid="2.25.2002"))
    assert (outcome.verdict, outcome.wait_s) == (Verdict.RETRY, SLOWLY_S)
    assert "Called AE title not recognised" in outcome.detail


def test_orthanc_that_was_killed_gets_it_later(
    own_orthanc: Orthanc, tmp_path: Path
) -> None:
    """Down: tried again. Up again: stored."""
    parcel = outgoing(tmp_path)
    own_orthanc.start()
    own_orthanc.kill()
    assert one(orthanc_peer(own_orthanc), parcel).verdict is Verdict.RETRY
    own_orthanc.start()
    assert one(orthanc_peer(own_orthanc), parcel).verdict is Verdict.SENT


def orthanc_peer(orthanc: Orthanc, *, aet: str = "") -> Peer:
    """Return Orthanc as a destination by C-STORE."""
    fake = StorePeer(aet=aet or orthanc.aet, port=orthanc.dicom_port)
    return fake.peer(name="orthanc")
