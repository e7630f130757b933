"""What a header says of how an image was made, and of whom: codes and numbers only.

Names, identifiers, dates and free text are not taken. The institution is replaced by a
number as soon as the table is made (`workers.shortcuts.attributes`).
"""

import math
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset

from workers.facts import group_of, numbers_of

_AGE_UNITS: Final = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
_DATE_LENGTH: Final = 8
_SPACINGS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One image's header; "" and nan where it says nothing.

    Parameters
    ----------
    sex
        PatientSex (0010,0040): M, F, O.
    age_years
        PatientAge (0010,1010), or from birth to study.
    view
        ViewPosition (0018,5101), or the meaning of ViewCodeSequence (0054,0220).
    scanner
        Manufacturer (0008,0070) and ManufacturerModelName (0008,1090).
    place
        InstitutionName (0008,0080), or StationName (0008,1010): never written anywhere.
    spacing_mm
        Between rows and between columns.
    """

    sex: str = ""
    age_years: float = math.nan
    view: str = ""
    body_part: str = ""
    scanner: str = ""
    place: str = ""
    rows: int = 0
    columns: int = 0
    spacing_mm: tuple[float, float] = (math.nan, math.nan)


def header_of(dataset: Dataset, frame: int) -> Header:
    """Return what a data set says of a frame; what is malformed counts as not said."""
    maker, model = (
        _text(dataset, "Manufacturer"),
        _text(dataset, "ManufacturerModelName"),
    )
    return Header(
        sex=_text(dataset, "PatientSex").upper(),
        age_years=_age_years(dataset),
        view=_view(dataset),
        body_part=_text(dataset, "BodyPartExamined").upper(),
        scanner=f"{maker} {model}".strip(),
        place=_text(dataset, "InstitutionName") or _text(dataset, "StationName"),
        rows=_count(dataset, "Rows"),
        columns=_count(dataset, "Columns"),
        spacing_mm=_spacing_mm(dataset, frame),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    """Return an attribute as text, its spaces evened out."""
    try:
        value = dataset.get(keyword)
    except Exception:  # noqa: BLE001 - whatever the library makes of a bad value
        return ""
    return " ".join(str(value).split()) if value is not None else ""


def _count(dataset: Dataset, keyword: str) -> int:
    text = _text(dataset, keyword)
    return int(text) if text.isdecimal() else 0


def _age_years(dataset: Dataset) -> float:
    text = _text(dataset, "PatientAge").upper()
    if text[:-1].isdecimal() and text[-1] in _AGE_UNITS:
        return int(text[:-1]) / _AGE_UNITS[text[-1]]
    born, seen = _text(dataset, "PatientBirthDate"), _text(dataset, "StudyDate")
    if not all(date.isdecimal() and len(date) == _DATE_LENGTH for date in (born, seen)):
        return math.nan
    years = int(seen[:4]) - int(born[:4]) - (seen[4:] < born[4:])
    return float(years) if years >= 0 else math.nan


def _view(dataset: Dataset) -> str:
    stated = _text(dataset, "ViewPosition").upper()
    codes = dataset.get("ViewCodeSequence")
    if stated or not codes:
        return stated
    return _text(codes[0], "CodeMeaning").upper()


def _spacing_mm(dataset: Dataset, frame: int) -> tuple[float, float]:
    measures = group_of(dataset, frame, "PixelMeasuresSequence")
    for keyword in _SPACINGS:
        for place in (measures, dataset):
            found = numbers_of(place, keyword)
            if len(found) == 2 and min(found) > 0:  # noqa: PLR2004 - rows and columns
                return found[0], found[1]
    return math.nan, math.nan
