"""An audit message, read back: what a person wants to know of it.

Only messages of this node's own trail are read here, which `parts` has written.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from xml.etree import ElementTree as ET

from dicom_node.audit import codes
from dicom_node.audit.folder import AuditFolder
from dicom_node.audit.parts import ObjectRole, OutcomeIndicator
from dicom_node.audit.syslog import is_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a message says.

    Parameters
    ----------
    code, event, kind
        EventID's code and meaning, and the meaning of EventTypeCode, if there is one.
    outcome, description
        How it ended, and why.
    participants
        Who took part, as ``name (address)``; the one who acted first.
    studies, patients
        Study Instance UIDs, and what stands for Patient IDs.
    instances
        How many instances it was about.
    """

    at: datetime
    code: str
    event: str
    kind: str
    outcome: OutcomeIndicator
    description: str
    participants: tuple[str, ...]
    studies: tuple[str, ...]
    patients: tuple[str, ...]
    instances: int

    @classmethod
    def of(cls, message: bytes) -> Self:
        """Return what a message of ours says."""
        root = ET.fromstring(message)  # noqa: S314 - our own file, written by `parts`
        happening = _one(root, "EventIdentification")
        code = _one(happening, "EventID")
        kind = happening.find("EventTypeCode")
        counts = root.findall(".//SOPClass")
        return cls(
            at=datetime.fromisoformat(happening.get("EventDateTime", "")),
            code=code.get("csd-code", ""),
            event=code.get("originalText", ""),
            kind="" if kind is None else kind.get("originalText", ""),
            outcome=OutcomeIndicator(int(happening.get("EventOutcomeIndicator", "0"))),
            description=happening.findtext("EventOutcomeDescription") or "",
            participants=tuple(map(_named, root.findall("ActiveParticipant"))),
            studies=tuple(_studies(root)),
            patients=tuple(_patients(root)),
            instances=sum(int(one.get("NumberOfInstances", "0")) for one in counts),
        )


def entries(folder: AuditFolder) -> Iterator[Entry]:
    """Yield what the trail says, oldest first; lines that are no message are left out."""
    return (Entry.of(line) for line in folder.messages() if is_whole(line))


def about_patient(folder: AuditFolder, names: frozenset[str]) -> list[Entry]:
    """Return what happened to a patient: also what only names his studies.

    Parameters
    ----------
    names
        The Patient ID and its pseudonym: a site may have had both.
    """
    studies: set[str] = set()
    for entry in entries(folder):
        if not names.isdisjoint(entry.patients):
            studies.update(entry.studies)

    def is_his(entry: Entry) -> bool:
        if entry.patients:
            return not names.isdisjoint(entry.patients)
        return not studies.isdisjoint(entry.studies)

    return select(folder, is_his)


def select(folder: AuditFolder, wanted: Callable[[Entry], bool]) -> list[Entry]:
    """Return what is wanted of the trail, oldest first."""
    return [entry for entry in entries(folder) if wanted(entry)]


def _one(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return ET.Element(tag) if found is None else found


def _named(participant: ET.Element) -> str:
    name = participant.get("UserName") or participant.get("UserID") or "unknown"
    address = participant.get("NetworkAccessPointID", "")
    return f"{name} ({address})" if address not in {"", name} else name


def _studies(root: ET.Element) -> Iterator[str]:
    for subject in root.findall("ParticipantObjectIdentification"):
        code = _one(subject, "ParticipantObjectIDTypeCode").get("csd-code")
        if code == codes.STUDY_UID.value:
            yield subject.get("ParticipantObjectID", "")
        yield from (one.get("UID", "") for one in subject.findall(".//StudyIDs"))


def _patients(root: ET.Element) -> Iterator[str]:
    for subject in root.findall("ParticipantObjectIdentification"):
        if subject.get("ParticipantObjectTypeCodeRole") == ObjectRole.PATIENT:
            yield subject.get("ParticipantObjectID", "")
