"""Orthanc's REST API, through orthanc-api-client: no DICOM network needed.

Orthanc answers what it did with an instance, and says afterwards what it holds: the
digest of its file is compared with that of what was sent. That is more than a query
or a commitment can tell.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5
from typing import Any

import requests
from orthanc_api_client import OrthancApiClient
from orthanc_api_client import exceptions as orthanc

from dicom_node.association import UnreachableError
from dicom_node.deliver.answers import refusal
from dicom_node.deliver.destination import cannot_say, damage, whereabouts
from dicom_node.deliver.encoding import first_fitting
from dicom_node.errors import UNREADABLE_JSON, PacsightError, Permanent, Transient
from dicom_node.outgoing import Outcome, Outgoing
from dicom_node.peers import Caller, Peer
from dicom_node.query import ABOUT_THE_MOMENT, http_session
from dicom_node.tls import tls_fault
from dicom_node.verification import Finding, Found, How

NOT_THERE = "Orthanc does not have it under its study and patient"
OTHER_CONTENT = (
    "Orthanc holds other content under its UID: look whether it changes what it"
    " receives (IngestTranscoding, a script), or whose object it is"
)


class Client(OrthancApiClient):  # type: ignore[misc]
    """An Orthanc client that asks in our session: our certificates, and no retries."""

    def __init__(self, url: str, session: requests.Session, timeout_s: float) -> None:
        super().__init__(url)
        self.close()  # the session that it made
        self._http_session: requests.Session = session
        self._timeout_s = timeout_s

    def answer(self, method: str, path: str, **given: Any) -> requests.Response:
        """Return the response to a request.

        Raises
        ------
        OrthancApiException
            If it is not one of success, or does not come.
        """
        call = self.post if method == "POST" else self.get
        answered: requests.Response = call(path, timeout=self._timeout_s, **given)
        if not answered.content and "Content-Length" not in answered.headers:
            raise orthanc.ConnectionError(url=path)  # cut short in its headers
        return answered

    def _translate_exception(
        self, request_exception: requests.RequestException, url: str
    ) -> None:
        """Raise what the library has for it; for an answer cut short it has nothing."""
        if isinstance(request_exception, requests.TooManyRedirects):
            raise orthanc.HttpError(http_status_code=302) from request_exception
        super()._translate_exception(request_exception, url)
        raise orthanc.ConnectionError(url=url) from request_exception


@dataclass(frozen=True, slots=True, kw_only=True)
class OrthancDestination:
    """An Orthanc that objects are sent to by its REST API."""

    peer: Peer
    caller: Caller

    def deliver(self, objects: Sequence[Outgoing]) -> Iterator[Outcome]:
        """Yield what became of each object, as `Destination.deliver` says."""
        with self._client() as client:
            for outgoing in objects:
                yield damage(outgoing) or self._send(client, outgoing)

    def verify(self, objects: Sequence[Outgoing]) -> Iterator[Finding]:
        """Yield whether Orthanc holds each object, byte for byte."""
        with self._client() as client:
            for outgoing in objects:
                yield self._looked_up(client, outgoing)

    @contextmanager
    def _client(self) -> Iterator[Client]:
        url = self.peer.orthanc.rstrip("/") + "/"
        with http_session(self.peer) as session:
            yield Client(url, session, self.caller.http_timeout_s)

    def _send(self, client: Client, outgoing: Outgoing) -> Outcome:
        try:
            answer = client.answer("POST", "instances", data=self._content(outgoing))
            said = str(answer.json().get("Status"))
        except orthanc.HttpError as error:
            response = error.request_response
            headers = {} if response is None else response.headers
            return refusal(outgoing, error.http_status_code, headers)
        except orthanc.OrthancApiException as error:
            return self._unanswered(outgoing, error)
        except (ValueError, AttributeError, RecursionError):
            why = f"{self.peer.name}: it answers as no Orthanc does; is orthanc right?"
            return Outcome.slowly(outgoing, why)
        if said == "Success":
            return Outcome.sent(outgoing, "stored")
        if said == "AlreadyStored":
            return self._settle_duplicate(client, outgoing)
        return Outcome.doubtful(outgoing, "Orthanc did not store it")

    def _settle_duplicate(self, client: Client, outgoing: Outgoing) -> Outcome:
        """Return what "already stored" is worth: what lies there is looked at."""
        finding = self._looked_up(client, outgoing)
        match finding.found:
            case Found.THERE:
                return Outcome.delivered(outgoing, finding.detail, how=finding.how)
            case Found.CONFLICT | Found.MISSING:
                why = f"Orthanc says that it had it already, but: {finding.detail}"
                return Outcome.dead(outgoing, why)
            case _:
                return Outcome.doubtful(outgoing, finding.detail)

    def _unanswered(
        self, outgoing: Outgoing, error: orthanc.OrthancApiException
    ) -> Outcome:
        if fault := tls_fault(error):
            return Outcome.slowly(outgoing, f"{self.peer.name}: {fault}")
        why = f"{self.peer.name}: Orthanc does not answer, is it running?"
        return Outcome.retry(outgoing, why)

    def _looked_up(self, client: Client, outgoing: Outgoing) -> Finding:
        key = outgoing.delivery
        try:
            there = self._instance(client, outgoing)
            if there is None:
                return Finding(delivery=key, found=Found.MISSING, detail=NOT_THERE)
            if self._is_same(client, there, self._content(outgoing)):
                return Finding.there(key, How.CONTENT, "Orthanc holds what was sent")
        except orthanc.OrthancApiException as error:
            return cannot_say(outgoing, self._error(error))
        except UNREADABLE_JSON:
            odd = Permanent(f"{self.peer.name}: it answers as no Orthanc does")
            return cannot_say(outgoing, odd)
        return Finding(delivery=key, found=Found.CONFLICT, detail=OTHER_CONTENT)

    def _instance(self, client: Client, outgoing: Outgoing) -> str | None:
        """Return Orthanc's key of the instance, if it lies where it belongs."""
        belongs = whereabouts(outgoing)
        uid = outgoing.sop_instance_uid
        for one in client.answer("POST", "tools/lookup", data=uid).json():
            if one["Type"] != "Instance":
                continue
            study = client.answer("GET", f"instances/{one['ID']}/study").json()
            patient = study["PatientMainDicomTags"].get("PatientID") or ""
            where = (study["MainDicomTags"]["StudyInstanceUID"], patient.strip())
            if where == (belongs.study_uid, belongs.patient_id.strip()):
                return str(one["ID"])
        return None

    def _is_same(self, client: Client, instance: str, content: bytes) -> bool:
        """Return whether Orthanc's file is this one, by its digest where it has one."""
        attachment = f"instances/{instance}/attachments/dicom"
        try:
            digest = client.answer("GET", f"{attachment}/md5").text
        except orthanc.HttpError:  # StoreMD5ForAttachments is off
            return client.answer("GET", f"{attachment}/data").content == content
        return digest == md5(content, usedforsecurity=False).hexdigest()

    def _error(self, error: orthanc.OrthancApiException) -> PacsightError:
        """Return what Orthanc's answer to a question means."""
        name = self.peer.name
        if isinstance(error, orthanc.HttpError):
            kind = (
                Transient if error.http_status_code in ABOUT_THE_MOMENT else Permanent
            )
            return kind(f"{name}: Orthanc answered HTTP {error.http_status_code}")
        if fault := tls_fault(error):
            return Permanent(f"{name}: {fault}")
        return UnreachableError(f"{name}: Orthanc does not answer")

    def _content(self, outgoing: Outgoing) -> bytes:
        return first_fitting(outgoing.path, self.peer.transfer_syntaxes)
