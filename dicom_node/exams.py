"""How an image was taken, read from its header: the `Exam` of an instance.

PS3.3 C.7.1.1 (Patient), C.7.2.2 (Patient Study), C.7.3.1 (General Series), C.7.5.1
(General Equipment) and C.7.6.1 (General Image). Pure; what cannot be understood counts
as absent, and nothing is refused for it.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date

from dicom_node.domain import Exam
from dicom_node.part10 import Element, Head

TEXTS = (
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "PatientSex",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "PatientOrientation",
    "Manufacturer",
    "ManufacturerModelName",
)
"""Keywords of the attributes that are texts."""

ROWS, COLUMNS = 0x00280010, 0x00280011
"""Tags of the ones that are numbers (US)."""

DAYS_PER_YEAR = 365.25

_AGE = re.compile(r"([0-9]{1,3})([DWMY])")
_YEARS_PER_UNIT = {"D": 1 / DAYS_PER_YEAR, "W": 7 / DAYS_PER_YEAR, "M": 1 / 12, "Y": 1}
_DATE = re.compile(r"[0-9]{8}")
_OLDEST_YEARS = 150.0


def exam_of(values: Mapping[str, Sequence[str]], head: Head) -> Exam:
    """Return what a header says of the exam.

    Parameters
    ----------
    values
        The texts of the header by keyword, at least those of `TEXTS` that it has.
    head
        Holds `ROWS` and `COLUMNS` where the instance has them.
    """

    def text(keyword: str) -> str:
        return _clean("\\".join(values.get(keyword, ())).strip("\\ "))

    return Exam(
        modality=_first(values, "Modality"),
        body_part=_first(values, "BodyPartExamined"),
        view=_first(values, "ViewPosition"),
        sex=_first(values, "PatientSex"),
        age_years=_age_years(
            _first(values, "PatientAge"),
            born=_first(values, "PatientBirthDate"),
            at=_first(values, "StudyDate"),
        ),
        orientation=text("PatientOrientation"),
        rows=_number(head, ROWS),
        columns=_number(head, COLUMNS),
        manufacturer=text("Manufacturer"),
        model=text("ManufacturerModelName"),
    )


def _first(values: Mapping[str, Sequence[str]], keyword: str) -> str:
    return _clean(next(iter(values.get(keyword, ())), ""))


def _clean(text: str) -> str:
    """Return it in upper case, without halves of surrogate pairs: JSON has none."""
    return text.encode(errors="replace").decode().upper()


def _age_years(stated: str, *, born: str, at: str) -> float | None:
    """Return the age in years: as an AS states it, else between two dates."""
    match = _AGE.fullmatch(stated)
    if match is not None:
        return int(match[1]) * _YEARS_PER_UNIT[match[2]]
    birth, study = _day(born), _day(at)
    if birth is None or study is None:
        return None
    years = (study - birth).days / DAYS_PER_YEAR
    return years if 0 <= years <= _OLDEST_YEARS else None


def _day(text: str) -> date | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:  # some write 00000000
        return None


def _number(head: Head, tag: int) -> int:
    """Return the value of an element with VR US; 0 where it is absent."""
    element: Element | None = head.elements.get(tag)
    if element is None or len(element.value) != 2:  # noqa: PLR2004 - bytes of a US
        return 0
    return int.from_bytes(element.value, "little" if head.little else "big")
