"""Sent is not delivered: each destination is asked whether it has what it stored."""

import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role
from starlette.responses import JSONResponse, Response

from dicom_node.commitment import FAILURES, INSTANCE, PUSH_MODEL
from dicom_node.domain import ObjectKind
from dicom_node.drain import Drain
from dicom_node.hearing import Listener
from dicom_node.ledger import Ledger, outbox, outcomes
from dicom_node.ledger.overview import journal
from dicom_node.peers import Peer, Right, Verify, Via
from dicom_node.scp import StorageScp
from dicom_node.service import reported
from dicom_node.verification import LOST, Patience
from tests.arrivals import study_uid
from tests.integration.conftest import Orthanc
from tests.outboxes import PATIENT, Outbox
from tests.peers import StorePeer, StowPeer
from tests.receiving import house, running

COMMITTED = {("delivered", "commitment")}
FOUND = {("delivered", "query")}


@pytest.fixture
def box(ledger: Ledger, tmp_path: Path) -> Outbox:
    """Return an outbox with a report and a capture for the destination ``pacs``."""
    filled = Outbox(ledger=ledger, folder=tmp_path)
    filled.fill("pacs")
    return filled


pytestmark = pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
"""What the ledger does is tested on both databases: test_ledger_deliveries."""


def listening(box: Outbox, drain: Drain, reporter: str = "FAKEPACS") -> StorageScp:
    """Return the node's listener, that hears this destination and nobody else."""
    listener = Listener(
        callers={}, reporters={reporter: frozenset({"PACSIGHT"})}, grace_s=0.2
    )
    intake = house(box.folder / "house").intake
    return StorageScp(listener, intake, reported(box.ledger, [drain]))


def call(port: int, asked: Dataset, *, roles: bool = True, **said: Any) -> int:
    """Report on a transaction over a new association; return the node's answer."""
    report = Dataset()
    report.TransactionUID = asked.TransactionUID
    report.ReferencedSOPSequence = asked.ReferencedSOPSequence
    for keyword, value in said.items():
        setattr(report, keyword, value)
    ae = AE(ae_title="FAKEPACS")
    ae.add_requested_context(PUSH_MODEL)
    role: list[Any] = [build_role(PUSH_MODEL, scp_role=True)] if roles else []
    assoc = ae.associate("127.0.0.1", port, ext_neg=role, ae_title="PACSIGHT")
    assert assoc.is_established
    event_type = FAILURES if "FailedSOPSequence" in report else 1
    answer, _ = assoc.send_n_event_report(report, event_type, PUSH_MODEL, INSTANCE)
    assoc.release()
    return int(answer.Status)


# ── storage commitment ──────────────────────────────────────────────────────


def test_a_peer_that_commits_has_it(box: Outbox) -> None:
    """The report comes over the association that asked; the study is done."""
    with StorePeer(commits=True).running() as pacs:
        drain = box.drain(pacs.peer())
        assert drain.send() == 2
        assert box.states() == {("sent", "")}
        assert box.settled() == "delivering"
        assert drain.verify() == 2
    assert box.states() == COMMITTED
    assert box.settled() == "done"
    (asked,) = pacs.transactions
    uids = {item.ReferencedSOPInstanceUID for item in asked.ReferencedSOPSequence}
    assert uids == set(box.files())
    assert pacs.answers == [0x0000]


@pytest.mark.parametrize("roles", [True, False], ids=["as SCP", "without a role"])
def test_a_report_may_come_over_another_association(box: Outbox, roles: bool) -> None:  # noqa: FBT001
    """A peer that calls our listener later is heard, though it may not send."""
    with StorePeer(commits=True, report_s=None).running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        assert box.states() == {("sent", "")}
        with running(listening(box, drain)) as scp:
            assert call(scp.port, pacs.transactions[0], roles=roles) == 0x0000
    assert box.states() == COMMITTED
    assert box.settled() == "done"


def test_a_report_may_come_to_another_process(box: Outbox) -> None:
    """What was asked stands in the ledger: another node's listener settles it."""
    with StorePeer(commits=True, report_s=None).running() as pacs:
        box.drain(pacs.peer()).drain()
        other = box.drain(pacs.peer())
        with running(listening(box, other)) as scp:
            assert call(scp.port, pacs.transactions[0]) == 0x0000
            assert call(scp.port, pacs.transactions[0]) == 0x0000
    assert box.states() == COMMITTED


