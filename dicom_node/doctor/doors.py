"""The node's own front doors, from outside: C-ECHO, TLS, HTTP."""

import ipaddress
from http import HTTPStatus

import requests
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.association import association
from dicom_node.doctor.finding import Ailment, Finding, Hop
from dicom_node.doctor.neighbours import hurried
from dicom_node.doctor.reaching import speaks_tls, tcp_fault
from dicom_node.errors import Permanent, Transient
from dicom_node.peers import Caller, Peer, Right

PATIENCE_S = 3.0


def look_at_dicom(host: str, port: int, aet: str) -> list[Finding]:
    """Return whether the node answers C-ECHO.

    It may reject us: it knows its callers, and we are none of them.
    """
    at = reachable(host)
    if tcp_fault(at, port):
        return [_down("DICOM", f"nobody listens at {at}:{port}: the node does not run")]
    itself = Peer(
        name="itself", aet=aet, host=at, port=port, rights=frozenset({Right.QUERY})
    )
    try:
        contexts = [build_context(Verification)]
        with association(itself, hurried(Caller(aet=aet)), contexts) as assoc:
            assoc.send_c_echo()
    except Permanent:
        return [_told("DICOM", f"port {port} answers, and knows its callers")]
    except (Transient, RuntimeError):
        return [_down("DICOM", f"port {port} is open, and gives no association")]
    return [_told("DICOM", f"port {port} answers C-ECHO")]


def look_at_dicom_tls(host: str, port: int) -> list[Finding]:
    """Return whether the node speaks TLS on its port for that."""
    at, who = reachable(host), "DICOM over TLS"
    if tcp_fault(at, port):
        return [_down(who, f"nobody listens at {at}:{port}: the node does not run")]
    return _speaks_tls(who, at, port)


def look_at_http(host: str, port: int, *, tls: bool) -> list[Finding]:
    """Return whether the node's HTTP says that it is well; over TLS, whether it is TLS."""
    at, who = reachable(host), "HTTP"
    if tcp_fault(at, port):
        return [_down(who, f"nobody listens at {at}:{port}: the node does not run")]
    if tls:
        return _speaks_tls(who, at, port)
    place = f"[{at}]" if ":" in at else at
    try:
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment is not the node
            url = f"http://{place}:{port}/health"
            status = session.get(url, timeout=PATIENCE_S).status_code
    except requests.RequestException:
        return [_down(who, f"port {port} is open, and does not answer")]
    if status != HTTPStatus.OK:
        said = f"port {port} answers HTTP {status}: something else listens there"
        return [_down(who, said)]
    return [_told(who, f"port {port} answers")]


def _speaks_tls(who: str, at: str, port: int) -> list[Finding]:
    if speaks_tls(at, port):
        return [_told(who, f"port {port} answers")]
    said = f"port {port} is open, and speaks no TLS"
    return [Finding(hop=Hop.DOORS, who=who, said=said, ailment=Ailment.TLS_MISMATCH)]


def reachable(host: str) -> str:
    """Return the address at which this machine reaches a server of its own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004 - IPv4


def _told(who: str, said: str) -> Finding:
    return Finding(hop=Hop.DOORS, who=who, said=said)


def _down(who: str, said: str) -> Finding:
    return Finding(hop=Hop.DOORS, who=who, said=said, ailment=Ailment.NODE_DOWN)
