"""STOW-RS to a service that gives every answer, and to a real PACS."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from orthanc_api_client import OrthancApiClient
from pydantic import SecretStr
from pydicom import dcmread
from pydicom.uid import RLELossless
from starlette.responses import JSONResponse, RedirectResponse, Response

from dicom_node.deliver import destination
from dicom_node.deliver.stow import StowDestination
from dicom_node.domain import ObjectKind
from dicom_node.outgoing import SLOWLY_S, Outcome, Outgoing, Verdict
from dicom_node.peers import Credentials, Peer, Syntax
from tests.integration.conftest import Orthanc, free_port
from tests.peers import QUICK, StowPeer, data_set_bytes, outgoing, pictured, stored


def deliver(peer: Peer, *objects: Outgoing) -> dict[int, Outcome]:
    """Return what became of each object, by delivery."""
    outcomes = list(destination(peer, QUICK).deliver(objects))
    by_delivery = {outcome.delivery: outcome for outcome in outcomes}
    assert len(by_delivery) == len(outcomes) == len(objects)
    return by_delivery


def one(peer: Peer, parcel: Outgoing) -> Outcome:
    """Return what became of a single object."""
    return deliver(peer, parcel)[parcel.delivery]


def finding(parcel: Outgoing, patient_id: str) -> Callable[[str], Response]:
    """Return the QIDO-RS of a service that has the object, for this patient."""
    study = [{"00100020": {"vr": "LO", "Value": [patient_id]}}]
    image = [{"00080018": {"vr": "UI", "Value": [parcel.sop_instance_uid]}}]

    def query(path: str) -> Response:
        found = study if path == "studies" else image
        return JSONResponse(found, media_type="application/dicom+json")

    return query


def test_sends_the_files_that_lie_in_the_outbox(tmp_path: Path) -> None:
    """What is posted are the Part 10 files, byte for byte, in one request."""
    parcels = [outgoing(tmp_path, 1), outgoing(tmp_path, 2, kind=ObjectKind.CAPTURE)]
    with StowPeer().running() as web:
        outcomes = deliver(web.peer(), *parcels)
    assert {o.verdict for o in outcomes.values()} == {Verdict.SENT}
    assert web.posted == [[p.path.read_bytes() for p in parcels]]
    assert web.headers[0]["accept"] == "application/dicom+json"


def test_sends_the_first_syntax_that_fits(tmp_path: Path) -> None:
    """RLE for an image; a report has no pixels and stays explicit."""
    report, capture = outgoing(tmp_path, 1), pictured(tmp_path, 2)
    with StowPeer().running() as web:
        deliver(web.peer(transfer_syntaxes=(Syntax.RLE,)), report, capture)
    ((first, second),) = web.posted
    assert first == report.path.read_bytes()
    assert dcmread(BytesIO(second)).file_meta.TransferSyntaxUID == RLELossless


def test_carries_the_peers_credentials(tmp_path: Path) -> None:
    """A token goes as bearer, a password as HTTP Basic."""
    token = Credentials(token=SecretStr("t0ken"))
    basic = Credentials(username="node", password=SecretStr("pass"))
    with StowPeer().running() as web:
        one(web.peer(credentials=token), outgoing(tmp_path))
        one(web.peer(credentials=basic), outgoing(tmp_path))
    said = [headers["authorization"] for headers in web.headers]
    assert said == ["Bearer t0ken", "Basic bm9kZTpwYXNz"]


def test_reads_the_answer_for_each_instance(tmp_path: Path) -> None:
    """202: some stored, some with a warning, some failed for reasons of their own."""
    parcels = [outgoing(tmp_path, n) for n in range(1, 6)]
    first, warned, full, refused, syntax = (str(p.sop_instance_uid) for p in parcels)
    reasons = {full: 0xA700, refused: 0x0122, syntax: 0xC122}
    with StowPeer(
        answer=lambda _: stored(
            [first, warned], warned={warned: 0xB000}, failed=reasons
        )
    ).running() as web:
        outcomes = deliver(web.peer(), *parcels)
    assert [outcomes[n].verdict for n in range(1, 6)] == [
        Verdict.SENT,
        Verdict.SENT,
        Verdict.RETRY,
        Verdict.DEAD,
        Verdict.DEAD,
    ]
    assert outcomes[2].detail == "stored, with warning 0xB000"
    assert "0xA700, out of resources" in outcomes[3].detail


def test_a_conflict_is_read_for_each_instance_too(tmp_path: Path) -> None:
    """409: nothing was stored, and each instance says why."""
    parcel = outgoing(tmp_path)
    with StowPeer(
        answer=lambda uids: stored([], failed=dict.fromkeys(uids, 0xC000))
    ).running() as web:
        outcome = one(web.peer(), parcel)
    assert outcome.verdict is Verdict.RETRY
    assert outcome.max_age_s is not None


@pytest.mark.parametrize(
    ("patient_id", "verdict"),
    [("PAT-0001", Verdict.DELIVERED), ("SOMEBODY-ELSE", Verdict.DEAD)],
)
def test_a_duplicate_is_delivered_once_a_query_finds_it(
    tmp_path: Path, patient_id: str, verdict: Verdict
) -> None:
    """409 with 0x0111 counts where it lies under the right study and patient."""
    parcel = outgoing(tmp_path)
    with StowPeer(
        answer=lambda uids: stored([], failed=dict.fromkeys(uids, 0x0111)),
        query=finding(parcel, patient_id),
    ).running() as web:
        outcome = one(web.peer(), parcel)
    assert outcome.verdict is verdict
    assert "SOMEBODY" not in outcome.detail


@pytest.mark.parametrize("body", ["", "{}"])
def test_success_that_names_no_instance_counts_once_a_query_finds_it(
    tmp_path: Path, body: str
) -> None:
    """200 with an empty answer says nothing of our object: the archive is asked."""
    parcel = outgoing(tmp_path)
    empty = Response(body, media_type="application/dicom+json")
    with StowPeer(answer=lambda _: empty).running() as web:
        assert one(web.peer(), parcel).verdict is Verdict.RETRY
        web.query = finding(parcel, "PAT-0001")
        assert one(web.peer(), parcel).verdict is Verdict.DELIVERED


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>Please sign in</html>", media_type="text/html"),
        Response("no JSON", media_type="application/dicom+json"),
        Response("[1, 2]", media_type="application/dicom+json"),
        Response(
            '{"00081198": {"vr": "SQ", "Value": [{}]}}', media_type="application/json"
        ),
        Response(
            '{"00081198": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value":'
            ' ["1.2"]}, "00081197": {"vr": "US", "Value": [Infinity]}}]}}',
            media_type="application/dicom+json",
        ),
    ],
    ids=["html", "not json", "a list", "no reference", "infinite"],
)
def test_an_answer_that_is_no_dicom_json_is_not_success(
    tmp_path: Path, answer: Response
) -> None:
    """200 from something that is no STOW-RS service: tried slowly, and said so."""
    with StowPeer(answer=lambda _: answer).running() as web:
        outcome = one(web.peer(), outgoing(tmp_path))
    assert (outcome.verdict, outcome.wait_s) == (Verdict.RETRY, SLOWLY_S)
    assert "DICOM JSON" in outcome.detail


@pytest.mark.parametrize(
    ("status", "verdict", "wait_s"),
    [
        (400, Verdict.DEAD, 0.0),
        (401, Verdict.RETRY, SLOWLY_S),
        (403, Verdict.RETRY, SLOWLY_S),
        (404, Verdict.RETRY, SLOWLY_S),
        (405, Verdict.RETRY, SLOWLY_S),
        (413, Verdict.DEAD, 0.0),
        (415, Verdict.DEAD, 0.0),
        (429, Verdict.RETRY, 0.0),
        (204, Verdict.RETRY, SLOWLY_S),
        (406, Verdict.RETRY, SLOWLY_S),
        (408, Verdict.RETRY, 0.0),
        (422, Verdict.DEAD, 0.0),
        (425, Verdict.RETRY, 0.0),
        (500, Verdict.RETRY, 0.0),
        (501, Verdict.RETRY, SLOWLY_S),
        (502, Verdict.RETRY, 0.0),
        (503, Verdict.RETRY, 0.0),
        (504, Verdict.RETRY, 0.0),
        (507, Verdict.RETRY, 0.0),
        (599, Verdict.RETRY, 0.0),
    ],
)
def test_reads_a_status_as_http_means_it(
    tmp_path: Path, status: int, verdict: Verdict, wait_s: float
) -> None:
    """Each status leads to the right next step; the body is not repeated."""
    answer = Response("PatientName=DOE^JANE", status)
    with StowPeer(answer=lambda _: answer).running() as web:
        outcome = one(web.peer(), outgoing(tmp_path))
    assert (outcome.verdict, outcome.wait_s) == (verdict, wait_s)
    assert f"HTTP {status}" in outcome.detail
    assert "DOE" not in outcome.detail


def test_waits_as_long_as_the_service_asks(tmp_path: Path) -> None:
    """Retry-After is heeded, up to an hour."""
    busy = Response(status_code=503, headers={"Retry-After": "120"})
    with StowPeer(answer=lambda _: busy).running() as web:
        outcome = one(web.peer(), outgoing(tmp_path))
    assert (outcome.verdict, outcome.wait_s) == (Verdict.RETRY, 120.0)


def test_an_object_that_spoils_a_request_is_found(tmp_path: Path) -> None:
    """400 for several objects: each is sent alone, and only the bad one is dead."""
    parcels = [outgoing(tmp_path, n) for n in (1, 2, 3)]
    bad = parcels[1].sop_instance_uid
    with StowPeer(
        answer=lambda uids: Response(status_code=400) if bad in uids else stored(uids)
    ).running() as web:
        outcomes = deliver(web.peer(), *parcels)
    assert [outcomes[n].verdict for n in (1, 2, 3)] == [
        Verdict.SENT,
        Verdict.DEAD,
        Verdict.SENT,
    ]
    assert [len(files) for files in web.posted] == [3, 1, 1, 1]


def test_a_redirection_is_not_followed(tmp_path: Path) -> None:
    """A redirected POST would become a GET that succeeds: it is reported instead."""
    with StowPeer(
        answer=lambda _: RedirectResponse("/dicom-web/studies", 302)
    ).running() as web:
        outcome = one(web.peer(), outgoing(tmp_path))
    assert (outcome.verdict, outcome.wait_s) == (Verdict.RETRY, SLOWLY_S)
    assert "redirects us" in outcome.detail


def test_a_service_that_is_down_is_tried_again(tmp_path: Path) -> None:
    """A refused connection is about the moment."""
    outcome = one(StowPeer(port=free_port()).peer(), outgoing(tmp_path))
    assert (outcome.verdict, outcome.wait_s) == (Verdict.RETRY, 0.0)
    assert outcome.detail == "web: no answer to STOW-RS, is it running?"


def test_a_service_without_tls_is_tried_slowly(tmp_path: Path) -> None:
    """An https address at which nobody speaks TLS is a matter of the settings."""
    with StowPeer().running() as web:
        peer = web.peer(dicomweb=web.url.replace("http:", "https:"))
        outcome = one(peer, outgoing(tmp_path))
    assert (outcome.verdict, outcome.wait_s) == (Verdict.RETRY, SLOWLY_S)
    assert "TLS" in outcome.detail


def test_a_damaged_file_is_never_sent(tmp_path: Path) -> None:
    """Bytes whose digest is another one do not go out."""
    changed, whole = outgoing(tmp_path, 1), outgoing(tmp_path, 2)
    changed.path.write_bytes(b"something else")
    with StowPeer().running() as web:
        outcomes = deliver(web.peer(), changed, whole)
    assert outcomes[1].verdict is Verdict.DEAD
    assert outcomes[2].verdict is Verdict.SENT
    assert web.posted == [[whole.path.read_bytes()]]


def test_much_is_sent_in_portions(tmp_path: Path) -> None:
    """A request holds no more than its limit, unless one object alone is larger."""
    parcels = [outgoing(tmp_path, n) for n in (1, 2, 3)]
    size = parcels[0].path.stat().st_size
    with StowPeer().running() as web:
        to = StowDestination(peer=web.peer(), caller=QUICK, most_bytes=2 * size)
        assert len(list(to.deliver(parcels))) == 3
        to = StowDestination(peer=web.peer(), caller=QUICK, most_bytes=1)
        assert len(list(to.deliver(parcels))) == 3
    assert [len(files) for files in web.posted] == [2, 1, 1, 1, 1]


def test_orthanc_stores_the_same_bytes_once(orthanc: Orthanc, tmp_path: Path) -> None:
    """Sent twice, an object is one instance in the PACS, with the data set sent."""
    parcel = outgoing(tmp_path, study_uid="2.25.3001")
    web = StowPeer(port=orthanc.http_port).peer(dicomweb=orthanc.dicomweb)
    assert one(web, parcel).verdict is Verdict.SENT
    assert one(web, parcel).verdict is Verdict.SENT
    pacs = OrthancApiClient(orthanc.url)
    study = pacs.studies.lookup(parcel.study_uid)
    (instance,) = pacs.studies.get_instances_ids(study)
    kept = pacs.instances.get_file(instance)
    assert data_set_bytes(kept) == data_set_bytes(parcel.path.read_bytes())
