"""Orthanc's REST API as destination: what it holds is compared with what was sent."""

from io import BytesIO
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian
from starlette.responses import JSONResponse, RedirectResponse, Response

from dicom_node.deliver import destination
from dicom_node.outgoing import SLOWLY_S, Outcome, Outgoing, Verdict
from dicom_node.peers import Credentials, Peer, Right, Syntax, Via
from dicom_node.verification import Finding, Found, How
from tests.integration.conftest import Orthanc
from tests.peers import QUICK, StowPeer, outgoing

STUDY = "2.25.4001"


@pytest.fixture
def pacs(orthanc: Orthanc) -> Orthanc:
    """Return an Orthanc that holds nothing."""
    orthanc.clear()
    return orthanc


def peer(url: str, **changes: object) -> Peer:
    """Return Orthanc as an entry of the table of peers."""
    entry: dict[str, object] = {
        "name": "pacs",
        "via": Via.ORTHANC,
        "orthanc": url,
        "rights": frozenset({Right.DESTINATION}),
    }
    return Peer(**(entry | changes))  # type: ignore[arg-type]


def send(to: Peer, parcel: Outgoing) -> Outcome:
    """Return what became of an object."""
    (outcome,) = destination(to, QUICK).deliver([parcel])
    return outcome


def ask(to: Peer, parcel: Outgoing) -> Finding:
    """Return what Orthanc says of an object that was sent."""
    (finding,) = destination(to, QUICK).verify([parcel])
    return finding


def test_orthanc_holds_what_was_sent(pacs: Orthanc, tmp_path: Path) -> None:
    """Stored, then seen to be the same file, byte for byte."""
    parcel = outgoing(tmp_path, study_uid=STUDY)
    to = peer(pacs.url)
    assert send(to, parcel).verdict is Verdict.SENT
    finding = ask(to, parcel)
    assert (finding.found, finding.how) == (Found.THERE, How.CONTENT)
    (key,) = httpx.get(f"{pacs.url}/instances").json()
    held = httpx.get(f"{pacs.url}/instances/{key}/file").content
    assert held == parcel.path.read_bytes()


def test_it_takes_the_first_syntax_that_fits(pacs: Orthanc, tmp_path: Path) -> None:
    """What it holds is compared with what was sent, not with what lies in the outbox."""
    parcel = outgoing(tmp_path, study_uid=STUDY)
    to = peer(pacs.url, transfer_syntaxes=(Syntax.IMPLICIT,))
    send(to, parcel)
    assert ask(to, parcel).found is Found.THERE
    (key,) = httpx.get(f"{pacs.url}/instances").json()
    held = dcmread(BytesIO(httpx.get(f"{pacs.url}/instances/{key}/file").content))
    assert held.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian


def test_already_stored_is_looked_at(pacs: Orthanc, tmp_path: Path) -> None:
    """The same object again counts as delivered, because it is the same."""
    parcel = outgoing(tmp_path, study_uid=STUDY)
    to = peer(pacs.url)
    send(to, parcel)
    again = send(to, parcel)
    assert (again.verdict, again.how) == (Verdict.DELIVERED, How.CONTENT)


def test_other_content_under_our_uid_is_a_failure(
    pacs: Orthanc, tmp_path: Path
) -> None:
    """Already stored, but something else: dead, with its reason, never overwritten."""
    parcel = outgoing(tmp_path, study_uid=STUDY)
    stranger = dcmread(parcel.path)
    stranger.SeriesDescription = "somebody else's"
    changed = BytesIO()
    stranger.save_as(changed, enforce_file_format=True)
    httpx.post(f"{pacs.url}/instances", content=changed.getvalue()).raise_for_status()
    outcome = send(peer(pacs.url), parcel)
    assert outcome.verdict is Verdict.DEAD
    assert "holds other content under its UID" in outcome.detail
    assert ask(peer(pacs.url), parcel).found is Found.CONFLICT


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID"])
def test_the_uid_of_another_place_does_not_count(
    pacs: Orthanc, tmp_path: Path, keyword: str
) -> None:
    """The same SOP Instance UID under another patient or study is not our object."""
    parcel = outgoing(tmp_path, study_uid=STUDY)
    stranger = dcmread(parcel.path)
    stranger[keyword].value = "2.25.4999"
    moved = BytesIO()
    stranger.save_as(moved, enforce_file_format=True)
    httpx.post(f"{pacs.url}/instances", content=moved.getvalue()).raise_for_status()
    assert ask(peer(pacs.url), parcel).found is Found.MISSING


