"""What a crowd, and the slow and the silent in it, get to hear; on real sockets."""

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from dicom_node.crowd import Crowd
from dicom_node.domain import FrontDoor, Origin, Priority
from dicom_node.hearing import Listener
from dicom_node.matching import PriorityRule, is_urgent
from dicom_node.scp import StorageScp
from dicom_node.slowness import Slowness
from dicom_node.stow import routes
from dicom_node.web.server import HttpServer
from tests.receiving import House, house, multipart, part10, running, stow_server

SLOW = Slowness(patience_s=0.5, bytes_per_s=1000)
HOST = "127.0.0.1"
LATE_S = 5.0


@pytest.fixture
def home(tmp_path: Path) -> House:
    """Return an empty spool with an intake before it."""
    return house(tmp_path)


def ask(port: int, calling: str = "CT", called: str = "PACSIGHT") -> Association:
    """Return an association that was asked for, whatever became of it."""
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.network_timeout = LATE_S
    ae.add_requested_context(Verification, [ImplicitVRLittleEndian])
    return ae.associate(HOST, port, ae_title=called)


def answer_of(association: Association) -> tuple[int, int, int]:
    """Return result, source and diagnostic of a rejection."""
    said = association.acceptor.primitive
    assert association.is_rejected
    return (said.result, said.result_source, said.diagnostic)  # type: ignore[union-attr,return-value]


@contextmanager
def connected(port: int, *words: bytes) -> Iterator[socket.socket]:
    """Yield a connection over which this was said."""
    with closing(socket.create_connection((HOST, port), timeout=LATE_S)) as one:
        for word in words:
            one.sendall(word)
        yield one


def ends(one: socket.socket) -> bool:
    """Return whether the other side ends the connection before long."""
    try:
        while one.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def is_cut_off(one: socket.socket) -> bool:
    """Return whether the other side has had enough of a byte now and then."""
    deadline = time.monotonic() + LATE_S
    while time.monotonic() < deadline:
        try:
            one.send(b"-")
        except OSError:
            return True
        time.sleep(0.05)
    return False


def named(logs: Sequence[Any], name: str) -> list[str]:
    """Return the reasons of the log's lines of that name."""
    return [line.get("reason", "") for line in logs if line["event"] == name]


# ── associations ────────────────────────────────────────────────────────────


def test_stat_callers_have_places_of_their_own(home: House) -> None:
    """Routine ones are refused for now, by local limit; what is urgent is served."""
    rules = [PriorityRule(priority=Priority.STAT, called_aet="STAT")]

    def urgent(calling: str, called: str) -> bool:
        origin = Origin(door=FrontDoor.DIMSE, calling_aet=calling, called_aet=called)
        return is_urgent(rules, origin)

    listener = Listener(max_associations=2, stat_associations=1, is_urgent=urgent)
    with running(StorageScp(listener, home.intake)) as scp, ExitStack() as stack:
        with capture_logs() as logs:
            served = [ask(scp.port), ask(scp.port), ask(scp.port, called="STAT")]
            for one in served:
                stack.callback(one.abort)
            refused = [ask(scp.port), ask(scp.port, called="STAT")]
        assert [one.is_established for one in served] == [True] * 3
        assert [answer_of(one) for one in refused] == [(2, 3, 2)] * 2
        assert named(logs, "association_rejected") == ["2 associations are open"] * 2
        served[0].release()
        served[2].release()
        again = ask(scp.port)
        stack.callback(again.abort)
        assert again.is_established


def test_too_much_at_once_is_refused_for_now(tmp_path: Path) -> None:
    """By temporary congestion; STOW-RS hears 503 and when to come again."""
    home = house(tmp_path, max_incoming_bytes=1)
    _, path = home.spool.new_file()
    path.write_bytes(b"..")
    with running(StorageScp(Listener(), home.intake)) as scp:
        assert answer_of(ask(scp.port)) == (2, 3, 1)
    with running(stow_server(home.intake)) as stow:
        response = httpx.post(
            f"http://{HOST}:{stow.port}/dicom-web/studies",
            content=multipart([part10()]),
            headers={"content-type": 'multipart/related; boundary="x"'},
        )
    assert (response.status_code, response.headers["retry-after"]) == (503, "60")
    path.unlink()


def test_connections_that_say_too_little_keep_nobody_out(home: House) -> None:
    """They are cut off; meanwhile others are served, and later their places are free."""
    listener = Listener(max_associations=2, acse_timeout_s=0.5, min_bytes_per_s=1000)
    with running(StorageScp(listener, home.intake)) as scp, ExitStack() as stack:
        with capture_logs() as logs:
            slow = [stack.enter_context(connected(scp.port, b"\x01")) for _ in range(4)]
            association = ask(scp.port)
            assert association.is_established
            association.release()
            assert all(ends(one) for one in slow)
        assert len(named(logs, "sender_too_slow")) == 4


