"""Sockets of associations that know how slow a sender is.

The ARTIM timer (PS3.8 9.1.5) ends a connection that says nothing at its begin, and the
network timeout one that falls silent. Neither sees a sender that trickles: pynetdicom
blocks until a PDU is whole, and each byte counts as a sign of life. So every message
has a due time that each received byte puts off a little.
"""

import socket
import time
from typing import cast

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler

from dicom_node.slowness import Slowness

READ_AT_ONCE = 1 << 16


class MeteredSocket(AssociationSocket):
    """A socket that knows how long the message takes that is coming in."""

    _began: float = 0.0
    _received: int = 0
    _reading: bool = False

    def recv(self, nr_bytes: int) -> bytearray:
        """Return that many bytes, or fewer where the connection ends."""
        connection = cast("socket.socket", self.socket)
        if self.assoc.dimse.message is None:
            self._began, self._received = time.monotonic(), 0
        self._reading = True
        try:
            got = bytearray()
            while len(got) < nr_bytes:
                chunk = connection.recv(min(READ_AT_ONCE, nr_bytes - len(got)))
                if not chunk:
                    break
                got += chunk
                self._received += len(chunk)
            return got
        finally:
            self._reading = False

    def is_too_slow(self, least: Slowness) -> bool:
        """Return whether something is coming in, and has for too long."""
        if not self._reading and self.assoc.dimse.message is None:
            return False
        return least.is_reached(time.monotonic() - self._began, self._received)

    def cut(self) -> None:
        """End the connection, also where another thread is waiting for it."""
        if self.socket is not None:
            # not an SSLSocket's own shutdown, which takes the ground from under a recv
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class MeteringHandler(RequestHandler):
    """Makes associations of connections, with sockets that are metered."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.event_queue.get_nowait()  # the other socket says it, too
        connection = cast("socket.socket", self.request)
        association.dul.socket = MeteredSocket(association, client_socket=connection)
        patience_ms = int(1000 * (self.ae.network_timeout or 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
        return association
