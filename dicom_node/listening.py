"""The listening side of DICOM's upper layer: connections become associations here.

pynetdicom 3 makes the TLS handshake in the loop that accepts connections, without a
limit: one caller that connects and says nothing keeps everybody out. Here each
connection has a thread and a deadline (PS3.8 9.1.5, ARTIM) until its first bytes are
seen; a caller that speaks TLS to the plain port, or DICOM to the TLS port, is told of
in words. What is done in an association is not known here.
"""

import select
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import structlog
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import ThreadedAssociationServer
from pynetdicom.utils import make_target

from dicom_node.callers import Shown
from dicom_node.domain import FrontDoor
from dicom_node.domain.audited import Alarm, Note, SecurityAlert
from dicom_node.metering import READ_AT_ONCE, MeteredSocket, MeteringHandler
from dicom_node.slowness import Slowness
from dicom_node.tls import caller_fault, shown

TLS_HANDSHAKE = 0x16
"""The first byte of whoever opens with TLS (RFC 8446 5.1); a PDU's is 0x01 to 0x07."""
WAITING_PER_ASSOCIATION = 2
"""So many connections may be about to become an association, for each that may be one."""

TOO_MANY = bytes([0x03, 0, 0, 0, 0, 4, 0, 0x02, 0x03, 0x02])
"""A-ASSOCIATE-RJ: transient, by the service provider, local limit exceeded (PS3.8 9.3.4)."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorstep:
    """What becomes of a connection before it is an association.

    Parameters
    ----------
    patience_s
        How long it may take to say its first word, or to finish its handshake.
    most
        How many may be at it at once; more are closed.
    crowd
        How many connections there may be at once that have said something; more are
        told that there are too many, and closed.
    slowness
        What is expected of who sends something.
    """

    patience_s: float
    most: int
    note: Note
    crowd: int
    slowness: Slowness


class AssociationDoor(ThreadedAssociationServer):
    """pynetdicom's server, of which no caller can hold up another."""

    daemon_threads = True
    doorstep: Doorstep
    waiting: threading.Semaphore

    def open(self, doorstep: Doorstep) -> None:
        """Serve in a thread of its own, until `shutdown`."""
        self.doorstep = doorstep
        self.waiting = threading.BoundedSemaphore(doorstep.most)
        self.ae._servers.append(self)  # noqa: SLF001 - as AE.start_server does
        serve = make_target(self.serve_forever)
        threading.Thread(target=serve, name="AcceptorServer", daemon=True).start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Return a connection as it is; the handshake is made in its thread."""
        return cast("socket.socket", self.socket).accept()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, unless too many are waiting in one."""
        if not self.waiting.acquire(blocking=False):
            _tell(client_address, "too many connections are waiting to begin")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Make an association of a connection whose first bytes are in order."""
        try:
            ready = self._ready(request, client_address)
        finally:
            self.waiting.release()
        if ready is None:
            self.shutdown_request(request)
        elif len(self.active_associations) >= self.doorstep.crowd:
            _tell(client_address, "too many connections")
            _turn_away(ready)
            self.shutdown_request(ready)
        else:
            super().process_request_thread(ready, client_address)

    def service_actions(self) -> None:
        """End what is too slow; called between two connections, twice a second."""
        super().service_actions()
        for association in self.active_associations:
            transport = association.dul.socket
            if not isinstance(transport, MeteredSocket):
                continue
            if transport.is_too_slow(self.doorstep.slowness):
                requestor = association.requestor
                log.warning(
                    "sender_too_slow",
                    door=FrontDoor.DIMSE,
                    calling_aet=requestor.ae_title,
                    address=requestor.address,
                )
                with suppress(OSError):  # it has ended by itself
                    transport.cut()

    def _ready(self, request: socket.socket, who: Any) -> socket.socket | None:
        """Return the socket to talk over, None where there is nothing to talk about."""
        try:
            first = _first_byte(request, self.doorstep.patience_s)
        except OSError:
            return None
        if first is None:
            return None  # closed again: a probe, or a port scan
        if self.ssl_context is not None:
            return self._secured(self.ssl_context, request, who)
        if first == TLS_HANDSHAKE:
            self._refuse(who, "it speaks TLS to the port for plain associations")
            return None
        return request

    def _secured(
        self, context: ssl.SSLContext, request: socket.socket, who: Any
    ) -> ssl.SSLSocket | None:
        request.settimeout(self.doorstep.patience_s)
        try:
            secured = context.wrap_socket(request, server_side=True)
        except OSError as error:
            self._refuse(who, caller_fault(error))
            return None
        secured.settimeout(None)
        return secured

    def _refuse(self, who: Any, reason: str) -> None:
        _tell(who, reason)
        alarm = Alarm.NODE_AUTHENTICATION
        self.doorstep.note(
            SecurityAlert(alarm=alarm, reason=reason, address=str(who[0]))
        )


def open_door(
    ae: AE,
    address: tuple[str, int],
    handlers: Sequence[Any],
    *,
    context: ssl.SSLContext | None,
    doorstep: Doorstep,
) -> AssociationDoor:
    """Return a server that listens at an address, with TLS if there is a context."""
    made = ae.make_server(
        address,
        ssl_context=context,
        evt_handlers=list(handlers),
        server_class=AssociationDoor,
        request_handler=MeteringHandler,
    )
    assert isinstance(made, AssociationDoor)  # noqa: S101 - it was asked for
    made.open(doorstep)
    return made


def certificate_of(association: Association) -> Shown | None:
    """Return the certificate that a caller showed, None without one."""
    transport = association.dul.socket
    connection = None if transport is None else transport.socket
    return shown(connection) if isinstance(connection, ssl.SSLSocket) else None


def _first_byte(connection: socket.socket, patience_s: float) -> int | None:
    """Return the first byte that comes, left where it is; None if none does."""
    waiting = select.poll()  # select(2) takes no descriptor beyond 1023
    waiting.register(connection, select.POLLIN)
    ready = waiting.poll(1000 * patience_s)
    seen = connection.recv(1, socket.MSG_PEEK) if ready else b""
    return seen[0] if seen else None


def _turn_away(connection: socket.socket) -> None:
    """Say that there are too many, and read what has come, so that it is heard."""
    with suppress(OSError):
        connection.settimeout(0)
        connection.recv(READ_AT_ONCE)
        connection.sendall(TOO_MANY)
        connection.shutdown(socket.SHUT_WR)


def _tell(who: Any, reason: str) -> None:
    log.warning("association_rejected", address=str(who[0]), reason=reason)
