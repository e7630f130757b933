"""What came in: an instance as received, who sent it, and how urgent it is."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import NewType

from dicom_node.domain.exam import Exam

StudyUid = NewType("StudyUid", str)
SeriesUid = NewType("SeriesUid", str)
SopInstanceUid = NewType("SopInstanceUid", str)
SopClassUid = NewType("SopClassUid", str)
Sha256 = NewType("Sha256", str)
"""Lower-case hexadecimal digest, 64 characters."""


class Priority(IntEnum):
    """Which queue the work waits in; a smaller number goes first."""

    STAT = 0
    ROUTINE = 1
    BACKFILL = 2

    @property
    def queue(self) -> str:
        """Return the name of the Celery queue: ``stat``, ``routine``, ``backfill``."""
        return self.name.lower()


class FrontDoor(StrEnum):
    """The way an instance came in."""

    DIMSE = "dimse"
    STOW = "stow"
    FILE = "file"


class Analysis(StrEnum):
    """Whether an instance is an image that models can look at."""

    IMAGE = "image"
    NOT_ANALYSED = "not analysed"
    OWN = "own object"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sent an instance, through which door.

    Parameters
    ----------
    calling_aet, called_aet
        Application Entity titles, at most 16 characters; empty where the door
        has none (STOW-RS, files).
    address
        The sender's network address; empty for files.
    """

    door: FrontDoor
    calling_aet: str = ""
    called_aet: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The facts of one data set that the ledger keeps, read without its pixels.

    Parameters
    ----------
    patient
        Digest of PatientID and IssuerOfPatientID. Equal digests mean the same
        patient; the identifiers themselves stay in the spool.
    patient_id
        PatientID (0010,0020), for the audit trail alone: no ledger keeps it.
    attributes
        Digest of the patient and study attributes that reports copy.
    exam
        How it was taken.
    frames
        NumberOfFrames (0028,0008), 1 for single-frame images, 0 for non-images.
    instance_number
        InstanceNumber (0020,0013), or None.
    analysis, reason
        Whether the instance is analysed; if not, why, in words for the ledger.
    priority
        What sender, rules and RequestedProcedurePriority (0040,1003) ask for.
    passed_over
        Names of the packs that the site's rules keep from it.
    """

    study_uid: StudyUid
    series_uid: SeriesUid
    sop_instance_uid: SopInstanceUid
    sop_class_uid: SopClassUid
    transfer_syntax_uid: str
    patient: Sha256
    attributes: Sha256
    exam: Exam
    frames: int
    instance_number: int | None
    analysis: Analysis
    reason: str
    priority: Priority
    passed_over: tuple[str, ...] = ()
    patient_id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An instance that lies safely in the spool: fsynced, renamed, acknowledged.

    Parameters
    ----------
    sha256
        Digest of the data set's bytes as received, without preamble and File
        Meta Information.
    path
        Where the Part 10 file lies, relative to the spool's root.
    size
        Bytes of that file.
    at
        When it was received, UTC.
    """

    header: Header
    origin: Origin
    sha256: Sha256
    path: str
    size: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A data set that was not taken in, and what its sender was told.

    Parameters
    ----------
    status
        The C-STORE status, PS3.4 Table B.2-1, or STOW-RS's Failure Reason.
    comment
        What was wrong, without patient data.
    sop_instance_uid
        As far as it could be known, else empty.
    """

    origin: Origin
    at: datetime
    status: int
    comment: str
    sop_instance_uid: str = ""
