"""Asking a peer what it has: QIDO-RS (PS3.18 10.6) or C-FIND (PS3.4 C.4.1).

One question, two ways: `Archive.find` returns what matches at a level of the Study
Root model. Questions name UIDs alone, so that no patient data stands in an address
or a log; the patient is compared here, in what comes back.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.association import UnreachableError, association
from dicom_node.errors import UNREADABLE_JSON, Permanent, Transient
from dicom_node.peers import Caller, Inquiry, Peer, Tls
from dicom_node.tls import tls_fault

STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
"""Study Root Query/Retrieve Information Model - FIND."""
PENDING = (0xFF00, 0xFF01)
SUCCESS = 0x0000
REFUSED = frozenset({0x0112, 0x0118, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212, 0xA900})
"""C-FIND statuses that asking again does not change (PS3.4 Table C.4-1, PS3.7 C)."""
ABOUT_THE_MOMENT = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
        *(status for status in range(500, 600) if status != HTTPStatus.NOT_IMPLEMENTED),
    }
)
"""HTTP statuses after which asking again may help."""


class Level(StrEnum):
    """Query/Retrieve Level (0008,0052) of the Study Root model."""

    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


class Archive(Protocol):
    """A peer that is being asked: over one association, or one HTTP session."""

    def find(
        self, level: Level, keys: Mapping[str, str], fields: Sequence[str]
    ) -> list[Dataset]:
        """Return what matches: the fields that the peer knows of each.

        Parameters
        ----------
        keys
            Keyword to UID: the unique keys of this level and those above it.
        fields
            Keywords wanted back; the peer may leave some of them out.

        Raises
        ------
        Transient, Permanent
            If the peer does not answer, or refuses to be asked.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Qido:
    """A peer with a DICOMweb service."""

    peer: Peer
    session: requests.Session
    timeout_s: float

    def find(
        self, level: Level, keys: Mapping[str, str], fields: Sequence[str]
    ) -> list[Dataset]:
        """Return what matches, as `Archive.find` says."""
        name = self.peer.name
        try:
            found = self._search(level, keys, fields)
            return [Dataset.from_json(item) for item in found]
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            kind = Transient if status in ABOUT_THE_MOMENT else Permanent
            raise kind(f"{name}: QIDO-RS answered HTTP {status}") from None
        except requests.exceptions.SSLError as error:
            raise Permanent(f"{name}: {tls_fault(error)}") from None
        except requests.TooManyRedirects:
            raise Permanent(f"{name}: QIDO-RS redirects us elsewhere") from None
        except requests.RequestException:
            raise UnreachableError(f"{name}: QIDO-RS does not answer") from None
        except UNREADABLE_JSON:
            raise Permanent(f"{name}: QIDO-RS did not answer with DICOM JSON") from None

    def _search(
        self, level: Level, keys: Mapping[str, str], fields: Sequence[str]
    ) -> list[dict[str, dict[str, Any]]]:
        client = DICOMwebClient(
            self.peer.dicomweb.rstrip("/"),
            session=self.session,
            timeout=self.timeout_s,
            permissive_uid=True,
        )
        client.set_http_retry_params(retry=False)
        # the library leaves the port out of the Host header, RFC 9110 7.2 does not
        client.host = urlsplit(self.peer.dicomweb).netloc
        filters = dict(keys)
        if level is Level.STUDY:
            return client.search_for_studies(fields=fields, search_filters=filters)
        study = filters.pop("StudyInstanceUID")
        if level is Level.SERIES:
            return client.search_for_series(
                study, fields=fields, search_filters=filters
            )
        series = filters.pop("SeriesInstanceUID", None)
        return client.search_for_instances(
            study, series, fields=fields, search_filters=filters
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CFind:
    """A peer with a Query/Retrieve SCP."""

    peer: Peer
    association: Association

    def find(
        self, level: Level, keys: Mapping[str, str], fields: Sequence[str]
    ) -> list[Dataset]:
        """Return what matches, as `Archive.find` says."""
        question = Dataset()
        question.QueryRetrieveLevel = level.value
        for keyword in fields:
            setattr(question, keyword, None)
        for keyword, uid in keys.items():
            setattr(question, keyword, uid)
        try:
            return self._answers(question)
        except RuntimeError as error:  # the association ended in the meantime
            raise self._lost() from error

    def _answers(self, question: Dataset) -> list[Dataset]:
        found = []
        name = self.peer.name
        for status, identifier in self.association.send_c_find(
            question, STUDY_ROOT_FIND
        ):
            code = status.get("Status")
            if code in PENDING and identifier is not None:
                found.append(self._whole(identifier))
            elif code is None:
                raise self._lost()
            elif code in REFUSED:
                raise Permanent(f"{name}: C-FIND is refused, 0x{code:04X}")
            elif code != SUCCESS:
                raise Transient(f"{name}: C-FIND answered 0x{code:04X}")
        return found

    def _whole(self, identifier: Dataset) -> Dataset:
        """Return the identifier, each of its values read: pydicom reads them late."""
        try:
            for _ in identifier.iterall():
                pass
        except Exception as error:
            why = "C-FIND answered with what is no data set"
            raise Permanent(f"{self.peer.name}: {why}") from error
        return identifier

    def _lost(self) -> UnreachableError:
        return UnreachableError(f"{self.peer.name}: C-FIND was not answered")


@contextmanager
def archive(peer: Peer, inquiry: Inquiry, caller: Caller) -> Iterator[Archive]:
    """Return the peer as one that is asked in this way, until the block ends.

    Raises
    ------
    Transient, Permanent
        If it gives no association.
    """
    if inquiry is Inquiry.QIDO:
        with http_session(peer) as session:
            yield Qido(peer=peer, session=session, timeout_s=caller.http_timeout_s)
        return
    contexts = [build_context(STUDY_ROOT_FIND)]
    with association(peer, caller, contexts) as established:
        yield CFind(peer=peer, association=established)


def inquiry_of(peer: Peer) -> Inquiry:
    """Return how a peer is asked, going by the addresses that it has."""
    return Inquiry.QIDO if peer.dicomweb else Inquiry.CFIND


def http_session(peer: Peer) -> requests.Session:
    """Return an HTTP session with the peer's credentials and certificates.

    Proxies and passwords from the environment do not count: settings come from one
    place. Redirections are not followed, because a redirected POST becomes a GET,
    and credentials would go to whoever is named.
    """
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    if peer.tls is not None:
        session.verify = True if peer.tls.ca is None else str(peer.tls.ca)
        session.cert = _own_certificate(peer.tls)
    secrets = peer.credentials
    if secrets is None:
        return session
    if secrets.password is not None:
        session.auth = (secrets.username, secrets.password.get_secret_value())
    if secrets.token is not None:
        token = secrets.token.get_secret_value()
        session.headers["Authorization"] = f"Bearer {token}"
    return session


def _own_certificate(tls: Tls) -> str | tuple[str, str] | None:
    """Return the node's certificate as requests wants it: one file, or two."""
    if tls.certificate is None or tls.key is None:
        return None if tls.certificate is None else str(tls.certificate)
    return str(tls.certificate), str(tls.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """An instance, and where it belongs."""

    patient_id: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Looks for instances in an archive; each study's patient is asked for once."""

    archive: Archive
    _patients: dict[str, set[str]] = field(default_factory=dict, init=False)

    def has(self, instance: Whereabouts) -> bool:
        """Return whether the archive has it, under its study and its patient.

        After a correction a study may lie there under two patients. Only then the
        instance's own is asked for, too: it is no key of that level (PS3.4 C.6.2.1).

        Raises
        ------
        Transient, Permanent
            If it cannot be asked.
        """
        patient = instance.patient_id.strip()
        patients = self._patients_of(instance.study_uid)
        if patient not in patients:
            return False
        keys = {
            "StudyInstanceUID": instance.study_uid,
            "SeriesInstanceUID": instance.series_uid,
            "SOPInstanceUID": instance.sop_instance_uid,
        }
        several = len(patients) > 1
        found = self.archive.find(Level.IMAGE, keys, ["PatientID"] if several else [])
        return any(
            str(one.get("SOPInstanceUID") or "") == instance.sop_instance_uid
            and (not several or _patient(one) == patient)
            for one in found
        )

    def _patients_of(self, study_uid: str) -> set[str]:
        if study_uid not in self._patients:
            keys = {"StudyInstanceUID": study_uid}
            studies = self.archive.find(Level.STUDY, keys, ["PatientID"])
            self._patients[study_uid] = {_patient(study) for study in studies}
        return self._patients[study_uid]


def _patient(found: Dataset) -> str:
    return str(found.get("PatientID") or "").strip()
