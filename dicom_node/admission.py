"""What an instance is, by its header: taken in and how, or rejected and why.

PS3.4 B.2.3 (status codes of C-STORE), PS3.3 C.12.1 (SOP Common). Pure: knows no
file, no ledger, no clock. Nothing is refused for what it holds, only for what it
lacks to be filed: a refusal can jam a modality's queue for days.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLETransferSyntaxes,
)

from dicom_node.domain import (
    Analysis,
    Header,
    Origin,
    SeriesUid,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.domain.identity import (
    COPIED_KEYWORDS,
    INSTANCE_CREATOR_UID,
    patient_digest,
    study_attributes_digest,
)
from dicom_node.errors import CANNOT_UNDERSTAND, DATASET_MISMATCH, Rejected
from dicom_node.exams import COLUMNS, ROWS, TEXTS, exam_of
from dicom_node.matching import (
    PackRule,
    PriorityRule,
    keywords,
    passed_over,
    priority_of,
)
from dicom_node.part10 import Element, Head, items

MANUFACTURER = "pacsight"
"""Manufacturer (0008,0070) of the equipment that our objects name."""

UID_LENGTH = 64

DECODABLE = frozenset(
    map(
        str,
        (
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
            *JPEGTransferSyntaxes,
            *JPEGLSTransferSyntaxes,
            *JPEG2000TransferSyntaxes,
            *RLETransferSyntaxes,
            "1.2.840.10008.1.2.8.1",  # Deflated Image Frame Compression
        ),
    )
)
"""Transfer syntaxes that the workers have a decoder for."""

NO_IMAGES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.88.": "a structured report",
    "1.2.840.10008.5.1.4.1.1.11.": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.104.": "an encapsulated document",
    "1.2.840.10008.5.1.4.1.1.66.": "a segmentation, registration or fiducials",
    "1.2.840.10008.5.1.4.1.1.481.": "a radiotherapy object",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.9.": "a waveform",
    "1.2.840.10008.5.1.4.1.1.67": "a real world value mapping",
}
"""Storage classes without pictures for models, by the start of their UID."""
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
RT_IMAGE = "1.2.840.10008.5.1.4.1.1.481.1"

_FACTS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "NumberOfFrames",
    "InstanceNumber",
    "InstanceCreatorUID",
    "ContributingEquipmentSequence",
)

_TEXT_DELIMITERS = {0x0D, 0x0A, 0x09, 0x0C, 0x5C}
_NAME_DELIMITERS = {0x5E, 0x3D, 0x5C}
"""Characters behind which the character set begins anew (PS3.5 6.1.2.5.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the C-STORE command said of the data set (PS3.7 9.1.1.1)."""

    sop_class_uid: str
    sop_instance_uid: str


class RejectedInstance(Rejected):
    """Rejected, although it says which instance it is.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid
        What the data set says.
    """

    def __init__(
        self,
        comment: str,
        *,
        sop_class_uid: SopClassUid,
        sop_instance_uid: SopInstanceUid,
    ) -> None:
        super().__init__(comment, status=DATASET_MISMATCH)
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid


class Admission:
    """The rules of the house: what is read of a header, and what follows from it.

    Parameters
    ----------
    rules
        The site's priorities.
    pack_rules
        Which packs look at which instances.
    """

    def __init__(
        self, rules: Sequence[PriorityRule] = (), pack_rules: Sequence[PackRule] = ()
    ) -> None:
        self._rules = tuple(rules)
        self._pack_rules = tuple(pack_rules)
        asked = keywords([*self._rules, *self._pack_rules])
        names = {*_FACTS, *TEXTS, *COPIED_KEYWORDS, *asked}
        self._keywords = {_tag(name): name for name in sorted(names)}
        self._wanted = self._keywords.keys() | {ROWS, COLUMNS}

    @property
    def wanted(self) -> AbstractSet[int]:
        """Return the tags of the elements that are needed."""
        return self._wanted

    def admit(
        self,
        head: Head,
        *,
        origin: Origin,
        expected: Expected | None = None,
        study_uid: StudyUid | None = None,
    ) -> Header:
        """Return the facts of an instance that is taken in.

        Parameters
        ----------
        expected
            What the command said of it, if there was one.
        study_uid
            The study that it was sent for, if one was named.

        Raises
        ------
        Rejected
            0xC000 if a UID is missing, 0xA900 if it is not what was announced.
        """
        values = dict(self._values(head))
        header = self._header(head, values, origin)
        objection = _objection(header, expected, study_uid)
        if objection:
            raise RejectedInstance(
                objection,
                sop_class_uid=header.sop_class_uid,
                sop_instance_uid=header.sop_instance_uid,
            )
        return header

    def _header(
        self, head: Head, values: Mapping[str, Sequence[str]], origin: Origin
    ) -> Header:
        def first(keyword: str) -> str:
            return next(iter(values.get(keyword, ())), "")

        sop_class_uid = _uid(first("SOPClassUID"), "SOP Class UID")
        analysis, reason = _analysis(head, sop_class_uid, first("InstanceCreatorUID"))
        is_image = analysis is Analysis.IMAGE
        patient_id = "\\".join(values.get("PatientID", ()))
        return Header(
            study_uid=StudyUid(_uid(first("StudyInstanceUID"), "Study UID")),
            series_uid=SeriesUid(_uid(first("SeriesInstanceUID"), "Series UID")),
            sop_instance_uid=SopInstanceUid(
                _uid(first("SOPInstanceUID"), "SOP Instance UID")
            ),
            sop_class_uid=SopClassUid(sop_class_uid),
            transfer_syntax_uid=head.transfer_syntax_uid,
            patient=patient_digest(
                patient_id, "\\".join(values.get("IssuerOfPatientID", ()))
            ),
            patient_id=patient_id,
            attributes=study_attributes_digest(values),
            exam=exam_of(values, head),
            frames=max(_integer(first("NumberOfFrames")) or 1, 1) if is_image else 0,
            instance_number=_integer(first("InstanceNumber")),
            analysis=analysis,
            reason=reason,
            priority=priority_of(self._rules, origin=origin, values=values),
            passed_over=passed_over(self._pack_rules, origin=origin, values=values),
        )

    def _values(self, head: Head) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield keyword and values of each text that was read."""
        charset = head.elements.get(_CHARACTER_SET)
        encodings = _encodings(charset.text if charset else "")
        for tag, element in head.elements.items():
            keyword = self._keywords.get(tag)
            if keyword is not None and tag != _EQUIPMENT:
                yield keyword, _texts(element, encodings, keyword)


def _objection(
    header: Header, expected: Expected | None, study_uid: StudyUid | None
) -> str:
    """Return in what it is not what was announced, empty if it is."""
    if expected is not None:
        if header.sop_instance_uid != expected.sop_instance_uid:
            return "SOP Instance UID is not the command's"
        if header.sop_class_uid != expected.sop_class_uid:
            return "SOP Class UID is not the command's"
    if study_uid is not None and header.study_uid != study_uid:
        return "not of the study it was sent for"
    return ""


def _analysis(head: Head, class_uid: str, creator_uid: str) -> tuple[Analysis, str]:
    """Return whether models can look at it; if not, why."""
    if creator_uid == INSTANCE_CREATOR_UID or _names_our_device(head):
        return Analysis.OWN, "written by pacsight"
    reason = _no_image(class_uid)
    if not reason and not head.has_pixels:
        reason = "no pixel data"
    if not reason and head.transfer_syntax_uid not in DECODABLE:
        reason = f"no decoder for transfer syntax {head.transfer_syntax_uid}"
    return (Analysis.NOT_ANALYSED, reason) if reason else (Analysis.IMAGE, "")


def _no_image(class_uid: str) -> str:
    if class_uid == KEY_OBJECTS:
        return "a key object selection"
    if class_uid == RT_IMAGE:
        return ""
    found = (what for start, what in NO_IMAGES.items() if class_uid.startswith(start))
    return next(found, "")


def _names_our_device(head: Head) -> bool:
    """Return whether a Contributing Equipment item (0018,A001) is one of our packs."""
    sequence = head.elements.get(_EQUIPMENT)
    if sequence is None or MANUFACTURER.encode() not in sequence.value:
        return False
    return any(
        _MANUFACTURER in item
        and item[_MANUFACTURER].text == MANUFACTURER
        and _DEVICE_UID in item
        for item in items(head, sequence)
    )


def _texts(element: Element, encodings: Sequence[str], keyword: str) -> tuple[str, ...]:
    """Return the values of a text element, without padding."""
    raw = element.value
    if raw.isascii() and b"\x1b" not in raw:
        text = raw.decode("ascii")
    else:
        by_group = keyword == "PatientName" or keyword.endswith("PhysicianName")
        delimiters = _NAME_DELIMITERS if by_group else _TEXT_DELIMITERS
        try:
            text = decode_bytes(raw, encodings, delimiters)
        except Exception:  # noqa: BLE001 - whatever a stranger's escape sequences lead to
            text = raw.decode("ascii", "replace")
    return tuple(value.strip("\0 ") for value in text.split("\\"))


def _encodings(stated: str) -> Sequence[str]:
    """Return Python's names of the character sets (0008,0005), as far as they are some."""
    try:
        return convert_encodings([term.strip() for term in stated.split("\\")])
    except (LookupError, ValueError):
        return convert_encodings([""])


def _uid(value: str, name: str) -> str:
    """Return a UID that is there. Some senders break PS3.5 9.1 in ways that do no harm."""
    if not value:
        raise Rejected(f"no {name}", status=CANNOT_UNDERSTAND)
    if len(value) > UID_LENGTH or not value.isascii() or not value.isprintable():
        raise Rejected(f"{name} is not a UID", status=CANNOT_UNDERSTAND)
    return value


def _integer(value: str) -> int | None:
    try:
        return int(value)
    except ValueError:
        return None


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is not in the DICOM dictionary")
    return tag


_CHARACTER_SET = _tag("SpecificCharacterSet")
_EQUIPMENT = _tag("ContributingEquipmentSequence")
_MANUFACTURER = _tag("Manufacturer")
_DEVICE_UID = _tag("DeviceUID")
