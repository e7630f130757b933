"""The front doors over real sockets: what is sent is no PDU, or no HTTP; a sender of good faith follows.

A case is sent in one go and the sending side closed. The node has to end the
connection within a second, whatever came; what follows is served as ever.
"""

import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from random import Random
from struct import pack

import httpx
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, N_EVENT_REPORT_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE, N_EVENT_REPORT
from pynetdicom.pdu import A_ASSOCIATE_RQ, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_RELEASE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from dicom_node.commitment import INSTANCE, PUSH_MODEL
from dicom_node.hearing import Listener
from dicom_node.scp import StorageScp
from dicom_node.web.server import HttpServer
from tests.fuzz.mutators import EDGES, Dice, mutated
from tests.fuzz.targets import FAULT_OF_OURS, Reader, UnfitError, guarded_store
from tests.receiving import (
    BOUNDARY,
    STUDY,
    House,
    data_set_of,
    house,
    multipart,
    part10,
)

ANSWER_S = 1.0
PATIENCE_S = 10.0
GOOD_EVERY = 250
SETTLE_S = 5.0
KIND = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@contextmanager
def dimse_door(folder: Path) -> Iterator[Reader]:
    """Yield a running SCP, and streams of PDUs that are not as they should be."""
    home = house(folder)
    listener = Listener(max_associations=1000, acse_timeout_s=5, network_timeout_s=5)
    scp = StorageScp(listener, home.intake, reported=lambda _: True)
    scp.start()
    idle = threading.active_count() + 1  # a queue to the parent has a thread
    pdus = association_pdus()
    died = _watched_threads()
    count = 0

    def read(data: bytes) -> None:
        nonlocal count
        _sent(scp.port, data, pdus[0] if len(data) % 4 else b"")
        if died:
            raise UnfitError(died.pop())
        count += 1
        if count % GOOD_EVERY == 0:
            _good_dimse(scp.port, home)

    def settle() -> None:
        _good_dimse(scp.port, home)
        _at_rest(home, idle)

    yield Reader(make=lambda dice: _stream(pdus, dice), read=read, settle=settle)
    scp.stop()


@contextmanager
def http_door(folder: Path) -> Iterator[Reader]:
    """Yield a running HTTP service, and requests that are not as they should be."""
    home = house(folder)
    server = HttpServer(guarded_store(home))
    server.start()
    idle = threading.active_count() + 40  # its pool of threads stays
    seeds = [_request(multipart(parts)) for parts in ([part10()], [b"no"], [])]
    words = [
        *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: -1\r\n", b"\r\n\r\n"),
        *(
            b"Expect: 100-continue\r\n",
            b"HTTP/2.0",
            b"Upgrade: h2c\r\n",
            b"\0",
            b"%2e%2e/",
        ),
        *(
            b"Content-Encoding: gzip\r\n",
            b"GET ",
            b"X: " + b"y" * 5000,
            b"ffffffff\r\n",
        ),
    ]
    count = 0

    def make(dice: Dice) -> bytes:
        return mutated(dice.choice(seeds), dice, words=words, others=seeds)

    def read(data: bytes) -> None:
        nonlocal count
        said = _sent(server.port, data)
        if said.startswith(b"HTTP/1.1 5") or FAULT_OF_OURS in said:
            raise UnfitError(said[:200].decode("latin-1"))
        count += 1
        if count % GOOD_EVERY == 0:
            _good_http(server.port, home)

    def settle() -> None:
        _good_http(server.port, home)
        _at_rest(home, idle)

    yield Reader(make=make, read=read, settle=settle)
    server.stop()


def _sent(port: int, data: bytes, first: bytes = b"") -> bytes:
    """Return what is answered until the connection ends, which it has to, soon.

    Parameters
    ----------
    first
        Where the data begin with it, its answer is awaited before the rest is sent.
    """
    said = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        try:
            if first and data.startswith(first):
                connection.sendall(first)
                said, data = connection.recv(65536), data.removeprefix(first)
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it had seen enough
        begun = time.monotonic()
        try:
            while piece := connection.recv(65536):
                said += piece
        except ConnectionError:
            pass
        except TimeoutError:
            raise UnfitError("the connection stays open") from None
        took_s = time.monotonic() - begun
    if took_s > ANSWER_S:
        raise UnfitError(f"the connection was ended after {took_s:.1f} s")
    return said


def _watched_threads() -> list[str]:
    """Return a list to which threads that end in an error are added."""
    died: list[str] = []

    def note(args: threading.ExceptHookArgs) -> None:
        frame = traceback.extract_tb(args.exc_traceback)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        died.append(f"a thread ended: {args.exc_value!r:.200} at {where}")

    threading.excepthook = note
    return died


def _at_rest(home: House, idle: int) -> None:
    """Raise unless all that was begun has ended: threads, and files half received."""
    deadline = time.monotonic() + SETTLE_S
    while threading.active_count() > idle or home.incoming:
        if time.monotonic() > deadline:
            names = [thread.name for thread in threading.enumerate()]
            raise UnfitError(f"left: {home.incoming[:3]}, {len(names)} threads {names}")
        time.sleep(0.02)


# ── DIMSE ───────────────────────────────────────────────────────────────────


