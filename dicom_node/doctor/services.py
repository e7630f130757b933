"""The HTTP services and folders of peers: DICOMweb and Orthanc, with our credentials.

A question names a UID that nobody has: no patient data comes back (PS3.18 10.6).
"""

import os
from http import HTTPStatus
from urllib.parse import urlsplit

import requests

from dicom_node.doctor.finding import Ailment, Finding, Hop
from dicom_node.doctor.reaching import Fault, tcp_fault
from dicom_node.peers import Peer, Via
from dicom_node.query import http_session
from dicom_node.tls import tls_fault

PATIENCE_S = 3.0
NOBODY = "2.25.0"
"""A Study Instance UID that no study has."""
REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
NO_QUERIES = {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
PORTS = {"http": 80, "https": 443}


def services_of(peer: Peer) -> dict[str, str]:
    """Return the addresses that the node asks the peer at, by what answers there."""
    found = {}
    stows = peer.is_destination and peer.via is Via.STOW
    if peer.dicomweb and (stows or peer.is_destination or peer.expected):
        study = f"/studies?StudyInstanceUID={NOBODY}&limit=1"
        found["DICOMweb"] = peer.dicomweb.rstrip("/") + study
    if peer.is_destination and peer.via is Via.ORTHANC:
        found["Orthanc"] = peer.orthanc.rstrip("/") + "/system"
    return found


def look_at_services(peer: Peer) -> list[Finding]:
    """Return whether the peer's services answer to our credentials."""
    return [_service(peer, what, url) for what, url in services_of(peer).items()]


def look_at_destination_folder(peer: Peer) -> list[Finding]:
    """Return whether the folder that results are written into can be."""
    folder = peer.folder
    usable = folder is not None and folder.is_dir() and os.access(folder, os.W_OK)
    if usable:
        return [_told(peer, f"its folder {folder} can be written")]
    return [_told(peer, f"its folder {folder} cannot be written", Ailment.FOLDER)]


def _service(peer: Peer, what: str, url: str) -> Finding:
    parts = urlsplit(url)
    port = parts.port or PORTS[parts.scheme]
    if fault := tcp_fault(parts.hostname or "", port):
        return _told(peer, f"{what}: {fault[0]}", fault[1])
    said, ailment = _asked(peer, url)
    return _told(peer, f"{what}: {said}", ailment)


def _asked(peer: Peer, url: str) -> Fault | tuple[str, None]:
    try:
        with http_session(peer) as session:
            answer = session.get(url, timeout=PATIENCE_S, allow_redirects=False)
    except requests.exceptions.SSLError as error:
        return tls_fault(error), Ailment.TLS_MISMATCH
    except requests.Timeout:
        return "it does not answer", Ailment.NO_ANSWER
    except requests.RequestException:
        if url.startswith("http:"):
            said = "it closes the connection: does it want https?"
            return said, Ailment.TLS_MISMATCH
        return "it closes the connection", Ailment.NO_ANSWER
    return _meaning(answer.status_code, known=peer.credentials is not None)


def _meaning(status: int, *, known: bool) -> Fault | tuple[str, None]:
    """Return what an HTTP status says of our address and credentials."""
    if status in REFUSED:
        ours = "does not accept our credentials" if known else "wants credentials"
        return f"it {ours} (HTTP {status})", Ailment.WRONG_TOKEN
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return "it answers, and accepts us", None
    if status in NO_QUERIES:
        return "it answers, and takes no queries", None
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"it answers HTTP {status}", Ailment.NO_ANSWER
    return f"it answers HTTP {status}: is the address right?", Ailment.NOT_A_SERVICE


def _told(peer: Peer, said: str, ailment: Ailment | None = None) -> Finding:
    return Finding(hop=Hop.PEERS, who=peer.name, said=said, ailment=ailment)
