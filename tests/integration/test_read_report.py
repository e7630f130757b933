"""``pacsight read-report``: from files, from addresses, from a real PACS."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from orthanc_api_client import OrthancApiClient
from pydantic import SecretStr
from rich.console import Console
from starlette.responses import RedirectResponse, Response

from dicom_node.domain import Flag, ObjectKind, Result
from dicom_node.errors import Permanent, Transient
from dicom_node.peers import Credentials
from dicom_node.retrieve import retrieve
from sr_writer.compose import compose
from sr_writer.reading import read_report
from sr_writer.saying import report_of
from tests.builders import PATIENT_ID, finding, result, source_header
from tests.integration.conftest import Orthanc, free_port
from tests.peers import StowPeer
from tests.unit.sr_writer.test_compose import everything_at_once
from workers.telling import DOES_NOT_FOLLOW, report_view

TIMEOUT_S = 5.0
NOT_FOLLOWING = result([finding(0.9), finding(0.2, key="b", flag=Flag.ABOVE)])


def encoded(made_from: Result) -> bytes:
    """Return the report of a result, as a file."""
    kinds = [ObjectKind.REPORT]
    return compose(made_from, [source_header()], kinds=kinds)[0].content


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Return what the command line did, and said."""
    return subprocess.run(
        [sys.executable, "-m", "workers", "read-report", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"COLUMNS": "80", "PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def shown(made_from: Result) -> str:
    """Return what a terminal of 80 columns shows of the report of a result."""
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(report_view(report_of(made_from)), highlight=False)
    return capture.get()


# ── files ───────────────────────────────────────────────────────────────────


def test_json_holds_everything_and_nobody(tmp_path: Path) -> None:
    """Stable keys for scripts; no identity of the patient."""
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(result([finding(0.9), finding(0.1, key="b")])))
    done = command(path, "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert said["flags_follow"] is True
    first, second = said["findings"]
    assert first["concept"]["meaning"] == "Pneumothorax"
    assert first["score"] == {"value": 0.9, "calibration_set": "", "interval": None}
    assert (first["flag"], first["urgency"]) == ("at or above threshold", "critical")
    assert (second["flag"], second["urgency"]) == ("below threshold", None)
    assert second["operating_point"]["threshold"] == 0.5
    assert said["algorithm"]["name"] == "chest-demo"
    assert said["concluded_at"] == "2026-01-15T10:30:05.123456+01:00"
    assert not {"Doe", PATIENT_ID, "ACC-0001"} & set(done.stdout.split('"'))


def test_a_flag_that_does_not_follow_ends_with_status_1(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(NOT_FOLLOWING))
    done = command(path)
    assert done.returncode == 1
    assert f"WARNING: {DOES_NOT_FOLLOW}" in done.stdout


def test_what_is_no_report_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<html>not found</html>")
    done = command(path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"pacsight: {path}: not a DICOM file: no DICM prefix\n"


def test_a_truncated_report_is_never_read_in_part(tmp_path: Path) -> None:
    """Wherever it was cut."""
    content = encoded(everything_at_once())
    path = tmp_path / "report.dcm"
    for length in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:length])
        with pytest.raises(Permanent):
            read_report(retrieve(str(path), timeout_s=TIMEOUT_S))


def test_no_line_is_wider_than_the_terminal() -> None:
    """80 columns, with everything that a report can say."""
    page = shown(everything_at_once())
    assert max(len(line) for line in page.splitlines()) <= 80
    for words in (
        "▲ above      Pneumothorax (Pleura)            p 0.9  0.5        critical",
        "95 % interval     0.8 to 0.95",
        "reason            body part ABDOMEN is not validated",
        "next best         lateral, 0.030000000000000027",
        "spread            4.5 mo, no confidence interval",
        "ATL-7QK2M9        0.95  Pneumothorax (consensus of two readers)",
        "supersedes        2.25.2001",
    ):
        assert words in page


def test_words_of_others_do_not_steer_the_terminal() -> None:
    """Escapes and rich's own markup are shown, or left out."""
    page = shown(result([], reason="\x1b[31mred [bold]bold[/] \x07"))
    assert "\x1b" not in page
    assert "[bold]bold[/]" in page


# ── addresses ───────────────────────────────────────────────────────────────


def multipart(*parts: bytes) -> Response:
    """Return what WADO-RS answers with."""
    body = b"".join(
        b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n"
        for part in parts
    )
    kind = 'multipart/related; type="application/dicom"; boundary="b"'
    return Response(body + b"--b--", headers={"Content-Type": kind})


def plain(content: bytes) -> Response:
    """Return a file alone."""
    return Response(content, media_type="application/dicom")


@pytest.mark.parametrize("answer", [multipart, plain])
def test_a_url_is_read_whatever_the_file_is_wrapped_in(
    answer: Callable[[bytes], Response],
) -> None:
    with StowPeer(query=lambda _: answer(encoded(result()))).running() as web:
        url = f"{web.url}/studies/1.2/series/1.3/instances/1.4"
        dataset = retrieve(url, timeout_s=TIMEOUT_S)
    assert read_report(dataset) == report_of(result())


def test_credentials_go_to_their_peer_and_nowhere_else() -> None:
    """Not to a neighbour on the same host, not beside the service, not up and out."""
    token = Credentials(token=SecretStr("t0ken"))
    with (
        StowPeer(query=lambda _: plain(encoded(result()))).running() as web,
        StowPeer(query=lambda _: plain(encoded(result()))).running() as other,
    ):
        peers = [web.peer(credentials=token)]
        beside = web.peer(dicomweb=f"{web.url}/a", credentials=token)
        for url, known in (
            (f"{web.url}/instances/1", peers),
            (f"{other.url}/instances/1", peers),
            (f"{web.url}/ab/instances/1", [beside]),
            (f"{web.url}/a/%2e%2e/instances/1", [beside]),
        ):
            retrieve(url, known, timeout_s=TIMEOUT_S)
    with_token = ["authorization" in headers for headers in web.headers]
    assert with_token == [True, False, False]
    assert ["authorization" in headers for headers in other.headers] == [False]


REFUSALS: list[tuple[Response, str]] = [
    (Response("<html>", media_type="text/html"), "answered with text/html, not with"),
    (Response("<html>", media_type="application/dicom"), "not a DICOM file"),
    (plain(encoded(result())[:-100]), "truncated"),
    (multipart(encoded(result()), encoded(result())), "name a single instance"),
    (multipart(), "no closing delimiter|no multipart message|0 objects"),
    (Response(status_code=401), "refuses .HTTP 401."),
    (Response(status_code=404), "has no such instance"),
    (Response(status_code=406), "answered HTTP 406"),
    (RedirectResponse("http://127.0.0.1:9/"), "a redirection, which is not followed"),
]


@pytest.mark.parametrize(("answer", "complaint"), REFUSALS)
def test_an_answer_that_is_no_report_is_said_in_a_sentence(
    answer: Response, complaint: str
) -> None:
    with (
        StowPeer(query=lambda _: answer).running() as web,
        pytest.raises(Permanent, match=complaint) as caught,
    ):
        retrieve(f"{web.url}/instances/1", [web.peer()], timeout_s=TIMEOUT_S)
    assert "\n" not in str(caught.value)


def test_what_may_pass_is_transient() -> None:
    """Nobody listens; and an archive that is overloaded."""
    with pytest.raises(Transient, match="does not answer"):
        retrieve(f"http://127.0.0.1:{free_port()}/x", timeout_s=TIMEOUT_S)
    with (
        StowPeer(query=lambda _: Response(status_code=503)).running() as web,
        pytest.raises(Transient, match="HTTP 503"),
    ):
        retrieve(f"{web.url}/x", timeout_s=TIMEOUT_S)


def test_secrets_in_an_address_are_not_used_and_not_shown() -> None:
    with pytest.raises(Permanent, match="the credentials of a peer") as caught:
        retrieve("http://me:secret@127.0.0.1:9/x", timeout_s=TIMEOUT_S)
    assert "secret" not in str(caught.value)


# ── a real PACS ─────────────────────────────────────────────────────────────


def test_orthanc_gives_back_what_it_was_given(orthanc: Orthanc) -> None:
    """By WADO-RS and by its own address of the file."""
    made_from = everything_at_once()
    expected = report_of(made_from)
    (identifier,) = OrthancApiClient(orthanc.url).upload(encoded(made_from))
    instance = (
        f"{orthanc.dicomweb}/studies/{expected.study_uid}/series/{expected.series_uid}"
        f"/instances/{expected.sop_instance_uid}"
    )
    for url in (instance, f"{orthanc.url}/instances/{identifier}/file"):
        assert read_report(retrieve(url, timeout_s=TIMEOUT_S)) == expected
    with pytest.raises(Permanent, match=r"HTTP 404"):
        retrieve(f"{instance}0", timeout_s=TIMEOUT_S)
