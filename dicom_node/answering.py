"""What the node answers when it is asked what it has: C-FIND, PS3.4 C.4.1, Study Root.

The ledger knows no patients, so matching is by UIDs and modalities alone. A question
that names anything else is refused: to leave a key out would return other people's
studies. What was asked for and is not known here comes back empty.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_node.errors import OUT_OF_RESOURCES, Rejected
from dicom_node.ledger import Tx
from dicom_node.ledger.holdings import (
    Wanted,
    held_instances,
    held_series,
    held_studies,
)
from dicom_node.query import Level

MISMATCH = 0xA900
"""Identifier does not match SOP Class (PS3.4 Table C.4-1)."""
MOST = 10_000
"""Answers to one question."""

_NOT_MATCHED = frozenset(
    {"QueryRetrieveLevel", "SpecificCharacterSet", "TimezoneOffsetFromUTC"}
)
_UIDS: Mapping[Level, tuple[str, ...]] = {
    Level.STUDY: ("StudyInstanceUID",),
    Level.SERIES: ("StudyInstanceUID", "SeriesInstanceUID"),
    Level.IMAGE: ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}
"""The unique keys of each level, after those of the levels above it."""
_OTHERS: Mapping[Level, tuple[str, ...]] = {
    Level.STUDY: ("ModalitiesInStudy",),
    Level.SERIES: ("Modality",),
    Level.IMAGE: ("SOPClassUID",),
}
"""What else can be matched."""
_FIND: Mapping[Level, Callable[..., Sequence[object]]] = {
    Level.STUDY: held_studies,
    Level.SERIES: held_series,
    Level.IMAGE: held_instances,
}
_FIELDS: Mapping[Level, Mapping[str, str]] = {
    Level.STUDY: {
        "StudyInstanceUID": "study_uid",
        "ModalitiesInStudy": "modalities",
        "NumberOfStudyRelatedSeries": "series",
        "NumberOfStudyRelatedInstances": "instances",
    },
    Level.SERIES: {
        "StudyInstanceUID": "study_uid",
        "SeriesInstanceUID": "series_uid",
        "Modality": "modality",
        "NumberOfSeriesRelatedInstances": "instances",
    },
    Level.IMAGE: {
        "StudyInstanceUID": "study_uid",
        "SeriesInstanceUID": "series_uid",
        "SOPInstanceUID": "sop_instance_uid",
        "SOPClassUID": "sop_class_uid",
        "InstanceNumber": "instance_number",
        "NumberOfFrames": "frames",
    },
}
"""What is known at each level, by keyword, and the name that it has here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What somebody wants to know.

    Parameters
    ----------
    fields
        Keywords of what is to come back.
    """

    level: Level
    wanted: Wanted
    fields: tuple[str, ...]


def read_question(identifier: Dataset) -> Question:
    """Return the question that an identifier asks.

    Raises
    ------
    Rejected
        0xA900 if it is none of the Study Root model, names no study or series where
        the level needs one, or is to be matched by something that is not known here.
    """
    level = _level(identifier)
    keys = {
        keyword: _values(identifier, keyword)
        for keyword in (*_UIDS[level], *_OTHERS[level])
    }
    for keyword in _UIDS[level][:-1]:
        if len(keys[keyword]) != 1:
            raise Rejected(f"{keyword} has to be one UID", status=MISMATCH)
    _check_others(identifier, known={*keys, *_NOT_MATCHED})
    modality = _modality(keys.get("ModalitiesInStudy") or keys.get("Modality") or ())
    return Question(
        level=level,
        wanted=Wanted(
            study_uids=keys["StudyInstanceUID"],
            series_uids=keys.get("SeriesInstanceUID", ()),
            sop_instance_uids=keys.get("SOPInstanceUID", ()),
            sop_class_uids=keys.get("SOPClassUID", ()),
            modality=modality,
        ),
        fields=tuple(
            keyword
            for element in identifier
            if (keyword := keyword_for_tag(element.tag)) and keyword not in _NOT_MATCHED
        ),
    )


def answers(tx: Tx, question: Question) -> Iterator[Dataset]:
    """Yield what matches, each with the fields that were asked for.

    Raises
    ------
    Rejected
        0xA700 if it is more than `MOST`.
    """
    level = question.level
    found = _FIND[level](tx, question.wanted, limit=MOST + 1)
    if len(found) > MOST:
        raise Rejected(f"more than {MOST} match", status=OUT_OF_RESOURCES)
    for held in found:
        answer = Dataset()
        answer.QueryRetrieveLevel = level.value
        for keyword in dict.fromkeys((*_UIDS[level], *question.fields)):
            name = _FIELDS[level].get(keyword)
            answer.add(_element(keyword, getattr(held, name) if name else None))
        yield answer


def all_known(question: Question) -> bool:
    """Return whether everything that was asked for is known here."""
    return set(question.fields) <= set(_FIELDS[question.level])


def _element(keyword: str, value: object) -> DataElement:
    """Return an element that is not validated: the warnings of that show values."""
    tag = tag_for_keyword(keyword)
    assert tag is not None  # noqa: S101 - the keyword is one of a tag
    values = list(value) if isinstance(value, tuple) else value
    return DataElement(tag, dictionary_VR(tag), values, validation_mode=IGNORE)


def _level(identifier: Dataset) -> Level:
    try:
        return Level(str(identifier.get("QueryRetrieveLevel", "")).strip())
    except ValueError:
        raise Rejected(
            "the level is none of STUDY, SERIES, IMAGE", status=MISMATCH
        ) from None


def _values(identifier: Dataset, keyword: str) -> tuple[str, ...]:
    element = identifier.get(keyword)
    if not element:
        return ()
    values = [element] if isinstance(element, str) else list(element)
    return tuple(str(value).strip() for value in values if str(value).strip())


def _modality(values: Sequence[str]) -> str:
    plain = [value for value in values if value != "*"]
    if len(plain) > 1 or any(set(value) & set("*?") for value in plain):
        raise Rejected("one modality can be matched, no pattern", status=MISMATCH)
    return plain[0] if plain else ""


def _check_others(identifier: Dataset, *, known: set[str]) -> None:
    for element in identifier:
        if keyword_for_tag(element.tag) not in known and not _fits_all(element):
            raise Rejected("only UIDs and modalities can be matched", status=MISMATCH)


def _fits_all(element: DataElement) -> bool:
    """Return whether a key fits everything (PS3.4 C.2.2.2.3): empty, or ``*``."""
    if element.VR == "SQ":
        return all(_fits_all(inner) for item in element.value for inner in item)
    return element.is_empty or str(element.value) == "*"
