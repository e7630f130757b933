"""Destinations that go wrong: the right next step, and a line that a person understands."""

import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from orthanc_api_client import OrthancApiClient
from pydicom.uid import SecondaryCaptureImageStorage
from starlette.responses import Response

from dicom_node.domain import ObjectKind
from dicom_node.ledger import Ledger, outbox
from dicom_node.ledger.deliveries import dead_letters
from dicom_node.ledger.overview import journal
from dicom_node.outgoing import SLOWLY_S
from dicom_node.peers import Peer, RetryPolicy, Right, Tls, Via
from dicom_node.verification import LOST
from tests.arrivals import study_uid
from tests.certificates import Authority
from tests.integration.conftest import Orthanc, free_port
from tests.ledgers import standing
from tests.outboxes import Outbox
from tests.peers import DROP, StorePeer, StowPeer

pytestmark = pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
"""What the ledger does is tested on both databases: test_ledger_deliveries."""

HOUR_S = 3600.0


@pytest.fixture
def box(ledger: Ledger, tmp_path: Path) -> Outbox:
    """Return an outbox with a report and a capture for the destination ``pacs``."""
    filled = Outbox(ledger=ledger, folder=tmp_path)
    filled.fill("pacs")
    return filled


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority that the node trusts."""
    return Authority.found(tmp_path_factory.mktemp("authority") / "ca")


def wait_s(box: Outbox) -> float:
    """Return how long the report waits until it is tried again."""
    line = box.line()
    assert line.state in {"waiting", "sent"}
    return (line.since - box.clock()).total_seconds()


def journalled(box: Outbox, kind: str) -> list[str]:
    """Return what the study's journal says of a kind."""
    with box.ledger.read() as tx:
        return [j.detail for j in journal(tx, study_uid(1), limit=99) if j.kind == kind]


# ── it is not there ─────────────────────────────────────────────────────────


def test_a_destination_whose_name_is_unknown(box: Outbox) -> None:
    """Tried again soon: a name server may be down."""
    peer = StorePeer(port=104).peer(host="pacs.invalid")
    box.drain(peer).drain()
    assert box.line().detail == "pacs: the host name cannot be resolved"
    assert 0 < wait_s(box) < 10


def test_a_destination_that_nobody_listens_for(box: Outbox) -> None:
    """Tried again soon, then less and less often."""
    drain = box.drain(StorePeer(port=free_port()).peer())
    drain.drain()
    assert box.line().detail == "pacs: no connection, is it running?"
    first = wait_s(box)
    box.clock.pass_s(first)
    drain.drain()
    assert first < wait_s(box) < 15
    assert box.line().attempts == 2


@pytest.mark.parametrize("via", [Via.STOW, Via.ORTHANC])
def test_a_web_service_that_is_not_there(box: Outbox, via: Via) -> None:
    """The same, in the words of HTTP."""
    url = f"http://127.0.0.1:{free_port()}"
    peer = Peer(
        name="pacs",
        via=via,
        dicomweb=url,
        orthanc=url,
        rights=frozenset({Right.DESTINATION}),
    )
    box.drain(peer).drain()
    assert "answer" in box.line().detail
    assert "is it running?" in box.line().detail
    assert 0 < wait_s(box) < 10


# ── it does not want us ─────────────────────────────────────────────────────


def test_a_destination_that_rejects_the_title(box: Outbox) -> None:
    """Somebody has to mend it: tried every ten minutes, delivered once it is mended."""
    with StorePeer(reject=(1, 1, 3), keeps=True).running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        rejected = "pacs: association rejected, Calling AE title not recognised"
        assert box.line().detail == rejected
        assert wait_s(box) == SLOWLY_S
        pacs.reject = None
        box.clock.pass_s(SLOWLY_S)
        drain.drain()
    assert box.states() == {("delivered", "query")}


def test_a_destination_that_takes_one_class_alone(box: Outbox) -> None:
    """What it never takes is dead at once, says why, and disturbs nothing else."""
    classes = [SecondaryCaptureImageStorage]
    with StorePeer(classes=classes, keeps=True).running() as pacs:
        box.drain(pacs.peer()).drain()
    assert box.line(ObjectKind.CAPTURE).state == "delivered"
    report = box.line(ObjectKind.REPORT)
    said = (
        "pacs accepts no Comprehensive 3D SR Storage in Explicit VR Little Endian"
        " or Implicit VR Little Endian"
    )
    assert (report.state, report.detail) == ("dead", said)
    assert journalled(box, "undeliverable") == [f"pacs: {said}"]
    assert box.settled() == "undelivered"


