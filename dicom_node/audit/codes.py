"""The coded values of audit messages, as PS3.15 A.5.3 and PS3.16 CID 400-403 name them.

A code of ours has the private scheme ``99PACSIGHT``; the conformance statement lists
it.
"""

from dataclasses import dataclass
from typing import Final

from dicom_node.domain import Alarm

DCM, RFC_3881, OWN = "DCM", "RFC-3881", "99PACSIGHT"


@dataclass(frozen=True, slots=True)
class Coded:
    """A code value, its scheme, and what it means."""

    value: str
    scheme: str
    meaning: str


APPLICATION_ACTIVITY: Final = Coded("110100", DCM, "Application Activity")
AUDIT_LOG_USED: Final = Coded("110101", DCM, "Audit Log Used")
INSTANCES_TRANSFERRED: Final = Coded("110104", DCM, "DICOM Instances Transferred")
STUDY_DELETED: Final = Coded("110105", DCM, "DICOM Study Deleted")
QUERY: Final = Coded("110112", DCM, "Query")
SECURITY_ALERT: Final = Coded("110113", DCM, "Security Alert")
USER_AUTHENTICATION: Final = Coded("110114", DCM, "User Authentication")
"""What happened: EventID, CID 400."""

APPLICATION_START: Final = Coded("110120", DCM, "Application Start")
APPLICATION_STOP: Final = Coded("110121", DCM, "Application Stop")
LOGIN: Final = Coded("110122", DCM, "Login")
ATLAS_SEARCH: Final = Coded("atlas-search", OWN, "Search in a reference atlas")
ALARMS: Final = {
    Alarm.NODE_AUTHENTICATION: Coded("110126", DCM, "Node Authentication"),
    Alarm.SECURITY_CONFIGURATION: Coded("110129", DCM, "Security Configuration"),
    Alarm.SOFTWARE_CONFIGURATION: Coded("110131", DCM, "Software Configuration"),
    Alarm.USE_OF_RESTRICTED_FUNCTION: Coded(
        "110132", DCM, "Use of Restricted Function"
    ),
    Alarm.AUDIT_RECORDING_STARTED: Coded("110134", DCM, "Audit Recording Started"),
}
"""Of which kind: EventTypeCode, CID 401 and 403."""

APPLICATION: Final = Coded("110150", DCM, "Application")
DESTINATION_ROLE: Final = Coded("110152", DCM, "Destination Role ID")
SOURCE_ROLE: Final = Coded("110153", DCM, "Source Role ID")
"""What a participant did: RoleIDCode, CID 402."""

PATIENT_NUMBER: Final = Coded("2", RFC_3881, "Patient Number")
URI: Final = Coded("12", RFC_3881, "URI")
STUDY_UID: Final = Coded("110180", DCM, "Study Instance UID")
SOP_CLASS_UID: Final = Coded("110181", DCM, "SOP Class UID")
NODE_ID: Final = Coded("110182", DCM, "Node ID")
ATLAS: Final = Coded("atlas", OWN, "Reference atlas")
"""What an identifier identifies: ParticipantObjectIDTypeCode, CID 404."""
