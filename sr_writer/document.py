"""What all our objects have in common: whose, whence, when, by what.

`Basis` is what all start from; `begin` gives an object its place, `finish` turns it
into the bytes that are stored. Nothing is read from a clock: every time is the
result's own. Content trees are highdicom's; its document classes are not used, because
they read the clock, and load 60 MB of tables to look up what is known here.

Modules of PS3.3: Patient (C.7.1.1), General Study (C.7.2.1), General Series
(C.7.3.1), General Equipment (C.7.5.1), SOP Common (C.12.1).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from warnings import catch_warnings, simplefilter

from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.multival import MultiValue
from pydicom.sr.coding import Code as PydicomCode
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.domain import (
    Code,
    EncodedObject,
    ImageRef,
    ObjectKind,
    Result,
    SeriesUid,
    SopClassUid,
    SopInstanceUid,
)
from dicom_node.domain.identity import COPIED_KEYWORDS, INSTANCE_CREATOR_UID
from sr_writer.codes import (
    FINDINGS_REPORT,
    PROCESSING_EQUIPMENT,
    coding_schemes_of,
    pydicom_code,
)
from sr_writer.identity import IMPLEMENTATION_CLASS_UID, instance_uid, series_uid

MANUFACTURER = "pacsight"
SERIES_SUFFIX = " - RESEARCH, NOT FOR DIAGNOSIS"
SERIES_NUMBERS = {
    ObjectKind.REPORT: 9000,
    ObjectKind.CAPTURE: 9001,
    ObjectKind.KEY_OBJECTS: 9002,
    ObjectKind.DOCUMENT: 9003,
    ObjectKind.REJECTION: 9004,
}
"""Behind every modality's series, so that ours sort last."""

_UNICODE = "ISO_IR 192"
_DEFINED_TERMS = frozenset(
    {"ISO_IR 192", "GB18030", "ISO 2022 IR 6"}
    | {f"ISO_IR {n}" for n in (13, 100, 101, 109, 110, 126, 127, 138, 144, 148, 166)}
    | {f"ISO 2022 IR {n}" for n in (13, 100, 101, 109, 110, 126, 127, 138, 144, 148)}
    | {f"ISO 2022 IR {n}" for n in (58, 87, 149, 159, 166)}
)
"""PS3.3 C.12.1.1.2; without ISO_IR 203, which is too young for most readers."""
_KNOWN_AS = {
    "ISO_IR 6": "",  # how nobody may name the default repertoire
    "GBK": "GB18030",
    "ISO_IR 13": "ISO 2022 IR 13\\ISO 2022 IR 87",
}
_ESCAPES = re.compile(r"\x1b[ -/]+[0-~]")
"""ISO 2022 escapes, which pydicom leaves in what it decodes from ISO 2022 IR 58."""
_STANDARD_CLASSES = "1.2.840.10008."
_SINGLE_FRAME_CLASSES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{suffix}"
    for suffix in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1"),  # CR, DX, MG, IO
        *("2", "4", "6", "6.1", "7", "128"),  # CT, MR, US, SC, PET
        *("77.1.1", "77.1.2", "77.1.3", "77.1.4"),  # visible light
    )
)
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a site wants its documents; part of every derived UID.

    Parameters
    ----------
    title
        The report's title.
    purpose
        Purpose of Reference of the contributing equipment (CID 7005).
    """

    title: Code = FINDINGS_REPORT
    purpose: Code = PROCESSING_EQUIPMENT

    @property
    def profile(self) -> str:
        """Return the options as text, for the derived UIDs."""
        return "/".join(f"{c.scheme}:{c.value}" for c in (self.title, self.purpose))


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What every document of a result starts from.

    Parameters
    ----------
    source
        Header of the image that stands for the study: patient, study, order and
        time zone are copied from it.
    about
        What else tells the object from others of its kind; part of its UIDs.
    """

    result: Result
    source: Dataset
    options: Options
    about: str = ""

    @property
    def study_uid(self) -> str:
        """Return the study that the object belongs to: the source's."""
        return text_of(self.source, "StudyInstanceUID")

    @property
    def concluded_at(self) -> datetime:
        """Return the time of the result in the time zone of the copied times."""
        minutes = _offset_min(text_of(self.source, "TimezoneOffsetFromUTC"))
        if minutes is None:
            minutes = self.result.utc_offset_min
        zone = timezone(timedelta(minutes=minutes))
        return self.result.concluded_at.astimezone(zone)

    def instance_uid(self, kind: ObjectKind) -> SopInstanceUid:
        """Return the SOP Instance UID of the result's object of this kind."""
        return instance_uid(self.result, kind, profile=self._profile)

    def series_uid(self, kind: ObjectKind) -> SeriesUid:
        """Return the Series Instance UID of the result's objects of this kind."""
        return series_uid(self.result, kind, profile=self._profile)

    @property
    def _profile(self) -> str:
        return "/".join(filter(None, (self.options.profile, self.about)))


