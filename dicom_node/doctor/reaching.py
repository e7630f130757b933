"""Whether somebody listens at an address, and whether it speaks TLS there."""

import socket
import ssl

from dicom_node.association import UnreachableError
from dicom_node.doctor.finding import Ailment
from dicom_node.peers import Tls
from dicom_node.tls import client_context, tls_fault

PATIENCE_S = 3.0

Fault = tuple[str, Ailment]
"""What is wrong, in a sentence, and its name."""


def tcp_fault(host: str, port: int) -> Fault | None:
    """Return why there is no connection, None if there is one."""
    place = f"{host}:{port}"
    try:
        socket.create_connection((host, port), timeout=PATIENCE_S).close()
    except socket.gaierror:
        return f"the host name {host} cannot be resolved", Ailment.HOST_UNKNOWN
    except ConnectionRefusedError:
        return f"nobody listens at {place}: the port is closed", Ailment.PORT_CLOSED
    except OSError:
        return f"{place} does not answer", Ailment.NO_ANSWER
    return None


def handshake_fault(host: str, port: int, tls: Tls) -> Fault | None:
    """Return why a TLS handshake with our settings fails, None if it does not.

    With TLS 1.3 a server looks at our certificate when the handshake is over for us:
    what it says of that is waited for.
    """
    context = client_context(tls)
    try:
        with (
            socket.create_connection((host, port), timeout=PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as protected,
        ):
            protected.settimeout(0.3)
            _hear(protected)
    except ssl.SSLEOFError:
        return "it closes the connection when we speak TLS", Ailment.TLS_MISMATCH
    except OSError as error:
        why = tls_fault(error) or "it does not answer when we speak TLS"
        return why, Ailment.TLS_MISMATCH
    return None


def speaks_tls(host: str, port: int) -> bool:
    """Return whether TLS is spoken there, whoever it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: who it is does not matter
    try:
        with (
            socket.create_connection((host, port), timeout=PATIENCE_S) as plain,
            context.wrap_socket(plain),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)  # a refusal in TLS is TLS, too
    except OSError:
        return False


def unreachable(
    error: UnreachableError, host: str, port: int, tls: Tls | None
) -> Fault:
    """Return what it is about a peer that takes connections and no association."""
    if tls is None and speaks_tls(host, port):
        said = "it speaks TLS on that port, and our settings do not: add [peers.tls]"
        return said, Ailment.TLS_MISMATCH
    return str(error).partition(": ")[2] or str(error), Ailment.NO_ANSWER


def _hear(connection: ssl.SSLSocket) -> None:
    try:
        connection.recv(1)
    except TimeoutError:
        return  # it says nothing, as an SCP does
