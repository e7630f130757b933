"""STOW-RS: many objects in one request (PS3.18 10.5), through dicomweb-client.

The parts are the bytes that lie in the outbox, in the first transfer syntax that the
peer wants and that fits the object. What became of each object stands in
the response (PS3.18 Table 10.5.3-1 and Annex I.2): an instance of which nothing is
said is delivered only if a query finds it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset

from dicom_node.deliver.answers import ABOUT_THE_REQUEST, refusal
from dicom_node.deliver.destination import (
    ask,
    damage,
    settle_duplicate,
    settle_silence,
)
from dicom_node.deliver.encoding import first_fitting
from dicom_node.errors import UNREADABLE_JSON
from dicom_node.outgoing import DUPLICATE_SOP_INSTANCE, Outcome, Outgoing, judged
from dicom_node.peers import Caller, Peer
from dicom_node.query import http_session
from dicom_node.tls import tls_fault
from dicom_node.verification import Finding

MOST_BYTES = 32 * 1024 * 1024
JSON = "application/dicom+json"
TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122

ANSWERED = {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT}
"""The response says what became of each instance."""


class Client(DICOMwebClient):
    """A DICOMweb client that sends files as they are, and shows every response."""

    def post_files(self, contents: Sequence[bytes]) -> requests.Response:
        """Return the response to a STOW-RS request with these Part 10 files."""
        boundary = sha256(b"".join(contents)).hexdigest()
        content_type = (
            f'multipart/related; type="application/dicom"; boundary="{boundary}"'
        )
        return self._session.post(
            f"{self.base_url}/studies",
            data=self._encode_multipart_message(contents, content_type),
            headers={"Content-Type": content_type, "Accept": JSON},
            timeout=self._timeout,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StowDestination:
    """A peer that objects are sent to by STOW-RS.

    Parameters
    ----------
    most_bytes
        How much goes into one request, unless a single object is larger.
    """

    peer: Peer
    caller: Caller
    most_bytes: int = MOST_BYTES

    def deliver(self, objects: Sequence[Outgoing]) -> Iterator[Outcome]:
        """Yield what became of each object, as `Destination.deliver` says."""
        whole: list[Outgoing] = []
        for outgoing in objects:
            fault = damage(outgoing)
            if fault is None:
                whole.append(outgoing)
            else:
                yield fault
        with http_session(self.peer) as session:
            client = Client(
                self.peer.dicomweb.rstrip("/"),
                session=session,
                timeout=(self.caller.connect_timeout_s, self.caller.http_timeout_s),
            )
            for request in _requests(whole, most_bytes=self.most_bytes):
                yield from self._send(client, request)

    def verify(self, objects: Sequence[Outgoing]) -> Iterator[Finding]:
        """Yield whether QIDO-RS finds each object."""
        return ask(objects, self.peer, self.caller)

    def _send(self, client: Client, objects: Sequence[Outgoing]) -> Iterator[Outcome]:
        """Yield the outcomes of one request."""
        wanted = self.peer.transfer_syntaxes
        files = [first_fitting(one.path, wanted) for one in objects]
        try:
            response = client.post_files(files)
        except requests.exceptions.SSLError as error:
            why = f"{self.peer.name}: {tls_fault(error)}"
            yield from (Outcome.slowly(one, why) for one in objects)
        except requests.TooManyRedirects:
            why = f"{self.peer.name}: it redirects us; is dicomweb its final address?"
            yield from (Outcome.slowly(one, why) for one in objects)
        except requests.RequestException:
            why = f"{self.peer.name}: no answer to STOW-RS, is it running?"
            yield from (Outcome.retry(one, why) for one in objects)
        else:
            yield from self._outcomes(client, objects, response)

    def _outcomes(
        self, client: Client, objects: Sequence[Outgoing], response: requests.Response
    ) -> Iterator[Outcome]:
        """Yield what a response says of each object."""
        if response.status_code in ABOUT_THE_REQUEST and len(objects) > 1:
            # one of them may be what is wrong: alone, each is answered for itself
            for outgoing in objects:
                yield from self._send(client, [outgoing])
        elif response.status_code in ANSWERED:
            said = _report(response)
            yield from (self._outcome(outgoing, said) for outgoing in objects)
        else:
            status, headers = response.status_code, response.headers
            yield from (refusal(outgoing, status, headers) for outgoing in objects)

    def _outcome(self, outgoing: Outgoing, said: "Report | str") -> Outcome:
        """Return what the response says of one object."""
        if isinstance(said, str):
            return Outcome.slowly(outgoing, f"{self.peer.name}: {said}")
        uid = outgoing.sop_instance_uid
        if uid in said.stored:
            return Outcome.sent(outgoing, said.stored[uid])
        reason = said.failed.get(uid)
        if reason is None:
            return settle_silence(outgoing, self.peer, self.caller)
        if reason == DUPLICATE_SOP_INSTANCE:
            return settle_duplicate(outgoing, self.peer, self.caller)
        if reason == TRANSFER_SYNTAX_NOT_SUPPORTED:
            return Outcome.dead(outgoing, "its transfer syntax is not supported")
        return judged(outgoing, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a STOW-RS response says, by SOP Instance UID.

    Parameters
    ----------
    stored
        In words, with the Warning Reason (0008,1196) where there is one.
    failed
        Failure Reason (0008,1197).
    """

    stored: Mapping[str, str]
    failed: Mapping[str, int]


def _report(response: requests.Response) -> Report | str:
    """Return what the response says, or why it says nothing that can be read."""
    if not response.content:
        return Report(stored={}, failed={})
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if media_type not in {JSON, "application/json"}:
        return "it answered with something else than DICOM JSON; is dicomweb right?"
    try:
        said = Dataset.from_json(response.json())
        return Report(
            stored={
                str(item.ReferencedSOPInstanceUID): _stored(item)
                for item in said.get("ReferencedSOPSequence") or ()
            },
            failed={
                str(item.ReferencedSOPInstanceUID): int(item.FailureReason)
                for item in said.get("FailedSOPSequence") or ()
            },
        )
    except UNREADABLE_JSON:
        return "its answer is no DICOM JSON that can be read"


def _stored(item: Dataset) -> str:
    warning = item.get("WarningReason")
    return "stored" if warning is None else f"stored, with warning 0x{warning:04X}"


def _requests(
    objects: Sequence[Outgoing], *, most_bytes: int
) -> Iterator[list[Outgoing]]:
    """Yield the objects in portions that fit into one request."""
    portion: list[Outgoing] = []
    size = 0
    for outgoing in objects:
        length = outgoing.path.stat().st_size
        if portion and size + length > most_bytes:
            yield portion
            portion, size = [], 0
        portion.append(outgoing)
        size += length
    if portion:
        yield portion