def association_pdus() -> list[bytes]:
    """Return the PDUs of an association: a request, an echo, an image, a report, the end."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "MODALITY", "PACSIGHT"
    contexts = [
        build_context(Verification, ImplicitVRLittleEndian),
        build_context(CTImageStorage, ExplicitVRLittleEndian),
        build_context(PUSH_MODEL, ImplicitVRLittleEndian),
    ]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    request.presentation_context_definition_list = contexts
    longest, implementation = MaximumLengthNotification(), None
    longest.maximum_length_received = 16384
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "1.2.3"
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = PUSH_MODEL, False, True
    request.user_information = [longest, implementation, role]
    pdus = [A_ASSOCIATE_RQ(request).encode()]
    pdus += _message(C_ECHO_RQ(), _echo(), 1)
    pdus += _message(C_STORE_RQ(), _store(), 3)
    pdus += _message(N_EVENT_REPORT_RQ(), _report(), 5)
    release = A_RELEASE()
    pdus.append(A_RELEASE_RQ(release).encode())
    return [bytes(pdu) for pdu in pdus]


def _echo() -> C_ECHO:
    echo = C_ECHO()
    echo.MessageID = 1
    echo.AffectedSOPClassUID = Verification
    return echo


def _store() -> C_STORE:
    store = C_STORE()
    store.MessageID = 2
    store.AffectedSOPClassUID = CTImageStorage
    store.AffectedSOPInstanceUID = f"{STUDY}.1.1"
    store.Priority = 2
    store.DataSet = BytesIO(data_set_of(part10()))
    return store


def _report() -> N_EVENT_REPORT:
    report = N_EVENT_REPORT()
    report.MessageID = 3
    report.AffectedSOPClassUID = PUSH_MODEL
    report.AffectedSOPInstanceUID = INSTANCE
    report.EventTypeID = 1
    report.EventInformation = BytesIO(b"\x08\0\x95\x11\x08\0\0\0002.25.77")
    return report


def _message(message: object, primitive: object, context: int) -> list[bytes]:
    message.primitive_to_message(primitive)  # type: ignore[attr-defined]
    return [
        P_DATA_TF(data).encode()
        for data in message.encode_msg(context, 16382)  # type: ignore[attr-defined]
    ]


def _stream(pdus: list[bytes], dice: Dice) -> bytes:
    """Return the association's PDUs with one or two of them changed."""
    stream = list(pdus)
    for _ in range(dice.choice((1, 1, 2))):
        at = dice.choice((0, 0, *range(len(stream))))
        kind, body = stream[at][:6], mutated(stream[at][6:], dice, others=pdus)
        match dice.randrange(6):
            case 0:  # the length lies
                length = dice.choice((*EDGES, 0xFFFFFFFF, len(body) + 1))
                stream[at] = kind[:2] + pack(">L", length) + body
            case 1:  # another type of PDU
                stream[at] = (
                    bytes([dice.randrange(10), 0]) + pack(">L", len(body)) + body
                )
            case 2:  # nothing is as it was
                stream[at] = mutated(stream[at], dice, others=pdus)
            case 3:  # a PDU of its own
                stream.insert(at, dice.choice(pdus))
            case _:  # its length is right, its contents are not
                stream[at] = kind[:2] + pack(">L", len(body)) + body
    if dice.randrange(4) == 0:
        del stream[dice.randrange(len(stream)) + 1 :]  # half-open
    return b"".join(stream)


def types_of(said: bytes) -> list[int]:
    """Return the types of the PDUs in a stream."""
    kinds = []
    while len(said) >= 6:
        kinds.append(said[0])
        said = said[6 + int.from_bytes(said[2:6], "big") :]
    return kinds


def _good_dimse(port: int, home: House) -> None:
    """Echo and store as a sender of good faith; both are answered with success."""
    ae = AE(ae_title="MODALITY")
    ae.add_requested_context(Verification)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    before = len(home.books.received)
    association = ae.associate("127.0.0.1", port, ae_title="PACSIGHT")
    if not association.is_established:
        raise UnfitError("no association for a sender of good faith")
    answers = association.send_c_echo(), association.send_c_store(_image())
    association.release()
    said = [answer.get("Status") for answer in answers]
    taken = len(home.books.received) - before
    home.books.received = []
    home.books.refused.clear()
    if said != [0, 0] or taken < 1:
        raise UnfitError(f"a good association was answered {said}, {taken} taken")


def _image() -> Dataset:
    return dcmread(BytesIO(part10()))


# ── HTTP ────────────────────────────────────────────────────────────────────


def _request(body: bytes) -> bytes:
    head = (
        "POST /dicom-web/studies HTTP/1.1\r\nHost: node\r\nAccept: application/dicom+json"
        f"\r\nContent-Type: {KIND}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _good_http(port: int, home: House) -> None:
    before = len(home.books.received)
    answer = httpx.post(
        f"http://127.0.0.1:{port}/dicom-web/studies",
        content=multipart([part10(Random().randrange(10**6))]),  # noqa: S311 - any number
        headers={"content-type": KIND},
        timeout=PATIENCE_S,
    )
    taken = len(home.books.received) - before
    home.books.received = []
    home.books.refused.clear()
    if answer.status_code != httpx.codes.OK or taken < 1:
        raise UnfitError(f"a good request was answered {answer.status_code}, {taken}")