def test_a_report_on_an_unknown_transaction_is_refused(box: Outbox) -> None:
    """Invalid argument value, and nothing changes."""
    with StorePeer(commits=True, report_s=None).running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        (asked,) = pacs.transactions
        asked.TransactionUID = generate_uid()
        with running(listening(box, drain)) as scp:
            assert call(scp.port, asked) == 0x0115
    assert box.states() == {("sent", "")}


def test_a_report_that_says_nothing_is_refused(box: Outbox) -> None:
    """A failure without its reason: invalid argument value, and nothing changes."""
    with StorePeer(commits=True, report_s=None).running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        (asked,) = pacs.transactions
        with running(listening(box, drain)) as scp:
            failed = asked.ReferencedSOPSequence
            assert call(scp.port, asked, FailedSOPSequence=failed) == 0x0115
    assert box.states() == {("sent", "")}


def test_who_may_only_report_stores_nothing(box: Outbox) -> None:
    """A destination without the right to send is answered "not authorized"."""
    drain = box.drain(StorePeer(port=104).peer())
    with running(listening(box, drain)) as scp:
        ae = AE(ae_title="FAKEPACS")
        ae.add_requested_context("1.2.840.10008.5.1.4.1.1.7")
        assoc = ae.associate("127.0.0.1", scp.port, ae_title="PACSIGHT")
        image = Dataset()
        image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        image.SOPInstanceUID = "1.2.3"
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        status = assoc.send_c_store(image)
        assoc.release()
    assert status.Status == 0x0124
    assert list((box.folder / "house" / "spool").rglob("*.dcm")) == []


@pytest.mark.parametrize(
    ("reason", "state", "words"),
    [
        (0x0112, "waiting", "no such object instance"),
        (0x0119, "dead", "class-instance conflict"),
        (0x0131, "sent", "duplicate transaction UID"),
        (0x0213, "sent", "resource limitation"),
        (0x0110, "sent", "processing failure"),
        (0x0122, "sent", "SOP class not supported"),
    ],
)
def test_a_failure_is_read_as_the_standard_means_it(
    box: Outbox, reason: int, state: str, words: str
) -> None:
    """One object is committed to, the other not: each goes its own way."""
    capture = box.line(ObjectKind.CAPTURE)
    report = box.line(ObjectKind.REPORT)
    uncommitted = {str(report.sop_instance_uid): reason}
    with StorePeer(commits=True, uncommitted=uncommitted).running() as pacs:
        box.drain(pacs.peer()).drain()
        assert box.line(ObjectKind.CAPTURE).state == "delivered"
        failed = box.line(ObjectKind.REPORT)
        assert (failed.state, words in failed.detail) == (state, True)
        assert capture.sop_instance_uid != report.sop_instance_uid


def test_what_can_be_committed_to_later_is_asked_for_again(box: Outbox) -> None:
    """After a resource limitation comes another request, of a new transaction."""
    uncommitted = dict.fromkeys(box.files(), 531)
    with StorePeer(commits=True, uncommitted=uncommitted).running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        pacs.uncommitted.clear()
        assert drain.drain() == 0
        box.clock.pass_s(2)
        assert drain.drain() == 2
    assert box.states() == COMMITTED
    first, second = (asked.TransactionUID for asked in pacs.transactions)
    assert first != second


def test_a_report_that_does_not_come_is_replaced_by_a_query(box: Outbox) -> None:
    """After the patience is over the peer is asked by C-FIND; a late report is heard."""
    with StorePeer(commits=True, report_s=None, keeps=True).running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        box.clock.pass_s(59)
        assert drain.drain() == 0
        box.clock.pass_s(1)
        assert drain.drain() == 2
        assert box.states() == FOUND
        with running(listening(box, drain)) as scp:
            assert call(scp.port, pacs.transactions[0]) == 0x0000
    assert box.states() == FOUND
    assert len(pacs.transactions) == 1


def test_a_request_that_is_refused_is_replaced_by_a_query(box: Outbox) -> None:
    """N-ACTION answered with a failure: the peer is asked by C-FIND instead."""
    with StorePeer(commits=True, action_status=0x0211, keeps=True).running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        assert "answered 0x0211" in box.line().detail
        box.clock.pass_s(2)
        drain.drain()
    assert box.states() == FOUND