def test_a_destination_that_accepts_no_context(box: Outbox) -> None:
    """A matter of its settings: tried slowly."""
    with StorePeer(classes=["1.2.840.10008.5.1.4.1.1.2"]).running() as pacs:
        box.drain(pacs.peer()).drain()
    assert box.line().detail == "pacs: it accepts nothing of what we want to do"
    assert wait_s(box) == SLOWLY_S


# ── it cannot now ───────────────────────────────────────────────────────────


def test_a_destination_that_is_out_of_resources_for_hours(box: Outbox) -> None:
    """A700 is tried with growing waits to the end of the policy; then it is dead.

    The dead letter says why; sent again, it goes through, under the same UID.
    """
    policy = RetryPolicy(first_s=5, cap_s=900, jitter=0.2, max_age_s=6 * HOUR_S)
    with StorePeer(script=[0xA700] * 500).running() as pacs:
        drain = box.drain(pacs.peer(retry=policy))
        began = box.clock()
        waits = []
        while drain.drain():
            if box.line().state != "waiting":
                break
            waits.append(wait_s(box))
            box.clock.pass_s(max(waits[-1], 900 * 1.2))
        with box.ledger.read() as tx:
            dead = dead_letters(tx)
        assert {line.kind for line in dead} == {ObjectKind.REPORT, ObjectKind.CAPTURE}
        assert box.clock() - began > timedelta(hours=6)
        assert max(waits) <= 900 * 1.2
        assert waits[0] < waits[3] < waits[5]
        assert dead[0].attempts == len(waits) + 1
        assert dead[0].detail == (
            f"given up after {len(waits) + 1} attempts:"
            " the destination answered 0xA700, out of resources"
        )
        assert dead[0].since == box.clock()
        assert box.settled() == "undelivered"
        pacs.script.clear()
        pacs.keeps = True
        with box.ledger.write() as tx:
            again = outbox.resend(tx, standing(box.ledger).key, now=box.clock())
        assert again == 2
        drain.drain()
    assert box.states() == {("delivered", "query")}
    assert {uid for uid, _, _ in pacs.received} == set(box.files())


def test_a_destination_that_closes_the_association_in_the_middle(box: Outbox) -> None:
    """The object in flight may be there or not: it is sent again, the same bytes."""
    with StorePeer(script=[DROP], keeps=True).running() as pacs:
        drain = box.drain(pacs.peer())
        drain.drain()
        states = sorted(line.state for line in box.lines())
        assert states == ["delivered", "waiting"]
        (waiting,) = (line for line in box.lines() if line.state == "waiting")
        lost = "pacs: the association was lost before it was answered"
        assert waiting.detail == lost
        box.clock.pass_s(10)
        drain.drain()
    assert box.states() == {("delivered", "query")}
    assert sorted(uid for uid, _, _ in pacs.received) == sorted(box.files())


# ── its certificate ─────────────────────────────────────────────────────────


def test_a_certificate_that_we_trust(box: Outbox, authority: Authority) -> None:
    """C-STORE and C-FIND over TLS, with our own certificate."""
    context = authority.certify("good").server
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.own.path)
    own = authority.certify("node")
    with StorePeer(context=context, keeps=True).running() as pacs:
        tls = Tls(ca=authority.own.path, certificate=own.path, key=own.key)
        box.drain(pacs.peer(tls=tls)).drain()
    assert box.states() == {("delivered", "query")}


EXPIRED = "its TLS certificate has expired: it has to be renewed there"
UNKNOWN = "its TLS certificate is not signed by an authority that we know: see tls.ca"
ELSEWHERE = "its TLS certificate is for another host than the one in our settings"


@pytest.mark.parametrize("door", ["dimse", "stow", "orthanc"])
@pytest.mark.parametrize("fault", [EXPIRED, UNKNOWN, ELSEWHERE])
def test_a_certificate_that_we_cannot_trust(
    box: Outbox, authority: Authority, fault: str, door: str
) -> None:
    """Nothing is sent; the ledger says what is wrong, and it is tried slowly."""
    host = "DNS:elsewhere.example" if fault is ELSEWHERE else "IP:127.0.0.1"
    name = f"{door}{[EXPIRED, UNKNOWN, ELSEWHERE].index(fault)}"
    theirs = authority.certify(name, host=host, expired=fault is EXPIRED)
    tls = Tls(ca=None if fault is UNKNOWN else authority.own.path)
    if door == "dimse":
        with StorePeer(context=theirs.server).running() as pacs:
            box.drain(pacs.peer(tls=tls)).drain()
        assert pacs.received == []
    else:
        web = StowPeer(certificate=(theirs.path, theirs.key))
        with web.running():
            there = {"via": Via(door), "orthanc": web.url, "tls": tls, "name": "pacs"}
            box.drain(web.peer(**there)).drain()
        assert web.posted == []
    assert box.line().detail == f"pacs: {fault}"
    assert wait_s(box) == SLOWLY_S


