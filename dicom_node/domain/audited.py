"""What the audit trail is told: who did what to which study, and when.

PS3.15 A.5.3 names the events; how they are written stands in `dicom_node.audit`. No
value here is a patient's name: a study is named by its UID. A Patient ID is told where
it is at hand, so that the trail can say whose study it was; it writes a keyed pseudonym
of it unless its settings say otherwise. It stays out of every ``repr``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from dicom_node.domain.arrival import Origin, SopClassUid, StudyUid


class Activity(StrEnum):
    """What an application did: PS3.15 A.5.3.1."""

    STARTED = "started"
    STOPPED = "stopped"


class Alarm(StrEnum):
    """Why security was alerted: PS3.15 A.5.3.11, codes of CID 403."""

    NODE_AUTHENTICATION = "node authentication"
    """A system that is not known, or not the one it says it is."""
    USE_OF_RESTRICTED_FUNCTION = "use of restricted function"
    """Somebody asked for what they have no right to."""
    SECURITY_CONFIGURATION = "security configuration"
    """The node was started with less protection than it would have by itself."""
    SOFTWARE_CONFIGURATION = "software configuration"
    """A pack, threshold set or ledger is not the one that was signed or kept."""
    AUDIT_RECORDING_STARTED = "audit recording started"
    """The trail is written again; what could not be written meanwhile is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SopClassCount:
    """How many instances of one SOP class."""

    sop_class_uid: SopClassUid
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationActivity:
    """A node or worker that was started or stopped.

    Parameters
    ----------
    application
        ``node``, ``worker``, or a command that changes something.
    failure
        Why it stopped, where nobody had asked it to.
    process
        Its process ID, where it is not the one that tells it; else 0.
    """

    application: str
    activity: Activity
    failure: str = ""
    process: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesReceived:
    """Instances of one study that were taken in over one association or request.

    Parameters
    ----------
    patient_id
        Patient ID (0010,0020) as received; empty where there is none.
    user
        Who authenticated; empty where nobody has to.
    """

    origin: Origin
    study_uid: StudyUid
    sop_classes: tuple[SopClassCount, ...]
    patient_id: str = field(default="", repr=False)
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsSent:
    """Results about one study that a destination took, or did not.

    Parameters
    ----------
    destination
        The peer's name.
    address
        Where it was reached: a host name, an address, or a folder.
    aet
        Its AE title; empty where it has none.
    patient_id
        Patient ID (0010,0020) of the results; empty where it is not at hand.
    failure
        Why it did not; empty for success.
    given_up
        Whether no further attempt follows.
    """

    destination: str
    address: str
    study_uid: StudyUid
    sop_classes: tuple[SopClassCount, ...]
    aet: str = ""
    patient_id: str = field(default="", repr=False)
    failure: str = ""
    given_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Queried:
    """A query for studies: one that the node asked of a peer, or was asked.

    Parameters
    ----------
    by, of
        Who asked, and who was asked: names of peers or users; empty for ourselves.
    address
        The other side's network address or host, as far as it is known.
    sop_class_uid
        The information model; empty for QIDO-RS.
    study_uid
        The study that was asked for; empty for many.
    """

    by: str
    of: str
    address: str = ""
    sop_class_uid: str = ""
    study_uid: StudyUid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasSearched:
    """A study that was compared with the cases of a reference atlas."""

    atlas: str
    pack: str
    study_uid: StudyUid


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityAlert:
    """Something that an officer for security should look at.

    Parameters
    ----------
    who
        An AE title, user or token's name, as far as one was given.
    reason
        One sentence, free of patient data and secrets.
    """

    alarm: Alarm
    reason: str
    who: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAuthenticated:
    """A user or service that came with a token or a certificate."""

    user: str
    address: str
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyForgotten:
    """A study of which everything was removed: PS3.15 A.5.3.8.

    Parameters
    ----------
    by
        Who asked for it: a user's name, or ``retention``.
    patient_id
        Patient ID (0010,0020), where it is at hand.
    """

    study_uid: StudyUid
    instances: int
    by: str
    patient_id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailRead:
    """Somebody who read the audit trail: PS3.15 A.5.3.2.

    Parameters
    ----------
    where
        The trail's place, as a URI.
    """

    by: str
    where: str


AuditEvent = (
    ApplicationActivity
    | InstancesReceived
    | ResultsSent
    | Queried
    | AtlasSearched
    | SecurityAlert
    | UserAuthenticated
    | StudyForgotten
    | TrailRead
)

Note = Callable[[AuditEvent], None]
"""Takes an event into the trail; it neither blocks for long nor raises."""
