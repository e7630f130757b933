"""What the audit trail is told: who did what to which study, and when.

PS3.15 A.5.3 names the events; how they are written stands in `dicom_node.audit`. No
value here is a patient's name: a study is named by its UID, a patient by what the
trail's own settings allow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.domain.arrival import Origin, StudyUid


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationActivity:
    """A node or worker that was started or stopped.

    Parameters
    ----------
    application
        ``node``, ``worker``, or a command that changes something.
    """

    application: str
    activity: Activity


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesReceived:
    """Instances of one study that were taken in over one association or request.

    Parameters
    ----------
    user
        Who authenticated; empty where nobody has to.
    """

    origin: Origin
    study_uid: StudyUid
    sop_class_uids: tuple[str, ...]
    instances: int
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
    failure
        Why it did not; empty for success.
    """

    destination: str
    address: str
    study_uid: StudyUid
    sop_class_uids: tuple[str, ...]
    instances: int
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queried:
    """A query for studies: one that the node asked of a peer, or was asked.

    Parameters
    ----------
    by, of
        Who asked, and who was asked: names of peers or users, or an address.
    sop_class_uid
        The information model, or empty for HTTP.
    study_uid
        The study that was asked for; empty for many.
    """

    by: str
    of: str
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
    """

    study_uid: StudyUid
    instances: int
    by: str


AuditEvent = (
    ApplicationActivity
    | InstancesReceived
    | ResultsSent
    | Queried
    | AtlasSearched
    | SecurityAlert
    | UserAuthenticated
    | StudyForgotten
)

Note = Callable[[AuditEvent], None]
"""Takes an event into the trail; it neither blocks for long nor raises."""