def test_commitment_that_is_demanded_is_asked_for_until_it_comes(box: Outbox) -> None:
    """No query takes its place: a lost report is asked for by another transaction."""
    peer = StorePeer(commits=True, report_s=None, keeps=True)
    with peer.running() as pacs:
        drain = box.drain(pacs.peer(verify=Verify.COMMITMENT))
        drain.drain()
        box.clock.pass_s(60)
        pacs.report_s = 0.05
        drain.drain()
    assert box.states() == COMMITTED
    assert len(pacs.transactions) == 2


def test_orthanc_commits_by_calling_the_node(box: Outbox, orthanc: Orthanc) -> None:
    """The PACS reports over an association of its own, and the node hears it."""
    orthanc.clear()
    peer = StorePeer(aet=orthanc.aet, port=orthanc.dicom_port).peer()
    drain = box.drain(peer)
    with running(listening(box, drain, orthanc.aet)) as scp:
        orthanc.know("PACSIGHT", scp.port)
        drain.drain()
        until_settled(box)
    orthanc.know("PACSIGHT", 11112)
    assert box.states() == COMMITTED


def until_settled(box: Outbox) -> None:
    """Wait until nothing is sent and unverified any more."""
    deadline = time.monotonic() + 15
    while any(line.state == "sent" for line in box.lines()):
        assert time.monotonic() < deadline, box.lines()
        time.sleep(0.05)


# ── queries ─────────────────────────────────────────────────────────────────


def test_a_peer_without_commitment_is_asked_by_query(box: Outbox) -> None:
    """C-FIND finds each object under its study and patient, over one association."""
    with StorePeer(keeps=True).running() as pacs:
        box.drain(pacs.peer()).drain()
    assert box.states() == FOUND
    assert len(pacs.callers) == 2


def test_a_peer_with_dicomweb_is_asked_by_qido(box: Outbox) -> None:
    """Where it gives no commitment; C-FIND is not needed."""
    with StorePeer(finds=False).running() as pacs, serving(box).running() as web:
        box.drain(pacs.peer(dicomweb=web.url)).drain()
    assert box.states() == FOUND


def test_stow_is_verified_by_qido(box: Outbox) -> None:
    """Every object of a request is looked for over one session."""
    with serving(box).running() as web:
        box.drain(web.peer(name="pacs")).drain()
    assert box.states() == FOUND


def serving(box: Outbox) -> StowPeer:
    """Return a DICOMweb service whose QIDO-RS has what lies in the outbox."""

    def query(path: str) -> Response:
        found = [{"00100020": {"vr": "LO", "Value": [PATIENT]}}]
        if path != "studies":
            found = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in box.files()]
        return JSONResponse(found, media_type="application/dicom+json")

    return StowPeer(query=query)


def test_an_archive_that_indexes_late_is_asked_again(box: Outbox) -> None:
    """After 2, 10 and 60 s: what is there by then was sent once."""
    with StorePeer().running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        assert box.line().state == "sent"
        for wait_s in (2, 10):
            box.clock.pass_s(wait_s - 0.1)
            assert drain.drain() == 0
            box.clock.pass_s(0.1)
            assert drain.drain() == 2
        pacs.keeps = True
        for content in box.files().values():
            pacs.keep(read(content))
        box.clock.pass_s(60)
        drain.drain()
    assert box.states() == FOUND
    assert len(pacs.received) == 2


def read(content: bytes) -> Dataset:
    """Return a file's data set."""
    return dcmread(BytesIO(content))


def test_a_peer_that_cannot_be_asked_is_believed(box: Outbox) -> None:
    """It counts as delivered, and the ledger says that nobody saw it there."""
    with StorePeer(finds=False).running() as pacs:
        box.drain(pacs.peer()).drain()
    assert box.states() == {("delivered", "")}
    assert box.line().detail == (
        "sent, not verified: pacs: it offers neither storage commitment nor C-FIND"
    )
    assert box.settled() == "done"


def test_a_peer_that_has_to_be_asked_is_not_believed(box: Outbox) -> None:
    """With verify = "query" it stays sent, is asked slowly, and is given up at last."""
    box.patience = Patience(demanded=True, silence_s=3600)
    with StorePeer(finds=False).running() as pacs:
        drain = box.drain(pacs.peer(verify=Verify.QUERY))
        for _ in range(6):
            drain.drain()
            assert box.line().state == "sent"
            box.clock.pass_s(600)
        drain.drain()
    assert box.line().state == "dead"
    assert box.line().detail.startswith("never verified: ")
    assert box.settled() == "undelivered"