def series_description(pack: str, version: str) -> str:
    """Return the Series Description: 64 characters at most, the warning whole."""
    version = long_string(version)[: 64 - len("AI … ") - len(SERIES_SUFFIX)]
    name = long_string(pack)
    room = 64 - len(f"AI  {version}{SERIES_SUFFIX}")
    if len(name) > room:
        name = name[: max(room, 1)].rstrip()
    return f"AI {name} {version}{SERIES_SUFFIX}"


def study_header(source: Dataset) -> Dataset:
    """Return the patient and study attributes that the documents carry.

    Type 2 attributes that the source lacks are there, and empty; dates, times
    and sex that PS3.5 does not allow are left empty; everything else is copied.
    """
    header = Dataset()
    for keyword in COPIED_KEYWORDS:
        value = words_of(source, keyword)
        if keyword in _TYPE_2 or value:
            clean = _CLEAN.get(keyword)
            setattr(header, keyword, clean(value) if clean else value)
    del header.SpecificCharacterSet, header.TimezoneOffsetFromUTC
    return header


def begin(basis: Basis, kind: ObjectKind, *, sop_class: UID, modality: str) -> Dataset:
    """Return a data set that has its place: class, series, instance, modality."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = basis.instance_uid(kind)
    dataset.SeriesInstanceUID = basis.series_uid(kind)
    dataset.SeriesNumber = SERIES_NUMBERS[kind]
    dataset.InstanceNumber = 1
    dataset.Modality = modality
    return dataset


def finish(dataset: Dataset, basis: Basis, kind: ObjectKind) -> EncodedObject:
    """Return the data set as the file that is stored.

    Sets everything that is alike in all our objects.
    """
    moment, result = basis.concluded_at, basis.result
    dataset.update(study_header(basis.source))
    dataset.SeriesDescription = series_description(
        result.algorithm.name, result.algorithm.version
    )
    dataset.Manufacturer = dataset.ManufacturerModelName = MANUFACTURER
    dataset.DeviceSerialNumber = long_string(result.site) or "unnamed site"
    dataset.SoftwareVersions = long_string(result.software)
    dataset.ContentQualification = "RESEARCH"
    for prefix in ("InstanceCreation", "Content", "Series"):
        setattr(dataset, f"{prefix}Date", f"{moment:%Y%m%d}")
        setattr(dataset, f"{prefix}Time", f"{moment:%H%M%S.%f}")
    dataset.TimezoneOffsetFromUTC = f"{moment:%z}"[:5]
    dataset.InstanceCreatorUID = INSTANCE_CREATOR_UID
    dataset.ContributingEquipmentSequence = [_contributing_equipment(basis)]
    if schemes := coding_schemes_of(dataset):
        dataset.CodingSchemeIdentificationSequence = schemes
    _set_character_set(dataset, text_of(basis.source, "SpecificCharacterSet"))
    return EncodedObject(
        kind=kind,
        series_uid=SeriesUid(str(dataset.SeriesInstanceUID)),
        sop_class_uid=SopClassUid(str(dataset.SOPClassUID)),
        sop_instance_uid=SopInstanceUid(str(dataset.SOPInstanceUID)),
        content=_encoded(dataset),
    )


def frame_numbers(image: ImageRef, indices: Iterable[int]) -> list[int] | None:
    """Return DICOM's frame numbers, which count from 1; None for single-frame images.

    Referenced Frame Number (0008,1160) is not allowed for classes that have one frame
    by definition, even where a file holds more, nor where an image is referred to as
    a composite object.
    """
    one = image.frames == 1 or image.sop_class_uid in _SINGLE_FRAME_CLASSES
    if one or not is_image_class(image.sop_class_uid):
        return None
    return sorted({index + 1 for index in indices})


def is_image_class(sop_class_uid: str) -> bool:
    """Return whether every reader knows the class for one of images.

    What refers to another one as IMAGE, DCMTK does not open at all: it is a COMPOSITE.
    """
    return sop_class_uid.startswith(_STANDARD_CLASSES)


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return an attribute as text, several values joined as DICOM does; or ''."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    several = isinstance(value, (MultiValue, list, tuple))
    return "\\".join(str(v).strip(" \0") for v in (value if several else [value]))


def words_of(dataset: Dataset, keyword: str) -> str:
    """Return an attribute as text to be written again."""
    return _ESCAPES.sub("", text_of(dataset, keyword))


def long_string(text: str) -> str:
    """Return text that fits LO: 64 characters, no backslash, no control characters."""
    return re.sub(r"[\x00-\x1f\x7f\\]+", " ", text).strip()[:64].strip()


def code_of(item: Dataset) -> PydicomCode | None:
    """Return the code in a code sequence item, or None where it is incomplete."""
    value = text_of(item, "CodeValue")
    scheme = text_of(item, "CodingSchemeDesignator")
    meaning = words_of(item, "CodeMeaning")
    if not (value and scheme and meaning) or len(value) > 16 or len(scheme) > 16:  # noqa: PLR2004 - SH
        return None
    return PydicomCode(value, scheme, long_string(meaning))


def code_item_of(code: PydicomCode) -> Dataset:
    """Return an item of a code sequence (PS3.3 Table 8.8-1)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _contributing_equipment(basis: Basis) -> Dataset:
    """Return the item that says which pack made this: PS3.3 C.12.1, CID 7005."""
    algorithm, item = basis.result.algorithm, Dataset()
    purpose = pydicom_code(basis.options.purpose)
    item.PurposeOfReferenceCodeSequence = [code_item_of(purpose)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = long_string(algorithm.name)
    item.SoftwareVersions = long_string(algorithm.version)
    item.DeviceUID = algorithm.device_uid
    item.ContributionDateTime = f"{basis.concluded_at:%Y%m%d%H%M%S.%f%z}"[:26]
    item.ContributionDescription = (
        f"encoder=sha256:{algorithm.encoder}; preprocessing={algorithm.preprocessing};"
        f" profile={algorithm.profile}"
    ).replace("\\", "/")[:1024]
    return item


def _set_character_set(dataset: Dataset, stated: str) -> None:
    """Carry the source's character set where it can hold every text, else UTF-8.

    Nothing is declared where all texts are ASCII and the source declared nothing.
    """
    texts = [t for t in _texts(dataset) if not t.isascii()]
    declared = _declared(stated)
    if all(_carries(declared, text) for text in texts):
        if declared:
            dataset.SpecificCharacterSet = (
                declared if len(declared) > 1 else declared[0]
            )
        elif "SpecificCharacterSet" in dataset:
            del dataset.SpecificCharacterSet
    else:
        dataset.SpecificCharacterSet = _UNICODE


def _declared(stated: str) -> list[str]:
    """Return a Specific Character Set as we write it, [] for the default.

    Terms that the Standard does not define are no declaration. Where an equal one is
    known to more readers, it stands for the stated one: the bytes are the same.
    """
    terms = [term.strip() for term in _KNOWN_AS.get(stated, stated).split("\\")]
    defined = all(not t or t in _DEFINED_TERMS for t in terms)
    return terms if defined and any(terms) else []


def _carries(declared: list[str], text: str) -> bool:
    """Return whether a text survives the character sets of (0008,0005).

    pydicom has the last word, because it writes the file: it cannot, for example,
    write ISO 2022 IR 58 so that it can be read again, and takes Latin-1 for the
    default repertoire, without an escape.
    """
    written = list(convert_encodings(declared)) if declared else ["ascii"]
    encodings = list(written)
    if declared and declared[0].strip() in {"", "ISO_IR 6", "ISO 2022 IR 6"}:
        encodings[0] = "ascii"
    with catch_warnings():
        simplefilter("error")
        try:
            return all(
                decode_bytes(encode_string(part, written), encodings, set()) == part
                for part in re.split(r"[\\^=]", text)
            )
        except (LookupError, UnicodeError, ValueError, Warning):
            return False


def _texts(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.VR in _TEXT_VRS and element.value:
            values = element.value
            if isinstance(values, (MultiValue, list)):
                yield from (str(v) for v in values)
            else:
                yield str(values)


def _encoded(dataset: Dataset) -> bytes:
    """Return the data set as a Part 10 file, whoever's library version writes it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = "PACSIGHT_1"
    dataset.file_meta = meta
    with BytesIO() as file:
        dcmwrite(file, dataset, enforce_file_format=True)
        return file.getvalue()


def _offset_min(value: str) -> int | None:
    """Return Timezone Offset From UTC in minutes, or None (PS3.3 C.12.1.1.8)."""
    stated = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", value, re.ASCII)
    if stated is None:
        return None
    sign, hours, minutes = stated.groups()
    offset = int(f"{sign}{int(hours) * 60 + int(minutes)}")
    return offset if -12 * 60 <= offset <= 14 * 60 else None


def _date(value: str) -> str:
    digits = value.replace(".", "") if len(value) == len("YYYY.MM.DD") else value
    try:
        datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return ""
    return digits if re.fullmatch(r"\d{8}", digits) else ""


def _time(value: str) -> str:
    digits = value.replace(":", "")
    valid = re.fullmatch(
        r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", digits, re.ASCII
    )
    return digits if valid else ""


def _sex(value: str) -> str:
    return value.upper() if value.upper() in {"M", "F", "O"} else ""


_TYPE_2 = frozenset(COPIED_KEYWORDS) - {
    "IssuerOfPatientID",
    "StudyDescription",
}
_CLEAN = {
    "StudyDescription": long_string,
    "PatientBirthDate": _date,
    "PatientSex": _sex,
    "StudyDate": _date,
    "StudyTime": _time,
}
