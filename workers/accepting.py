"""Which images a pack, or one of its findings, was validated for.

Decided on attributes of the header alone; how far an image lies from the validated ones
in embedding space is the gate's business. Part of ``pack.json``, the `workers.manifest`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from dicom_node.domain import Exam

_FORBID: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepts:
    """The images that a pack, or one of its findings, was validated for.

    Parameters
    ----------
    modality
        Values of Modality (0008,0060); at least one.
    body_part
        Values of BodyPartExamined (0018,0015), where ``""`` stands for an image
        that does not state it. Empty means any.
    view
        Values of ViewPosition (0018,5101), likewise.
    age_years
        From and to, both included; whose age is unknown is not accepted. None: any.
    min_pixels
        Both Rows (0028,0010) and Columns (0028,0011) at least. None: any.
    """

    __pydantic_config__: ClassVar = _FORBID

    modality: tuple[str, ...]
    body_part: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    age_years: tuple[float, float] | None = None
    min_pixels: int | None = None

    def __post_init__(self) -> None:
        if not self.modality:
            raise ValueError("at least one modality must be accepted")
        if self.age_years is not None:
            first, last = self.age_years
            if not 0 <= first <= last < math.inf:
                raise ValueError("accepted ages go from one to a higher one, in years")
        if self.min_pixels is not None and self.min_pixels < 1:
            raise ValueError("the smallest accepted image has at least one pixel")

    def covers(self, exam: Exam) -> bool:
        """Return whether an image that was taken so is accepted."""
        return self.covers_kind(exam) and not self.objection(exam)

    def covers_kind(self, exam: Exam) -> bool:
        """Return whether modality and body part are accepted, whatever else is not."""
        return exam.modality in self.modality and _is_among(
            exam.body_part, self.body_part
        )

    def objection(self, exam: Exam) -> str:
        """Return which other attributes are not accepted, without values; empty if all are."""
        return " and ".join(self._objections(exam))

    def _objections(self, exam: Exam) -> Iterator[str]:
        if not _is_among(exam.view, self.view):
            yield (
                "its ViewPosition is not accepted"
                if exam.view
                else ("it states no ViewPosition")
            )
        if self.age_years is not None:
            first, last = self.age_years
            if exam.age_years is None:
                yield "it states no PatientAge"
            elif not first <= exam.age_years <= last:
                yield f"its PatientAge is not from {first:g} to {last:g} years"
        if self.min_pixels is not None:
            if not exam.rows or not exam.columns:
                yield "its Rows and Columns are not known"
            elif min(exam.rows, exam.columns) < self.min_pixels:
                yield f"it has fewer than {self.min_pixels} Rows or Columns"

    def __str__(self) -> str:
        modality = " or ".join(self.modality)
        parts = " or ".join(part or "unstated body part" for part in self.body_part)
        return f"{modality} of {parts}" if parts else modality


def _is_among(value: str, accepted: tuple[str, ...]) -> bool:
    return not accepted or value in accepted
