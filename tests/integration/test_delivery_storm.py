"""The short form of ``make test-delivery``: a few results, the same storm."""

import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from signal import SIGKILL

import pytest
from pydicom import dcmread

from dicom_node.deliver import destination
from dicom_node.domain import Sha256
from dicom_node.outgoing import Outgoing, Verdict
from dicom_node.peers import Peer, Right, Via
from dicom_node.verification import Found
from tests.delivery.account import compared
from tests.delivery.archives import Held, python_plugin
from tests.delivery.plan import ARCHIVES, ENDS, Fate, Storm, Target
from tests.delivery.proxy import Proxy
from tests.delivery.scene import weather
from tests.peers import LOOPBACK, QUICK, StorePeer, outgoing

RESULTS = 8
STORM = Storm(
    seed=3,
    node_kills=1,
    archive_stops=1,
    longest_down_s=0.5,
    retry_cap_s=0.4,
    verify_age_s=20.0,
    fates={Fate.LATE: 0.05, Fate.CUT: 0.1, Fate.ANSWER_LOST: 0.05, Fate.REFUSED: 0.05},
    refused=0.25,
    lost=0.2,
    forgetful=(Target.ARCHIVE,),  # it says so at once: no commitment
)


@pytest.fixture
def unruly(orthanc_binary: str) -> None:
    """Skip where Orthanc cannot be told to refuse, fail there if CI=true."""
    del orthanc_binary
    if python_plugin() is None:
        reason = "Orthanc's Python plugin is not installed: apt install orthanc-python"
        if os.environ.get("CI") == "true":  # noqa: TID251 - CI is no setting
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.usefixtures("unruly")
@pytest.mark.timeout(240)  # a question that fails three times is asked again after 60 s
@pytest.mark.slow
def test_no_result_is_lost_or_doubled_in_a_storm(tmp_path: Path) -> None:
    """Node and Orthancs are killed meanwhile: each object is there once, as it was."""
    account = weather(STORM, tmp_path, results=RESULTS, batch_size=4, processes=1)
    assert {target: h.stored for target, h in account.archives.items()} == {
        Target.ARCHIVE: 2 * RESULTS,
        Target.WEB: 2 * RESULTS,
        Target.REST: RESULTS,
    }
    assert all(holdings.is_right for holdings in account.archives.values())
    assert account.ledger.studies == {"done": RESULTS}
    assert account.ledger.deliveries == {"delivered": 5 * RESULTS}
    assert account.is_right
    # and it was a storm
    assert account.faults["node: SIGKILL"] == 1
    for archive in ARCHIVES:
        assert account.faults[f"{archive}: SIGKILL"] == 1
    assert any(fault.startswith("archive: refused 0x") for fault in account.faults)
    assert account.ledger.attempts_most > 1
    assert account.ledger.lost > 0


def test_a_seed_is_a_storm() -> None:
    """The same seed, the same blows, in order; each kind against each target."""
    storm = Storm(seed=7)
    assert storm.blows() == Storm(seed=7).blows() != Storm(seed=8).blows()
    assert [b.at for b in storm.blows()] == sorted(b.at for b in storm.blows())
    assert {(b.target, b.how) for b in storm.blows()} == {
        (Target.NODE, SIGKILL),
        *((target, how) for target in ARCHIVES for how in ENDS),
    }


def test_a_peer_that_reads_nothing_any_more_is_given_up(tmp_path: Path) -> None:
    """A frozen archive, its connection alive, does not hold the outbox up for ever."""
    parcel = large(outgoing(tmp_path), 16_000_000)
    with StorePeer().running() as pacs:
        network = Proxy(pacs.port, fates={Fate.DEAF: 1.0}, seed=1, most_bytes=1_000_000)
        network.start()
        peer = pacs.peer(port=network.port)
        begun = time.monotonic()
        (outcome,) = destination(peer, QUICK).deliver([parcel])
        took_s = time.monotonic() - begun
        network.stop()
    assert network.faults[Fate.DEAF] == 1
    assert outcome.verdict is Verdict.RETRY
    assert took_s < 4 * QUICK.dimse_timeout_s  # the peer itself ends it after 10 s


def large(parcel: Outgoing, size: int) -> Outgoing:
    """Return the object with so much in it that no socket's buffers hold it."""
    dataset = dcmread(parcel.path)
    dataset.EncapsulatedDocument = bytes(size)
    dataset.save_as(parcel.path, enforce_file_format=True)
    content = parcel.path.read_bytes()
    return replace(parcel, sha256=Sha256(sha256(content).hexdigest()))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[{", Found.UNREACHABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Found.UNREACHABLE),
        (b"", Found.UNREACHABLE),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
            Found.UNABLE,
        ),
    ],
)
def test_an_answer_that_is_cut_short_is_no_answer(
    tmp_path: Path, answer: bytes, found: Found
) -> None:
    """An Orthanc killed in the middle of its answer is asked again; a login page not."""
    parcel = outgoing(tmp_path)
    with socket.create_server((LOOPBACK, 0)) as listening:
        server = threading.Thread(target=answer_once, args=(listening, answer))
        server.start()
        peer = Peer(
            name="rest",
            via=Via.ORTHANC,
            orthanc=f"http://{LOOPBACK}:{listening.getsockname()[1]}",
            rights=frozenset({Right.DESTINATION}),
        )
        (finding,) = destination(peer, QUICK).verify([parcel])
        server.join()
    assert finding.found is found


def answer_once(listening: socket.socket, answer: bytes) -> None:
    """Take one request, answer so much, and close the connection."""
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(answer)


def held(number: int) -> Held:
    """Return an instance of a study of its own."""
    return Held(
        sop_instance_uid=f"2.25.{number}.1",
        study_uid=f"2.25.{number}",
        patient_id=f"P{number}",
        data_set=f"digest {number}",
    )


OWN = [held(1), held(2), held(3)]


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (OWN[:2], "lost"),
        ([*OWN, replace(held(1), study_uid="2.25.99")], "doubled"),
        ([*OWN[:2], replace(held(3), patient_id="P4")], "astray"),
        ([*OWN[:2], replace(held(3), study_uid="2.25.4")], "astray"),
        ([*OWN[:2], replace(held(3), data_set="other")], "different"),
        ([*OWN, held(4)], "strange"),
    ],
)
def test_the_account_notices_each_fault(found: Sequence[Held], fault: str) -> None:
    """One instance too few, too many, elsewhere, changed: counted, and not right."""
    assert compared(OWN, OWN).is_right
    account = compared(OWN, found)
    assert getattr(account, fault) == 1
    assert not account.is_right
