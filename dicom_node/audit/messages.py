"""An event as the audit message that the Standard has for it: PS3.15 A.5.3, purely.

::

    ApplicationActivity   A.5.3.1   Application Activity
    TrailRead             A.5.3.2   Audit Log Used
    InstancesReceived     A.5.3.7   DICOM Instances Transferred, we are its destination
    ResultsSent           A.5.3.7   DICOM Instances Transferred, we are its source
    StudyForgotten        A.5.3.8   DICOM Study Deleted
    Queried               A.5.3.10  Query
    AtlasSearched         A.5.3.10  Query that is none of DICOM
    SecurityAlert         A.5.3.11  Security Alert
    UserAuthenticated     A.5.3.12  User Authentication

A patient's name is never written. Where a Patient ID is at hand there is a Patient
object, with a pseudonym unless the settings want the ID; else the study says it.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from dicom_node.audit import codes
from dicom_node.audit.parts import (
    AccessPoint,
    Action,
    Happening,
    Message,
    ObjectRole,
    ObjectType,
    OutcomeIndicator,
    Participant,
    Subject,
)
from dicom_node.audit.question import TRANSFER_SYNTAX, study_identifier
from dicom_node.domain import (
    Activity,
    Alarm,
    ApplicationActivity,
    AtlasSearched,
    AuditEvent,
    InstancesReceived,
    Queried,
    ResultsSent,
    SecurityAlert,
    SopClassCount,
    SopClassUid,
    StudyForgotten,
    TrailRead,
    UserAuthenticated,
)

PSEUDONYM = "HMAC-SHA-256 of the Patient ID"
"""What a Patient object says of its identifier where that is a pseudonym."""
SEVERITIES = {
    Alarm.AUDIT_RECORDING_STARTED: OutcomeIndicator.MAJOR,
    Alarm.SECURITY_CONFIGURATION: OutcomeIndicator.MAJOR,
    Alarm.SOFTWARE_CONFIGURATION: OutcomeIndicator.SERIOUS,
}
"""How bad an alarm is: major where something may have got by; else minor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Who tells of events: this process.

    Parameters
    ----------
    application
        ``node``, ``worker``, or a command.
    source_id
        AuditSourceID: what this system is called among the audit sources.
    site
        AuditEnterpriseSiteID.
    host
        The machine's name: the same in all its messages (PS3.15 A.5.2.4).
    pseudonym
        Returns what stands for a Patient ID; None: the ID itself does.
    """

    application: str
    source_id: str
    site: str
    aets: tuple[str, ...]
    host: str
    process: int
    pseudonym: Callable[[str], str] | None

    def message(self, event: AuditEvent, at: datetime) -> Message:
        """Return the message about what happened at that time."""
        happening, participants, subjects = _told(self, event, at)
        return Message(
            happening=happening,
            participants=participants,
            source_id=self.source_id,
            site=self.site,
            subjects=subjects,
        )

    def ourselves(
        self,
        *,
        requestor: bool,
        role: codes.Coded | None = None,
        application: str = "",
        process: int = 0,
    ) -> Participant:
        """Return this process as a participant (PS3.15 A.5.2.1): by its process ID."""
        return Participant(
            user_id=str(process or self.process),
            requestor=requestor,
            role=role,
            aets=self.aets,
            name=f"pacsight {application or self.application}",
            address=self.host,
        )


Told = tuple[Happening, tuple[Participant, ...], tuple[Subject, ...]]
"""What a message says besides its source."""


def _told(teller: Teller, event: AuditEvent, at: datetime) -> Told:  # noqa: PLR0911 - one for each event
    match event:
        case ApplicationActivity():
            return _activity(teller, event, at)
        case InstancesReceived():
            return _received(teller, event, at)
        case ResultsSent():
            return _sent(teller, event, at)
        case StudyForgotten():
            return _forgotten(teller, event, at)
        case Queried():
            return _queried(teller, event, at)
        case AtlasSearched():
            return _searched(teller, event, at)
        case SecurityAlert():
            return _alerted(teller, event, at)
        case UserAuthenticated():
            return _authenticated(teller, event, at)
        case TrailRead():
            return _read(teller, event, at)


def _activity(teller: Teller, event: ApplicationActivity, at: datetime) -> Told:
    started = event.activity is Activity.STARTED
    happening = Happening(
        code=codes.APPLICATION_ACTIVITY,
        action=Action.EXECUTE,
        at=at,
        kind=codes.APPLICATION_START if started else codes.APPLICATION_STOP,
        outcome=OutcomeIndicator.MAJOR if event.failure else OutcomeIndicator.SUCCESS,
        description=event.failure,
    )
    us = teller.ourselves(
        requestor=False,
        role=codes.APPLICATION,
        application=event.application,
        process=event.process,
    )
    return happening, (us,), ()


def _received(teller: Teller, event: InstancesReceived, at: datetime) -> Told:
    origin = event.origin
    peer = _peer(
        origin.calling_aet or origin.address or origin.door,
        origin.address,
        aets=(origin.calling_aet,) if origin.calling_aet else (),
        role=codes.SOURCE_ROLE,
        requestor=not event.user,
    )
    us = teller.ourselves(requestor=False, role=codes.DESTINATION_ROLE)
    user = _user(event.user, origin.address)
    happening = Happening(code=codes.INSTANCES_TRANSFERRED, action=Action.CREATE, at=at)
    subjects = (
        _study(event.study_uid, event.sop_classes),
        *_patient(teller, event.patient_id),
    )
    return happening, (peer, us, *user), subjects


def _sent(teller: Teller, event: ResultsSent, at: datetime) -> Told:
    us = teller.ourselves(requestor=True, role=codes.SOURCE_ROLE)
    peer = _peer(
        event.destination,
        event.address,
        aets=(event.aet,) if event.aet else (),
        role=codes.DESTINATION_ROLE,
    )
    failed = OutcomeIndicator.SERIOUS if event.given_up else OutcomeIndicator.MINOR
    happening = Happening(
        code=codes.INSTANCES_TRANSFERRED,
        action=Action.CREATE,
        at=at,
        outcome=failed if event.failure else OutcomeIndicator.SUCCESS,
        description=event.failure,
    )
    subjects = (
        _study(event.study_uid, event.sop_classes),
        *_patient(teller, event.patient_id),
    )
    return happening, (us, peer), subjects


def _forgotten(teller: Teller, event: StudyForgotten, at: datetime) -> Told:
    who = Participant(user_id=event.by, requestor=True)
    us = teller.ourselves(requestor=False)
    counts: tuple[SopClassCount, ...] = ()
    if event.instances:
        of_any = SopClassUid("")
        counts = (SopClassCount(sop_class_uid=of_any, instances=event.instances),)
    happening = Happening(code=codes.STUDY_DELETED, action=Action.DELETE, at=at)
    subjects = (_study(event.study_uid, counts), *_patient(teller, event.patient_id))
    return happening, (who, us), subjects


def _queried(teller: Teller, event: Queried, at: datetime) -> Told:
    happening = Happening(code=codes.QUERY, action=Action.EXECUTE, at=at)
    asking = _side(teller, event.by, event.address, codes.SOURCE_ROLE)
    asked = _side(teller, event.of, event.address, codes.DESTINATION_ROLE)
    study = str(event.study_uid or "")
    if event.sop_class_uid:
        subject = Subject(
            code=codes.SOP_CLASS_UID,
            identifier=event.sop_class_uid,
            type=ObjectType.SYSTEM,
            role=ObjectRole.REPORT,
            query=study_identifier(study),
            details=(("TransferSyntax", TRANSFER_SYNTAX),),
            studies=(study,) if study else (),
        )
    else:
        subject = Subject(
            code=codes.URI,
            identifier=event.address or event.of or teller.host,
            type=ObjectType.SYSTEM,
            role=ObjectRole.REPORT,
            query=f"StudyInstanceUID={study}".encode(errors="replace"),
            studies=(study,) if study else (),
        )
    return happening, (asking, asked), (subject,)


def _searched(teller: Teller, event: AtlasSearched, at: datetime) -> Told:
    happening = Happening(
        code=codes.QUERY, action=Action.EXECUTE, at=at, kind=codes.ATLAS_SEARCH
    )
    asking = teller.ourselves(requestor=True, role=codes.SOURCE_ROLE)
    asked = Participant(
        user_id=event.atlas, requestor=False, role=codes.DESTINATION_ROLE
    )
    subject = Subject(
        code=codes.ATLAS,
        identifier=event.atlas,
        type=ObjectType.SYSTEM,
        role=ObjectRole.REPORT,
        query=f"nearest cases of study {event.study_uid}".encode(errors="replace"),
        details=(("Pack", event.pack),),
        studies=(event.study_uid,),
    )
    return happening, (asking, asked), (subject,)


def _alerted(teller: Teller, event: SecurityAlert, at: datetime) -> Told:
    happening = Happening(
        code=codes.SECURITY_ALERT,
        action=Action.EXECUTE,
        at=at,
        kind=codes.ALARMS[event.alarm],
        outcome=SEVERITIES.get(event.alarm, OutcomeIndicator.MINOR),
        description=event.reason,
    )
    reporting = teller.ourselves(requestor=True)
    who = event.who or event.address
    performing = (_peer(who, event.address, aets=()),) if who else ()
    subject = Subject(
        code=codes.NODE_ID,
        identifier=event.address or teller.host,
        type=ObjectType.SYSTEM,
        role=ObjectRole.SECURITY_RESOURCE,
        details=(("Alert Description", event.reason),),
    )
    return happening, (reporting, *performing), (subject,)


def _authenticated(teller: Teller, event: UserAuthenticated, at: datetime) -> Told:
    accepted = event.accepted
    happening = Happening(
        code=codes.USER_AUTHENTICATION,
        action=Action.EXECUTE,
        at=at,
        kind=codes.LOGIN,
        outcome=OutcomeIndicator.SUCCESS if accepted else OutcomeIndicator.MINOR,
        description="" if accepted else "not accepted",
    )
    user = _peer(event.user, event.address, aets=(), requestor=True)
    return happening, (user, teller.ourselves(requestor=False)), ()


def _read(teller: Teller, event: TrailRead, at: datetime) -> Told:
    happening = Happening(code=codes.AUDIT_LOG_USED, action=Action.READ, at=at)
    who = _peer(event.by, teller.host, aets=(), requestor=True)
    subject = Subject(
        code=codes.URI,
        identifier=event.where,
        type=ObjectType.SYSTEM,
        role=ObjectRole.SECURITY_RESOURCE,
        name="Security Audit Log",
    )
    return happening, (who, teller.ourselves(requestor=False)), (subject,)


def _side(teller: Teller, name: str, address: str, role: codes.Coded) -> Participant:
    """Return one side of a query; without a name it is this process."""
    asks = role is codes.SOURCE_ROLE
    if not name:
        return teller.ourselves(requestor=asks, role=role)
    return _peer(name, address, aets=(), role=role, requestor=asks)


def _peer(
    name: str,
    address: str,
    *,
    aets: tuple[str, ...],
    role: codes.Coded | None = None,
    requestor: bool = False,
) -> Participant:
    return Participant(
        user_id=name,
        requestor=requestor,
        role=role,
        aets=aets,
        address=address,
        reached_by=_kind(address),
    )


def _user(user: str, address: str) -> tuple[Participant, ...]:
    return (_peer(user, address, aets=(), requestor=True),) if user else ()


def _kind(address: str) -> AccessPoint:
    """Return what kind of address it is."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        is_uri = "://" in address or address.startswith("/")
        return AccessPoint.URI if is_uri else AccessPoint.HOST
    return AccessPoint.IP


def _study(uid: str, sop_classes: tuple[SopClassCount, ...]) -> Subject:
    return Subject(
        code=codes.STUDY_UID,
        identifier=uid,
        type=ObjectType.SYSTEM,
        role=ObjectRole.REPORT,
        sop_classes=sop_classes,
    )


def _patient(teller: Teller, patient_id: str) -> tuple[Subject, ...]:
    """Return the patient, if the ID is at hand."""
    known = patient_id.strip()
    if not known:
        return ()
    hidden = teller.pseudonym
    return (
        Subject(
            code=codes.PATIENT_NUMBER,
            identifier=known if hidden is None else hidden(known),
            type=ObjectType.PERSON,
            role=ObjectRole.PATIENT,
            details=() if hidden is None else (("Pseudonym", PSEUDONYM),),
        ),
    )
