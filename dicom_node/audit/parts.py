"""The parts of an audit message, and their XML: PS3.15 A.5.1.1, element by element.

The schema fixes the order of elements, and wants a name or a query for each object.
Text is made harmless here, in one place: a character that XML 1.0 cannot hold becomes
U+FFFD, line breaks and tabs become spaces, what is too long is cut. So a message is one
line, whatever a peer called itself.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from xml.etree import ElementTree as ET

from dicom_node.audit.codes import Coded
from dicom_node.domain import SopClassCount

LONGEST = 1024
"""Characters of a text; a UID has 64, a URL of a peer some more."""
APPLICATION_SERVER = "4"
"""Audit source type (PS3.15 A.5.1.2.1): an application server process."""

_BREAKS = re.compile(r"[\t\n\r]+")
_NOT_XML = re.compile("[^ -~\\x85\\xa0-\\ud7ff\\ue000-\\ufffd\U00010000-\U0010ffff]")


class Action(StrEnum):
    """EventActionCode."""

    CREATE = "C"
    DELETE = "D"
    EXECUTE = "E"
    READ = "R"


class OutcomeIndicator(IntEnum):
    """EventOutcomeIndicator."""

    SUCCESS = 0
    MINOR = 4
    SERIOUS = 8
    MAJOR = 12


class AccessPoint(StrEnum):
    """NetworkAccessPointTypeCode."""

    HOST = "1"
    IP = "2"
    URI = "5"


class ObjectType(StrEnum):
    """ParticipantObjectTypeCode."""

    PERSON = "1"
    SYSTEM = "2"


class ObjectRole(StrEnum):
    """ParticipantObjectTypeCodeRole."""

    PATIENT = "1"
    REPORT = "3"
    SECURITY_RESOURCE = "13"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """What happened, when, and how it ended: EventIdentification."""

    code: Coded
    action: Action
    at: datetime
    kind: Coded | None = None
    outcome: OutcomeIndicator = OutcomeIndicator.SUCCESS
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Who took part: ActiveParticipant.

    Parameters
    ----------
    aets
        AE titles; none where it has none.
    address
        Network address, host or URI, of the kind ``reached_by``; empty where unknown.
    """

    user_id: str
    requestor: bool
    role: Coded | None = None
    aets: tuple[str, ...] = ()
    name: str = ""
    address: str = ""
    reached_by: AccessPoint = AccessPoint.HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What it was done to: ParticipantObjectIdentification.

    Parameters
    ----------
    query
        The query, for the object of one; None for a name instead.
    details
        Type and value of each ParticipantObjectDetail.
    studies
        Study Instance UIDs that the object has to do with.
    """

    code: Coded
    identifier: str
    type: ObjectType
    role: ObjectRole
    name: str = ""
    query: bytes | None = None
    details: tuple[tuple[str, str], ...] = ()
    sop_classes: tuple[SopClassCount, ...] = ()
    studies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An audit message of PS3.15 A.5."""

    happening: Happening
    participants: tuple[Participant, ...]
    source_id: str
    site: str
    subjects: tuple[Subject, ...] = ()

    def to_xml(self) -> bytes:
        """Return the message as XML: one line, UTF-8, without a declaration."""
        root = ET.Element("AuditMessage")
        _add_happening(root, self.happening)
        for participant in self.participants:
            _add_participant(root, participant)
        source = ET.SubElement(
            root,
            "AuditSourceIdentification",
            {
                "AuditEnterpriseSiteID": clean(self.site),
                "AuditSourceID": clean(self.source_id),
            },
        )
        ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": APPLICATION_SERVER})
        for subject in self.subjects:
            _add_subject(root, subject)
        return ET.tostring(root, encoding="unicode").encode()


def clean(text: str) -> str:
    """Return the text as XML can hold it: on one line, cut to `LONGEST` characters."""
    held = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", _BREAKS.sub(" ", text))
    return held if len(held) <= LONGEST else f"{held[: LONGEST - 1]}…"


def in_base64(content: str | bytes) -> str:
    """Return what the schema types as xsd:base64Binary."""
    raw = content if isinstance(content, bytes) else clean(content).encode()
    return base64.b64encode(raw).decode()


def _add_happening(root: ET.Element, happening: Happening) -> None:
    at = happening.at.astimezone(UTC).isoformat(timespec="milliseconds")
    element = ET.SubElement(
        root,
        "EventIdentification",
        {
            "EventActionCode": happening.action,
            "EventDateTime": at.replace("+00:00", "Z"),
            "EventOutcomeIndicator": str(happening.outcome.value),
        },
    )
    _add_code(element, "EventID", happening.code)
    if happening.kind is not None:
        _add_code(element, "EventTypeCode", happening.kind)
    if happening.description:
        described = ET.SubElement(element, "EventOutcomeDescription")
        described.text = clean(happening.description)


def _add_participant(root: ET.Element, participant: Participant) -> None:
    element = ET.SubElement(root, "ActiveParticipant")
    element.set("UserID", clean(participant.user_id))
    if participant.aets:
        titles = ";".join(participant.aets)
        element.set("AlternativeUserID", clean(f"AETITLES={titles}"))
    if participant.name:
        element.set("UserName", clean(participant.name))
    element.set("UserIsRequestor", "true" if participant.requestor else "false")
    if participant.address:
        element.set("NetworkAccessPointID", clean(participant.address))
        element.set("NetworkAccessPointTypeCode", participant.reached_by)
    if participant.role is not None:
        _add_code(element, "RoleIDCode", participant.role)


def _add_subject(root: ET.Element, subject: Subject) -> None:
    element = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        {
            "ParticipantObjectID": clean(subject.identifier),
            "ParticipantObjectTypeCode": subject.type,
            "ParticipantObjectTypeCodeRole": subject.role,
        },
    )
    _add_code(element, "ParticipantObjectIDTypeCode", subject.code)
    if subject.query is None:
        named = ET.SubElement(element, "ParticipantObjectName")
        named.text = clean(subject.name)
    else:
        asked = ET.SubElement(element, "ParticipantObjectQuery")
        asked.text = in_base64(subject.query)
    for kind, value in subject.details:
        detail = {"type": kind, "value": in_base64(value)}
        ET.SubElement(element, "ParticipantObjectDetail", detail)
    if subject.sop_classes or subject.studies:
        _add_description(element, subject.sop_classes, subject.studies)


def _add_description(
    element: ET.Element, sop_classes: Iterable[SopClassCount], studies: Iterable[str]
) -> None:
    described = ET.SubElement(element, "ParticipantObjectDescription")
    for one in sop_classes:
        counted = ET.SubElement(described, "SOPClass")
        if one.sop_class_uid:
            counted.set("UID", clean(one.sop_class_uid))
        counted.set("NumberOfInstances", str(one.instances))
    uids = list(studies)
    if uids:
        held = ET.SubElement(described, "ParticipantObjectContainsStudy")
        for uid in uids:
            ET.SubElement(held, "StudyIDs", {"UID": clean(uid)})


def _add_code(parent: ET.Element, tag: str, code: Coded) -> None:
    ET.SubElement(
        parent,
        tag,
        {
            "csd-code": code.value,
            "codeSystemName": code.scheme,
            "originalText": code.meaning,
        },
    )
