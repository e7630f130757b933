"""Asking a peer what it has: QIDO-RS (PS3.18 10.6) or C-FIND (PS3.4 C.4.1).

One question, two ways: `Archive.find` returns what matches at a level of the Study
Root model. Questions name UIDs alone, so that no patient data stands in an address
or a log; the patient is compared here, in what comes back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.association import association
from dicom_node.errors import Permanent, Transient
from dicom_node.peers import Caller, Inquiry, Peer

STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
"""Study Root Query/Retrieve Information Model - FIND."""
PENDING = (0xFF00, 0xFF01)
SUCCESS = 0x0000


class Level(StrEnum):
    """Query/Retrieve Level (0008,0052) of the Study Root model."""

    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


class Archive(Protocol):
    """A peer that can be asked."""

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
    timeout_s: float

    def find(
        self, level: Level, keys: Mapping[str, str], fields: Sequence[str]
    ) -> list[Dataset]:
        """Return what matches, as `Archive.find` says."""
        try:
            found = self._search(level, keys, fields)
            return [Dataset.from_json(item) for item in found]
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            raise Transient(
                f"{self.peer.name}: QIDO-RS answered HTTP {status}"
            ) from None
        except requests.RequestException:
            raise Transient(f"{self.peer.name}: QIDO-RS does not answer") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            # whatever a page that is not DICOM JSON leads to while it is parsed
            raise Permanent(
                f"{self.peer.name}: QIDO-RS did not answer with DICOM JSON"
            ) from None

    def _search(
        self, level: Level, keys: Mapping[str, str], fields: Sequence[str]
    ) -> list[dict[str, dict[str, Any]]]:
        session = dicomweb_session(self.peer)
        client = DICOMwebClient(
            self.peer.dicomweb.rstrip("/"),
            session=session,
            timeout=self.timeout_s,
            permissive_uid=True,
        )
        client.set_http_retry_params(retry=False)
        # the library leaves the port out of the Host header, RFC 9110 7.2 does not
        client.host = urlsplit(self.peer.dicomweb).netloc
        filters = dict(keys)
        with session:
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
    caller: Caller

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
        with association(
            self.peer, self.caller, [build_context(STUDY_ROOT_FIND)]
        ) as assoc:
            return self._answers(assoc, question)

    def _answers(self, assoc: Association, question: Dataset) -> list[Dataset]:
        found = []
        for status, identifier in assoc.send_c_find(question, STUDY_ROOT_FIND):
            code = status.get("Status")
            if code in PENDING and identifier is not None:
                found.append(identifier)
            elif code is None:
                raise Transient(f"{self.peer.name}: C-FIND was not answered")
            elif code != SUCCESS:
                raise Transient(f"{self.peer.name}: C-FIND answered 0x{code:04X}")
        return found


def archive(peer: Peer, inquiry: Inquiry, caller: Caller) -> Archive:
    """Return the peer as one that is asked in this way."""
    if inquiry is Inquiry.QIDO:
        return Qido(peer=peer, timeout_s=caller.http_timeout_s)
    return CFind(peer=peer, caller=caller)


def inquiry_of(peer: Peer) -> Inquiry:
    """Return how a peer is asked, going by the addresses that it has."""
    return Inquiry.QIDO if peer.dicomweb else Inquiry.CFIND


def dicomweb_session(peer: Peer) -> requests.Session:
    """Return an HTTP session that carries the peer's credentials.

    Proxies and passwords from the environment do not count: settings come from one
    place. Redirections are not followed, because a redirected POST becomes a GET,
    and credentials would go to whoever is named.
    """
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    secrets = peer.credentials
    if secrets is None:
        return session
    if secrets.password is not None:
        session.auth = (secrets.username, secrets.password.get_secret_value())
    if secrets.token is not None:
        token = secrets.token.get_secret_value()
        session.headers["Authorization"] = f"Bearer {token}"
    return session


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """An instance, and where it belongs."""

    patient_id: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str


def is_stored(asked: Archive, instance: Whereabouts) -> bool:
    """Return whether the archive has the instance, under its study and its patient.

    Raises
    ------
    Transient, Permanent
        If it cannot be asked.
    """
    keys = {"StudyInstanceUID": instance.study_uid}
    studies = asked.find(Level.STUDY, keys, ["PatientID"])
    owners = {str(study.get("PatientID") or "").strip() for study in studies}
    if owners != {instance.patient_id.strip()}:
        return False
    keys["SeriesInstanceUID"] = instance.series_uid
    keys["SOPInstanceUID"] = instance.sop_instance_uid
    found = asked.find(Level.IMAGE, keys, [])
    return any(one.get("SOPInstanceUID") == instance.sop_instance_uid for one in found)