def test_what_was_deleted_is_missing(pacs: Orthanc, tmp_path: Path) -> None:
    """Orthanc had it, and has it no more."""
    parcel = outgoing(tmp_path, study_uid=STUDY)
    send(peer(pacs.url), parcel)
    pacs.clear()
    assert ask(peer(pacs.url), parcel).found is Found.MISSING


@pytest.mark.parametrize(
    ("answer", "verdict", "wait_s", "words"),
    [
        (Response(status_code=400), Verdict.DEAD, 0.0, "HTTP 400"),
        (Response(status_code=401), Verdict.RETRY, SLOWLY_S, "HTTP 401, Unauthorized"),
        (Response(status_code=403), Verdict.RETRY, SLOWLY_S, "HTTP 403, Forbidden"),
        (Response(status_code=404), Verdict.RETRY, SLOWLY_S, "is its address right?"),
        (Response(status_code=413), Verdict.DEAD, 0.0, "HTTP 413"),
        (Response(status_code=500), Verdict.RETRY, 0.0, "HTTP 500"),
        (
            Response(status_code=503, headers={"Retry-After": "120"}),
            Verdict.RETRY,
            120.0,
            "HTTP 503",
        ),
        (Response("<html/>"), Verdict.RETRY, SLOWLY_S, "as no Orthanc does"),
        (RedirectResponse("/elsewhere"), Verdict.RETRY, SLOWLY_S, "HTTP 302"),
        (JSONResponse({"Status": "Failure"}), Verdict.RETRY, 0.0, "did not store it"),
        (JSONResponse(["Success"]), Verdict.RETRY, SLOWLY_S, "as no Orthanc does"),
    ],
)
def test_each_answer_leads_to_the_right_next_step(
    tmp_path: Path, answer: Response, verdict: Verdict, wait_s: float, words: str
) -> None:
    """Whatever stands at that address, nothing but Orthanc's success is success."""
    with StowPeer(rest=lambda _: answer).running() as web:
        outcome = send(peer(web.url.replace("/dicom-web", "")), outgoing(tmp_path))
    assert (outcome.verdict, outcome.wait_s) == (verdict, wait_s)
    assert words in outcome.detail


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Response(status_code=401), Found.UNABLE),
        (Response(status_code=503), Found.LATER),
        (Response("<html/>"), Found.UNABLE),
        (JSONResponse({"strange": 1}), Found.UNABLE),
    ],
)
def test_a_question_that_is_not_answered_proves_nothing(
    tmp_path: Path, answer: Response, found: Found
) -> None:
    """It may be asked again where that can help."""
    with StowPeer(rest=lambda _: answer).running() as web:
        finding = ask(peer(web.url.replace("/dicom-web", "")), outgoing(tmp_path))
    assert finding.found is found


def test_it_carries_the_peers_credentials(tmp_path: Path) -> None:
    """A password goes as HTTP Basic."""
    secrets = Credentials(username="node", password=SecretStr("pass"))
    with StowPeer(rest=lambda _: JSONResponse({"Status": "Success"})).running() as web:
        root = web.url.replace("/dicom-web", "")
        send(peer(root, credentials=secrets), outgoing(tmp_path))
    assert web.headers[0]["authorization"] == "Basic bm9kZTpwYXNz"