def test_a_peer_may_be_believed_by_setting(box: Outbox) -> None:
    """With verify = "none" nothing is asked, and the ledger says so."""
    with StorePeer(commits=True).running() as pacs:
        box.drain(pacs.peer(verify=Verify.NONE)).drain()
    assert box.states() == {("delivered", "")}
    assert box.line().detail == "stored; not verified: switched off"
    assert pacs.transactions == []


def test_a_peer_that_went_down_after_success_is_asked_when_it_is_back(
    box: Outbox,
) -> None:
    """An hour without an answer is no loss, and no delivery."""
    with StorePeer(keeps=True).running() as pacs:
        drain = box.drain(pacs.peer())
        drain.send()
    for _ in range(12):
        drain.verify()
        box.clock.pass_s(300)
    assert box.states() == {("sent", "")}
    with pacs.running():
        drain.drain()
    assert box.states() == FOUND
    assert len(pacs.received) == 2


def test_a_crash_between_sent_and_asked_forgets_nothing(box: Outbox) -> None:
    """A node that starts again asks for what the last one sent."""
    with StorePeer(keeps=True).running() as pacs:
        box.drain(pacs.peer()).send()
        assert box.drain(pacs.peer()).verify() == 2
    assert box.states() == FOUND


def test_what_is_lost_is_sent_again_with_the_same_bytes(box: Outbox) -> None:
    """After verify_age_s: the journal says so, and no other UID is ever used."""
    with StorePeer().running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        for _ in range(6):
            box.clock.pass_s(300)
            drain.verify()
        assert box.line().state == "waiting"
        assert box.line().detail == LOST
        pacs.keeps = True
        box.clock.pass_s(10)
        drain.drain()
    assert box.states() == FOUND
    assert len(pacs.received) == 4
    assert pacs.received[:2] == pacs.received[2:]
    with box.ledger.read() as tx:
        lines = journal(tx, study_uid(1), limit=50)
    assert sum(line.kind == "lost" for line in lines) == 2


def test_a_folder_is_read_back_at_once(box: Outbox, tmp_path: Path) -> None:
    """What lies there is what was sent; nothing is left to ask."""
    peer = Peer(
        name="pacs",
        via=Via.FOLDER,
        folder=tmp_path / "out",
        rights=frozenset({Right.DESTINATION}),
    )
    assert box.drain(peer).drain() == 2
    assert box.states() == {("delivered", "content")}


def test_a_peer_that_answers_no_query_may_still_commit(box: Outbox) -> None:
    """Half is to be found and half to be committed to: no object is forgotten."""
    uid = str(box.line(ObjectKind.REPORT).sop_instance_uid)
    peer = StorePeer(commits=True, find_status=0xA700, uncommitted={uid: 0x0122})
    with peer.running() as pacs:
        drain = box.drain(pacs.peer())
        drain.send()
        drain.verify()
        assert box.line(ObjectKind.CAPTURE).state == "delivered"
        box.clock.pass_s(2)
        assert drain.verify() == 1
        assert "C-FIND answered 0xA700" in box.line(ObjectKind.REPORT).detail
        assert drain.verify() == 0


def test_a_fault_of_one_question_leaves_no_object_without_its_next(
    box: Outbox,
) -> None:
    """Where C-FIND fails, what waits to be committed to is asked for later, too."""
    peer = StorePeer(commits=True, report_s=None, find_status=0xA700)
    with peer.running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        box.clock.pass_s(60)
        with box.ledger.write() as tx:
            key = outbox.unverified(tx, "pacs", now=box.clock(), limit=1)[0].delivery
            outcomes.ask_again(
                tx, key, detail="", until=box.clock(), transaction_uid=""
            )
        assert drain.verify() == 2
        assert drain.verify() == 0


def test_a_peer_that_rejects_the_title_is_asked_by_qido(box: Outbox) -> None:
    """Its DICOM side wants nothing of us any more, its web side answers."""
    with StorePeer().running() as pacs, serving(box).running() as web:
        drain = box.drain(pacs.peer(dicomweb=web.url))
        drain.send()
        pacs.reject = (1, 1, 3)
        drain.verify()
    assert box.states() == FOUND


def test_many_questions_go_over_one_association(ledger: Ledger, tmp_path: Path) -> None:
    """Sixteen objects: one association to store them, one to ask for them."""
    box = Outbox(ledger=ledger, folder=tmp_path)
    box.fill("pacs", studies=8)
    with StorePeer(keeps=True).running() as pacs:
        box.drain(pacs.peer()).drain()
    assert box.states() == FOUND
    assert len(pacs.callers) == 2