def test_a_destination_that_wants_our_certificate(
    box: Outbox, authority: Authority
) -> None:
    """It ends the connection: the next step is ours."""
    context = authority.certify("strict").server
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(authority.own.path)
    with StorePeer(context=context).running() as pacs:
        box.drain(pacs.peer(tls=Tls(ca=authority.own.path))).drain()
    assert box.line().detail == (
        "pacs: it does not accept our TLS: does it want a certificate of ours?"
    )
    assert wait_s(box) == SLOWLY_S


def test_a_destination_that_speaks_no_tls(box: Outbox, authority: Authority) -> None:
    """Our settings ask for TLS, the peer does not have it: nothing goes out plain."""
    with StorePeer().running() as pacs:
        peer = pacs.peer(tls=Tls(ca=authority.own.path))
        box.drain(peer).drain()
    assert pacs.received == []
    assert box.line().detail == "pacs: it does not speak TLS on that port"
    assert wait_s(box) == SLOWLY_S


# ── it says something else ──────────────────────────────────────────────────


def test_a_web_page_in_place_of_stow(box: Outbox) -> None:
    """HTML with 200 is no success, however friendly: the address is wrong."""
    page = Response("<html>Please sign in</html>", media_type="text/html")
    with StowPeer(answer=lambda _: page).running() as web:
        box.drain(web.peer(name="pacs")).drain()
    assert box.line().detail == (
        "pacs: it answered with something else than DICOM JSON; is dicomweb right?"
    )
    assert wait_s(box) == SLOWLY_S


def test_a_web_page_in_place_of_orthanc(box: Outbox) -> None:
    """The same where Orthanc's REST API is expected."""
    page = Response("<html>Please sign in</html>", media_type="text/html")
    with StowPeer(answer=lambda _: page).running() as web:
        orthanc = web.url.replace("/dicom-web", "/html")
        box.drain(web.peer(name="pacs", via=Via.ORTHANC, orthanc=orthanc)).drain()
    assert wait_s(box) == SLOWLY_S


# ── it loses what it had ────────────────────────────────────────────────────


@pytest.mark.parametrize("via", [Via.DIMSE, Via.ORTHANC])
def test_a_destination_that_loses_it_after_success(
    box: Outbox, orthanc: Orthanc, via: Via
) -> None:
    """Orthanc said success, then the objects were deleted: they are sent again."""
    orthanc.clear()
    peer = Peer(
        name="pacs",
        via=via,
        aet=orthanc.aet,
        host=orthanc.host,
        port=orthanc.dicom_port,
        orthanc=orthanc.url,
        rights=frozenset({Right.DESTINATION}),
    )
    drain = box.drain(peer)
    drain.send()
    orthanc.clear()
    while box.line().state == "sent":
        drain.verify()
        box.clock.pass_s(100)
    assert (box.line().state, box.line().detail) == ("waiting", LOST)
    assert journalled(box, "lost") == [f"pacs: {LOST}"] * 2
    box.clock.pass_s(15)
    drain.send()
    client = OrthancApiClient(orthanc.url)
    held = {client.instances.get_tags(i)["SOPInstanceUID"] for i in instances(client)}
    assert held == set(box.files())


def instances(client: OrthancApiClient) -> list[str]:
    """Return Orthanc's keys of all that it holds."""
    keys: list[str] = client.instances.get_all_ids()
    return keys


def test_a_destination_that_never_keeps_anything(box: Outbox) -> None:
    """It says success every time: after a day's attempts the object is dead."""
    policy = RetryPolicy(first_s=10 * HOUR_S, cap_s=10 * HOUR_S, jitter=0)
    with StorePeer().running() as pacs:
        drain = box.drain(pacs.peer(retry=policy))
        for _ in range(60):
            drain.drain()
            if box.line().state == "dead":
                break
            box.clock.pass_s(HOUR_S)
    assert box.line().state == "dead"
    assert box.line().detail == f"sent 4 times, never kept: {LOST}"
    assert len(pacs.received) == 8
    assert len({uid for uid, _, _ in pacs.received}) == 2
    assert box.settled() == "undelivered"
