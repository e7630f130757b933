"""What a report says, as a value: the part of a result that a Structured Report carries.

Read from an object by `sr_writer.reading`; `sr_writer.saying` gives the same value from
the result that the object was composed of. Holds no patient data, and knows no DICOM.
"""

from dataclasses import dataclass
from datetime import datetime

from dicom_node.domain import (
    Algorithm,
    AtlasSearch,
    Code,
    Completion,
    Flag,
    OperatingPoint,
    Score,
    SeriesUid,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
    Urgency,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that is referred to.

    Parameters
    ----------
    frames
        Frame numbers, which count from 1; empty for the whole image.
    """

    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """An image that an answer rests on, and the score that it has."""

    image: Image
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What any answer rests on, and why there is none.

    Parameters
    ----------
    obstacle
        What stood in the way, coded; None where there is an answer.
    """

    images_scored: int
    selection: str = ""
    evidence: tuple[Evidence, ...] = ()
    obstacle: Code | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidFinding:
    """A finding, its score and the flag.

    Parameters
    ----------
    urgency
        None unless the flag is raised: only then it is written.
    """

    key: str
    tracking_uid: str
    concept: Code
    site: Code | None
    laterality: Code | None
    score: Score | None
    operating_point: OperatingPoint | None
    flag: Flag
    urgency: Urgency | None
    basis: Basis

    @property
    def flag_follows(self) -> bool:
        """Return whether score, threshold and tolerance give the flag that is said."""
        if self.score is None or self.operating_point is None:
            return self.flag is Flag.NOT_EVALUATED
        return self.flag is self.operating_point.flag_of(self.score.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidCategory:
    """A question, the label that was chosen, and the next best one.

    Parameters
    ----------
    chosen, score
        None where it was not evaluated.
    """

    key: str
    tracking_uid: str
    concept: Code
    chosen: Code | None
    score: Score | None
    runner_up: Code | None
    runner_up_score: float | None
    labels: int
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidEstimate:
    """A quantity in its unit.

    Parameters
    ----------
    value, unit
        None where it was not evaluated.
    """

    key: str
    tracking_uid: str
    concept: Code
    value: float | None
    unit: Code | None
    spread: float | None
    references: int
    validated: bool
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableImages:
    """Images, or frames of them, that could not be looked at for one reason."""

    reason: str
    count: int
    images: tuple[Image, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A former report that this one replaces."""

    series_uid: SeriesUid
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a report of ours says of images and algorithm.

    Parameters
    ----------
    summary
        How the run as a whole went (CID 6047).
    obstacle, reason
        What stood in the way of the whole run; None and empty otherwise.
    images
        How many image instances the revision has, analysed or not.
    shadow
        Names of findings that run in shadow mode: nothing more is said of them.
    """

    title: Code
    sop_instance_uid: SopInstanceUid
    series_uid: SeriesUid
    study_uid: StudyUid
    completion: Completion
    summary: Code
    obstacle: Code | None
    reason: str
    revision: int
    images: int
    algorithm: Algorithm
    findings: tuple[SaidFinding, ...]
    categories: tuple[SaidCategory, ...]
    estimates: tuple[SaidEstimate, ...]
    cases: AtlasSearch | None
    shadow: tuple[str, ...]
    unreadable: tuple[UnreadableImages, ...]
    predecessors: tuple[Superseded, ...]
    site: str
    software: str
    concluded_at: datetime

    @property
    def flags_follow(self) -> bool:
        """Return whether every flag follows from its score and its threshold."""
        return all(finding.flag_follows for finding in self.findings)
