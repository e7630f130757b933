"""A DICOM file from where somebody says it lies: a path, or a URL.

A URL is that of one instance: WADO-RS (PS3.18 10.4) answers with a multipart message,
others (Orthanc's ``/instances/{id}/file``) with the file alone. A peer's credentials go
to addresses below its DICOMweb service and nowhere else; redirections are not followed.
"""

from collections.abc import Sequence
from http import HTTPStatus
from io import BufferedReader, BytesIO
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import requests
from pydicom import Dataset, dcmread

from dicom_node.errors import Permanent, Rejected, Transient
from dicom_node.multipart import PartBegins, PartData, PartsParser, media_type
from dicom_node.part10 import read_head
from dicom_node.peers import Peer
from dicom_node.query import http_session
from dicom_node.tls import tls_fault

ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""One media type: Orthanc 1.10 takes no list."""
MOST_BYTES = 64 * 1024 * 1024
CHUNK = 1 << 16
PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
"""HTTP statuses below 500 that speak of the moment."""


def is_url(where: str) -> bool:
    """Return whether it is an address, and no path."""
    return urlsplit(where).scheme.lower() in {"http", "https"}


def retrieve(where: str, peers: Sequence[Peer] = (), *, timeout_s: float) -> Dataset:
    """Return the data set that lies there, of which every byte is accounted for.

    Raises
    ------
    Transient
        If the archive does not answer, or says that it cannot now.
    Permanent
        If there is none, it is no DICOM file, or it is not whole.
    """
    if is_url(where):
        content = _download(urlsplit(where), peers, timeout_s)
    else:
        content = _read(Path(where))
    try:
        read_head(BufferedReader(BytesIO(content)), len(content), frozenset())
    except Rejected as error:
        raise Permanent(f"{where}: {error.comment}") from None
    try:
        return dcmread(BytesIO(content))
    except Exception as error:  # pydicom raises what it likes
        raise Permanent(f"{where}: it cannot be read as a data set") from error


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise Permanent(f"{path}: {size} bytes are more than any report has")
        return path.read_bytes()
    except OSError as error:
        raise Permanent(f"{path}: {error.strerror}") from None


def _download(url: SplitResult, peers: Sequence[Peer], timeout_s: float) -> bytes:
    if url.username is not None or url.password is not None:
        raise Permanent(
            "a password belongs into the credentials of a peer, not into a URL"
        )
    place = f"{url.scheme}://{url.netloc}"
    try:
        with (
            _session(url, peers) as session,
            session.get(
                url.geturl(),
                headers={"Accept": ACCEPT},
                timeout=timeout_s,
                stream=True,
            ) as response,
        ):
            _check_status(response, place)
            return _file_in(_body(response, place), response, place)
    except requests.TooManyRedirects:
        raise Permanent(
            f"{place} answered with a redirection, which is not followed: "
            "name the address that it leads to"
        ) from None
    except (requests.exceptions.InvalidURL, UnicodeError):
        raise Permanent(f"{place} is no address") from None
    except requests.exceptions.SSLError as error:
        raise Permanent(f"{place}: {tls_fault(error)}") from None
    except requests.RequestException:
        raise Transient(f"{place} does not answer") from None


def _session(url: SplitResult, peers: Sequence[Peer]) -> requests.Session:
    """Return a session with the credentials of the peer that the URL belongs to."""
    for peer in peers:
        bases = [base for base in (peer.dicomweb, peer.orthanc) if base]
        if any(_is_below(url, urlsplit(base)) for base in bases):
            return http_session(peer)
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    return session


def _is_below(url: SplitResult, base: SplitResult) -> bool:
    """Return whether a URL lies below another one, dots and ports considered."""
    if {".", ".."} & set(unquote(url.path).replace("\\", "/").split("/")):
        return False
    inside = url.path.startswith(base.path.rstrip("/") + "/")
    return inside and _origin(url) == _origin(base)


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port (RFC 6454 4)."""
    scheme = url.scheme.lower()
    return scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(scheme)


def _check_status(response: requests.Response, place: str) -> None:
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in PASSING:
        raise Transient(f"{place} answered HTTP {status}")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise Permanent(
            f"{place} refuses (HTTP {status}): credentials are those of the peer "
            "whose dicomweb or orthanc the address lies below"
        )
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        raise Permanent(f"{place} has no such instance (HTTP {status})")
    raise Permanent(f"{place} answered HTTP {status}")


def _body(response: requests.Response, place: str) -> bytes:
    content = bytearray()
    for chunk in response.iter_content(CHUNK):
        content += chunk
        if len(content) > MOST_BYTES:
            raise Permanent(f"{place} sends more than any report has")
    return bytes(content)


def _file_in(body: bytes, response: requests.Response, place: str) -> bytes:
    """Return the one DICOM file in a response."""
    media, options = media_type(response.headers.get("Content-Type", ""))
    if media == "multipart/related":
        return _one_part(body, options.get("boundary", ""), place)
    if media in {"application/dicom", "application/octet-stream", ""}:
        return body
    raise Permanent(f"{place} answered with {media}, not with a DICOM file")


def _one_part(body: bytes, boundary: str, place: str) -> bytes:
    parser = PartsParser(boundary)
    parts: list[bytearray] = []
    for event in parser.feed(body):
        if isinstance(event, PartBegins):
            parts.append(bytearray())
        elif isinstance(event, PartData):
            parts[-1] += event.content
    parser.finish()
    if len(parts) != 1:
        raise Permanent(
            f"{place} answered with {len(parts)} objects: name a single instance"
        )
    return bytes(parts[0])