def test_a_flood_of_connections_is_bounded(home: House) -> None:
    """Beyond so many, each hears that there are too many, and is closed."""
    listener = Listener(max_associations=1, stat_associations=0, acse_timeout_s=2)
    with running(StorageScp(listener, home.intake)) as scp, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connected(scp.port, b"\x01"))
            time.sleep(0.1)
        late = stack.enter_context(connected(scp.port, b"\x01"))
        rejection = bytes([3, 0, 0, 0, 0, 4, 0, 2, 3, 2])
        assert late.recv(100) == rejection


def test_a_trickle_within_an_association_is_cut_off(home: House) -> None:
    """A PDU that never ends, byte by byte: each is a sign of life, and not enough."""
    listener = Listener(acse_timeout_s=0.5, network_timeout_s=60)
    with running(StorageScp(listener, home.intake)) as scp, capture_logs() as logs:
        association = ask(scp.port)
        raw = association.dul.socket.socket  # type: ignore[union-attr]
        assert raw is not None
        raw.sendall(struct.pack(">BBL", 0x04, 0, 1000))
        assert is_cut_off(raw)
        association.join(10)  # its own thread has to see it, too
        assert not association.is_established
        assert len(named(logs, "sender_too_slow")) == 1


def test_a_pdu_that_claims_gigabytes_ends_the_connection(home: House) -> None:
    """At once, and without the memory that it claims to need."""
    with running(StorageScp(Listener(), home.intake)) as scp:
        claim = struct.pack(">BBL", 0x01, 0, 0xFFFFFFF0)
        with connected(scp.port, claim) as one:
            assert ends(one)


# ── requests ────────────────────────────────────────────────────────────────


@pytest.fixture
def stow(home: House) -> Iterator[HttpServer]:
    """Return a STOW-RS service that serves two requests at once, and waits half a second."""
    crowd = Crowd(max_connections=4, max_requests=2, slowness=SLOW)
    app = Starlette(routes=routes(home.intake))
    with running(HttpServer(app, crowd=crowd)) as server:
        yield server


POST = (
    b"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\n"
    b'Content-Type: multipart/related; type="application/dicom"; boundary=x\r\n'
    b"Content-Length: 100000\r\n\r\n"
)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"", b"HTTP/1.1 408 "),
        (b"POST /dicom-web/studies HTTP/1.1\r\nHost:", b"HTTP/1.1 408 "),
        (POST + b"--x\r\n", b"HTTP/1.1 408 "),
    ],
)
def test_a_request_that_does_not_come_to_its_end(
    stow: HttpServer, said: bytes, heard: bytes
) -> None:
    """Nothing, half a header, a body that stops: 408, and the connection is closed."""
    with connected(stow.port, said) as one:
        assert one.recv(len(heard)) == heard
        assert ends(one)


def test_a_body_in_drops_is_cut_off(stow: HttpServer, home: House) -> None:
    """However often a byte comes; and nothing of it stays."""
    with connected(stow.port, POST) as one:
        assert is_cut_off(one)
    assert home.incoming == []


def test_more_requests_than_allowed_hear_when_to_come_again(stow: HttpServer) -> None:
    """503 with Retry-After; those that are being served are not disturbed."""
    url = f"http://{HOST}:{stow.port}/dicom-web/studies"
    with connected(stow.port, POST), connected(stow.port, POST):
        time.sleep(0.1)
        response = httpx.post(url, content=b"")
    assert (response.status_code, response.headers["retry-after"]) == (503, "10")


def test_more_connections_than_allowed_are_closed(stow: HttpServer) -> None:
    """With the same answer, before anything is read."""
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connected(stow.port))
        late = stack.enter_context(connected(stow.port))
        assert late.recv(1000).startswith(b"HTTP/1.1 503 ")


def test_an_answer_that_nobody_reads() -> None:
    """The connection is given up, and what it holds with it."""

    async def much(_: Request) -> Response:
        return Response(bytes(32 << 20))

    crowd = Crowd(slowness=Slowness(patience_s=0.3, bytes_per_s=1e9))
    server = HttpServer(Starlette(routes=[Route("/", much)]), crowd=crowd)
    with running(server), capture_logs() as logs:
        with connected(server.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            deadline = time.monotonic() + LATE_S
            while not named(logs, "client_cut_off") and time.monotonic() < deadline:
                time.sleep(0.05)
        assert named(logs, "client_cut_off") == ["it does not read the answer"]
