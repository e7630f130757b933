"""An association that the node opens to a peer, or the reason why there is none.

PS3.8 7.1 (A-ASSOCIATE) seen from the requestor. What is sent over it is not known
here.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ssl import SSLContext
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.errors import Permanent, Transient
from dicom_node.peers import Caller, Peer
from dicom_node.tls import ClientContext, client_context, tls_fault

REJECTED_TRANSIENT = 0x02
"""Result of an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

QUICK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Linux has it."""

Handlers = Sequence[tuple[evt.EventType, Callable[..., Any]]]


class UnreachableError(Transient):
    """A peer that nobody answers for: no connection, or it was lost."""


class NothingAcceptedError(Permanent):
    """A peer that takes part in the association, and in none of its contexts."""


@contextmanager
def association(
    peer: Peer,
    caller: Caller,
    contexts: Sequence[PresentationContext],
    *,
    handlers: Handlers = (),
) -> Iterator[Association]:
    """Open an association with a peer; released at the end, aborted after an error.

    Parameters
    ----------
    handlers
        What the peer may ask meanwhile, and who answers.

    Raises
    ------
    Transient
        If the peer is too busy; `UnreachableError` if it does not answer.
    Permanent
        If it refuses us: the titles are unknown to it, its certificate is not to be
        trusted; `NothingAcceptedError` if no context is accepted.
    """
    assoc = _request(peer, caller, contexts, handlers)
    try:
        yield assoc
    except BaseException:
        if assoc.is_established:
            assoc.abort()
        raise
    if assoc.is_established:
        assoc.release()


class _PromptSocket(AssociationSocket):
    """A socket that acknowledges at once what it is sent, and is always closed.

    A peer whose sockets wait (Nagle's algorithm, RFC 896) holds back the rest of an
    answer until its beginning is acknowledged, which takes the kernel 40 ms unless
    it is told otherwise, before each read. Orthanc is one: storing and finding are
    some eight times as fast. pynetdicom 3.0.4 shuts a socket down before it closes
    it; where that raises, because the connection has ended already, it leaves the
    closing to the garbage collector.
    """

    def recv(self, nr_bytes: int) -> bytearray:
        """Return that many bytes."""
        if self.socket is not None and QUICK is not None:
            self.socket.setsockopt(socket.IPPROTO_TCP, QUICK, 1)
        return super().recv(nr_bytes)

    def _shutdown_socket(self) -> None:
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


class _Requestor(AE):
    """An AE whose sockets do not wait, and are closed if no connection was made.

    Nagle's algorithm holds each data set back until its command is acknowledged,
    some 40 ms. A peer that is frozen reads nothing while its system keeps the
    connection: without TCP_USER_TIMEOUT (tcp(7)), sending to it never ends.
    """

    def close(self) -> None:
        """Close the socket that was made last."""
        self._made.close()

    def _create_socket(
        self,
        assoc: Association,
        address: AddressInformation,
        tls_args: tuple[SSLContext, str] | None,
    ) -> AssociationSocket:
        made = _PromptSocket(assoc, address=address)
        made.tls_args = tls_args
        assert made.socket is not None  # noqa: S101 - it was made just now
        made.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        patience_ms = int(1000 * (self.dimse_timeout or 0))
        made.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
        self._made = made.socket
        return made


def _request(
    peer: Peer,
    caller: Caller,
    contexts: Sequence[PresentationContext],
    handlers: Handlers,
) -> Association:
    ae = _requestor(peer, caller)
    tls = None if peer.tls is None else client_context(peer.tls)
    connected: list[evt.Event] = []
    try:
        assoc = ae.associate(
            peer.host,
            peer.port or 0,
            contexts=list(contexts),
            ae_title=peer.aet,
            tls_args=None if tls is None else (tls, peer.host),
            evt_handlers=[(evt.EVT_CONN_OPEN, connected.append), *handlers],
        )
    except OSError as error:  # the host's name has no address
        raise UnreachableError(
            f"{peer.name}: the host name cannot be resolved"
        ) from error
    if assoc.is_established:
        return assoc
    if connected:
        raise _refusal(peer, assoc)
    ae.close()
    if tls is not None:
        _raise_fault(peer, tls)
    raise UnreachableError(f"{peer.name}: no connection, is it running?")


def _requestor(peer: Peer, caller: Caller) -> _Requestor:
    ae = _Requestor(ae_title=peer.calling_aet or caller.aet)
    ae.connection_timeout = caller.connect_timeout_s
    ae.acse_timeout = caller.acse_timeout_s
    ae.dimse_timeout = caller.dimse_timeout_s
    ae.network_timeout = caller.dimse_timeout_s
    return ae


def _raise_fault(peer: Peer, tls: ClientContext) -> None:
    """Close the socket of a handshake that failed; raise if it failed over TLS."""
    if tls.made is not None:
        tls.made.close()
    if tls.fault is not None and (why := tls_fault(tls.fault)):
        raise Permanent(f"{peer.name}: {why}") from tls.fault


def _refusal(peer: Peer, assoc: Association) -> Transient | Permanent:
    """Return why a peer that was reached gave no association."""
    answer = assoc.acceptor.primitive
    if isinstance(answer, A_ASSOCIATE) and assoc.is_rejected:
        why = f"{peer.name}: association rejected, {answer.reason_str}"
        if answer.result == REJECTED_TRANSIENT:
            return Transient(why)
        return Permanent(why)
    if isinstance(answer, A_ASSOCIATE) and assoc.rejected_contexts:
        why = f"{peer.name}: it accepts nothing of what we want to do"
        return NothingAcceptedError(why)
    return UnreachableError(f"{peer.name}: the association was aborted or not answered")
