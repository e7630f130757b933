"""What was concluded about one revision of a study by one pack.

A `Result` is complete: the Structured Report and the secondary capture follow
from it and from the headers of the source images, without clock, settings or
ledger. It holds no patient data.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from dicom_node.domain.arrival import (
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
)

UNKNOWN_PATIENT = Sha256("")
"""Of what was stored before patients were kept there."""


class Flag(StrEnum):
    """What a score says of its threshold. It is no diagnosis."""

    ABOVE = "at or above threshold"
    BELOW = "below threshold"
    INDETERMINATE = "indeterminate"
    NOT_EVALUATED = "not evaluated"


class Urgency(StrEnum):
    """How soon a flagged finding should be acted on (PS3.16 CID 7035)."""

    CRITICAL = "critical"
    URGENT = "urgent"
    ROUTINE = "routine"


class Completion(StrEnum):
    """Whether all of the study's images could be looked at."""

    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A coded concept: value, coding scheme designator, meaning (PS3.3 8.1)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """An image instance of the study that the result is about.

    Parameters
    ----------
    sha256
        Digest of its data set as received.
    """

    series_uid: SeriesUid
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    sha256: Sha256
    frames: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScore:
    """The score of one frame: which image it was, and how much it showed.

    Parameters
    ----------
    frame
        Index from 0 (DICOM counts from 1).
    """

    image: ImageRef
    frame: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A number that a head gave, and what it may be called.

    Parameters
    ----------
    value
        In the head's own scale; sigmoid outputs lie in [0, 1].
    calibration_set
        Names the data on which the score was calibrated; empty for a raw
        score, which is never called a probability.
    interval
        95 % interval of the score, or None.
    """

    value: float
    calibration_set: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """The threshold in force, and where it comes from.

    Parameters
    ----------
    name
        E.g. ``sens>=0.95``.
    threshold
        In the score's scale; a score at or above it is flagged.
    rule_out
        Below it a score rules the finding out, and from there to the threshold it is
        indeterminate; None where the threshold does both.
    threshold_set, threshold_set_digest
        Identity of the set that it belongs to.
    tolerance
        A score that is nearer to the threshold (or to `rule_out`) is indeterminate:
        half precision may have moved it across.
    """

    name: str
    threshold: float
    threshold_set: str
    threshold_set_digest: Sha256
    tolerance: float = 0.0
    rule_out: float | None = None

    def flag_of(self, score: float) -> Flag:
        """Return what a score says of the threshold."""
        low = self.threshold if self.rule_out is None else self.rule_out
        near = min(abs(score - self.threshold), abs(score - low))
        if near < self.tolerance or low <= score < self.threshold:
            return Flag.INDETERMINATE
        return Flag.ABOVE if score >= self.threshold else Flag.BELOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a pack says of one finding in one study.

    Parameters
    ----------
    key
        The finding's name inside the pack, e.g. ``pneumothorax``.
    score, operating_point
        None where the finding was not evaluated.
    evidence
        The frames that the score rests on, highest score first.
    reason
        Why it was not evaluated; empty otherwise.
    selection
        Which of the readable images were scored where not all were, e.g. ``20 of 300
        slices, evenly selected``; empty where all were.
    """

    key: str
    concept: Code
    site: Code | None
    laterality: Code | None = None
    score: Score | None
    operating_point: OperatingPoint | None
    flag: Flag
    urgency: Urgency
    evidence: tuple[FrameScore, ...]
    images_scored: int
    reason: str = ""
    selection: str = ""

    @property
    def decisive(self) -> tuple[FrameScore, ...]:
        """Return the frames at or above the threshold, and the highest in any case.

        The score of a study may be made of many that are low. Scores of frames are
        never calibrated: a threshold of probabilities says nothing of them.
        """
        point = self.operating_point
        raw = self.score is not None and not self.score.calibration_set
        threshold = point.threshold if point is not None and raw else math.inf
        return (
            *self.evidence[:1],
            *(one for one in self.evidence[1:] if one.score >= threshold),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A label of a category, and its share of all labels' score."""

    label: Code
    score: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """What a pack says of a question with labels that exclude one another.

    Parameters
    ----------
    key
        The category's name inside the pack, e.g. ``view``.
    chosen, runner_up
        The labels with the highest scores; None where it was not evaluated.
    labels
        How many there were to choose from.
    evidence
        The frames that show the chosen label most, highest score first.
    reason
        Why it was not evaluated; empty otherwise.
    selection
        Which of the readable images it rests on where not all were; as of a finding.
    """

    key: str
    concept: Code
    chosen: Choice | None
    runner_up: Choice | None
    labels: int
    evidence: tuple[FrameScore, ...]
    images_scored: int
    reason: str = ""
    selection: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A quantity that a pack reads off the images.

    Parameters
    ----------
    key
        The estimate's name inside the pack, e.g. ``bone-age``.
    value, spread
        In `unit`; the spread is the standard deviation among the references that the
        value rests on, and no confidence interval. None where it was not evaluated.
    unit
        A unit of measurement (UCUM).
    references
        How many labelled images there were to compare with.
    unequipped
        Whether the reason is that there are none: not the study is at fault then.
    validated
        Whether anybody has measured its error.
    evidence
        The frames that it rests on, each with the value it gave.
    reason
        Why it was not evaluated; empty otherwise.
    selection
        Which of the readable images it rests on where not all were; as of a finding.
    """

    key: str
    concept: Code
    value: float | None
    spread: float | None
    unit: Code
    references: int
    validated: bool
    evidence: tuple[FrameScore, ...]
    images_scored: int
    reason: str = ""
    selection: str = ""
    unequipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceCase:
    """A case of the atlas that resembles the study. Never a live patient."""

    identifier: str
    similarity: float
    labels: tuple[Code, ...]
    established_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasSearch:
    """The nearest cases, and the atlas that they come from."""

    atlas: str
    version: str
    digest: Sha256
    metric: str
    cases: tuple[ReferenceCase, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The pack that made the result.

    Parameters
    ----------
    statement
        What readers must know, e.g. that it is a synthetic demonstration.
    """

    name: str
    version: str
    title: str
    statement: str
    device_uid: str
    encoder: Sha256
    preprocessing: str
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An image, or a frame of it, that could not be looked at."""

    image: ImageRef
    frame: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """A report of ours that this result supersedes.

    Parameters
    ----------
    patient
        Digest of the patient in whose chart it is; empty where that was not kept.
    """

    series_uid: SeriesUid
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    patient: Sha256 = UNKNOWN_PATIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one pack concluded about one revision of one study.

    Parameters
    ----------
    site
        The site's name from the settings; part of every derived UID.
    patient
        Digest of PatientID and issuer: objects are composed only from source
        images with the same one.
    attributes
        Digest of the copied patient and study attributes.
    outcome
        Rises when a retry changes the outcome.
    images
        Every image instance of the revision, analysed or not, at least one.
    findings
        In the pack's order.
    categories, estimates
        In the pack's order; all three are empty only if ``reason`` says why.
    shadow
        Findings that run in shadow mode: kept here, and never reported. No object says
        more of them than their names.
    reason
        Why the run as a whole was not evaluated; empty otherwise.
    outside_scope
        Whether the pack accepts no image of the study.
    concluded_at
        UTC; the only time that objects carry.
    utc_offset_min
        The site's offset from UTC at that time, in minutes: the time zone of
        objects whose source states none.
    software
        Version of pacsight.
    """

    site: str
    study_uid: StudyUid
    patient: Sha256
    attributes: Sha256
    revision: int
    outcome: int = 0
    images: tuple[ImageRef, ...]
    algorithm: Algorithm
    findings: tuple[Finding, ...]
    completion: Completion
    unreadable: tuple[Unreadable, ...] = ()
    cases: AtlasSearch | None = None
    predecessors: tuple[Predecessor, ...] = ()
    reason: str = ""
    concluded_at: datetime
    utc_offset_min: int = 0
    software: str
    categories: tuple[Category, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    outside_scope: bool = False
    shadow: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("a result needs at least one image of its study")
        if self.concluded_at.tzinfo is None:
            raise ValueError("concluded_at needs a time zone")

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """Return the findings at or above their threshold, most urgent first."""
        order = list(Urgency)
        above = [f for f in self.findings if f.flag is Flag.ABOVE]
        return tuple(sorted(above, key=lambda f: order.index(f.urgency)))

    @property
    def evaluated(self) -> bool:
        """Return whether anything was evaluated."""
        return any(self._outcomes())

    @property
    def whole(self) -> bool:
        """Return whether everything was evaluated."""
        return all(self._outcomes())

    @property
    def evidence(self) -> tuple[FrameScore, ...]:
        """Return the frames that the result rests on, flagged findings' first."""
        findings = (*self.flagged, *self.findings)
        return (
            *(frame for finding in findings for frame in finding.evidence),
            *(frame for category in self.categories for frame in category.evidence),
            *(frame for estimate in self.estimates for frame in estimate.evidence),
        )

    @property
    def answers(self) -> tuple[str, ...]:
        """Return the labels that were chosen and the values that were estimated."""
        chosen = [c.chosen.label.meaning for c in self.categories if c.chosen]
        values = [
            f"{e.concept.meaning} {e.value:.1f} {e.unit.value}"
            for e in self.estimates
            if e.value is not None
        ]
        return (*chosen, *values)

    def _outcomes(self) -> Iterator[bool]:
        yield from (finding.score is not None for finding in self.findings)
        yield from (category.chosen is not None for category in self.categories)
        yield from (estimate.value is not None for estimate in self.estimates)


class ObjectKind(StrEnum):
    """The kinds of DICOM object that a result becomes.

    Key objects exist only where something is flagged, a rejection note only where
    former objects are withdrawn.
    """

    REPORT = "SR"
    CAPTURE = "SC"
    KEY_OBJECTS = "KO"
    DOCUMENT = "PDF"
    REJECTION = "RN"


ALWAYS_COMPOSED = (ObjectKind.REPORT, ObjectKind.CAPTURE)
"""What every result becomes unless destinations want something else."""


class RejectionReason(StrEnum):
    """Why former objects are withdrawn."""

    SUPERSEDED = "superseded"
    """A newer report replaces them."""
    WRONG_PATIENT = "wrong patient"
    """They do not belong to the patient in whose chart they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedObject:
    """A DICOM object as it will be stored everywhere: bytes, encoded once.

    Parameters
    ----------
    content
        A DICOM Part 10 file, Explicit VR Little Endian.
    """

    kind: ObjectKind
    series_uid: SeriesUid
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    content: bytes

    @property
    def sha256(self) -> Sha256:
        """Return the digest of the whole file."""
        return Sha256(sha256(self.content).hexdigest())
