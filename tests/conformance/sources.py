"""The sources of the matrix: modalities, character sets, and what scanners get wrong."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
)

from dicom_node.domain import ImageRef, SopClassUid
from tests.builders import source_header
from tests.unit.sr_writer.test_compose import SOURCES as COMPOSED
from tests.unit.sr_writer.test_compose import TYPE_2

DX = SopClassUid(str(DigitalXRayImageStorageForPresentation))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What an image says of itself.

    Parameters
    ----------
    changes
        Attributes that differ from the builder's chest X-ray; None leaves one out.
    """

    sop_class: SopClassUid = DX
    frames: int = 1
    changes: dict[str, Any] = field(default_factory=dict)

    def header(self, image: ImageRef) -> Dataset:
        """Return the header of an image as it is read from a received file."""
        with disable_value_validation():
            header = source_header(image, **self.changes)
            if self.frames > 1:
                header.NumberOfFrames = self.frames
            with BytesIO() as file:
                dcmwrite(file, header, enforce_file_format=True)
                return dcmread(BytesIO(file.getvalue()))


def _image(sop_class: str, modality: str, frames: int = 1, **changes: Any) -> Source:
    return Source(
        sop_class=SopClassUid(str(sop_class)),
        frames=frames,
        changes={"Modality": modality, **changes},
    )


MODALITIES = {
    "CR": _image(ComputedRadiographyImageStorage, "CR"),
    "DX": _image(DigitalXRayImageStorageForPresentation, "DX"),
    "MG": _image(
        DigitalMammographyXRayImageStorageForPresentation,
        "MG",
        BodyPartExamined="BREAST",
        ImageLaterality="L",
    ),
    "CT": _image(CTImageStorage, "CT", BodyPartExamined="HEAD"),
    "MR": _image(MRImageStorage, "MR", BodyPartExamined="KNEE", Laterality="R"),
    "US": _image(UltrasoundImageStorage, "US", BodyPartExamined="ABDOMEN"),
    "PT": _image(PositronEmissionTomographyImageStorage, "PT"),
    "NM, 8 frames": _image(NuclearMedicineImageStorage, "NM", 8),
    "XA, 12 frames": _image(XRayAngiographicImageStorage, "XA", 12),
    "enhanced CT": _image(EnhancedCTImageStorage, "CT", 40),
    "enhanced MR": _image(EnhancedMRImageStorage, "MR", 24),
    "US, 60 frames": _image(
        UltrasoundMultiFrameImageStorage,
        "US",
        60,
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
        LossyImageCompressionMethod="ISO_10918_1",
    ),
    "private class": _image("1.3.46.670589.5.0.1", "MR"),
}

NAMES: dict[str | tuple[str, ...], str | bytes] = {
    "ISO_IR 6": "Doe^Jane",
    "ISO_IR 100": "Buc^Jérôme",
    "ISO_IR 101": "Wałęsa^Lech",
    "ISO_IR 109": "Saliba^Ġorġ",
    "ISO_IR 110": "Bērziņš^Jānis",
    "ISO_IR 144": "Люкceмбypг",  # noqa: RUF001 - Cyrillic
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 148": "Çavuşoğlu^Işıl",  # noqa: RUF001 - Turkish
    "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ",
    "ISO_IR 166": "สมชาย",
    "ISO_IR 192": "Wang^XiaoDong=王^小東=왕^소동",
    "GB18030": "Wang^XiaoDong=王^小东",
    "GBK": "Wang^XiaoDong=王^小东",
    ("", "ISO 2022 IR 100"): b"Buc^Jerome=\x1b-ABuc^\x1b-AJ\xe9r\xf4me",
    ("ISO 2022 IR 100", "ISO 2022 IR 144"): "Buc^Jérôme=Иванов^Юрий",
    ("ISO 2022 IR 6", "ISO 2022 IR 101", "ISO 2022 IR 126"): "Walesa=Wałęsa=Διονυσιος",
    ("", "ISO 2022 IR 87"): "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ("ISO 2022 IR 13", "ISO 2022 IR 87"): "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ("", "ISO 2022 IR 87", "ISO 2022 IR 159"): "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ("", "ISO 2022 IR 149"): "Hong^Gildong=洪^吉洞=홍^길동",
    ("", "ISO 2022 IR 58"): b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
    ("", "ISO 2022 IR 166"): "Somchai=สมชาย",
}
CHARACTER_SETS = {
    " + ".join(
        part or "default"
        for part in ([declared] if isinstance(declared, str) else declared)
    ): Source(
        changes={
            "SpecificCharacterSet": declared
            if isinstance(declared, str)
            else list(declared),
            "PatientName": name,
        }
    )
    for declared, name in NAMES.items()
}


def _sequence(**values: Any) -> list[Dataset]:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return [item]


def _odd(**changes: Any) -> Source:
    return Source(changes=changes)


ODDITIES = {
    **{name: Source(changes=changes) for name, changes in COMPOSED.items()},
    "no Type 2 attribute": _odd(**dict.fromkeys(TYPE_2), PatientID=None),
    "every Type 2 attribute empty": _odd(**dict.fromkeys(TYPE_2, "")),
    "no body part": _odd(BodyPartExamined=None),
    "a body part in words": _odd(BodyPartExamined="thorax frontal stehend"),
    "names of 64 characters": _odd(
        PatientName="L" * 64, ReferringPhysicianName="R" * 64, StudyDescription="s" * 64
    ),
    "three groups of a name": _odd(
        SpecificCharacterSet="ISO_IR 192",
        PatientName=f"{'A' * 20}={'王' * 6}={'왕' * 6}",
    ),
    "a description that is too long": _odd(StudyDescription="d" * 200),
    "a name in one word": _odd(PatientName="DOE JANE"),
    "a name of five components": _odd(PatientName="Doe^Jane^Q^Dr^PhD"),
    "backslashes": _odd(StudyDescription="CT\\Head\\Neck"),
    "control characters": _odd(StudyDescription="line one\r\nline two\ttab"),
    "padding": _odd(PatientName="  Doe^Jane  ", StudyID=" 7 ", AccessionNumber=" "),
    "dates that are none": _odd(
        StudyDate="20261399", StudyTime="250000", PatientBirthDate="unknown"
    ),
    "dates of ACR-NEMA": _odd(
        StudyDate="2004.01.19", StudyTime="09:15:00", PatientBirthDate="1970.01.31"
    ),
    "dates in part": _odd(StudyDate="2026", StudyTime="09", PatientBirthDate="1970"),
    "dates of ISO 8601": _odd(StudyDate="2026-01-15", StudyTime="09:15"),
    "a sex of its own": _odd(PatientSex="male"),
    "no time zone": _odd(TimezoneOffsetFromUTC=None),
    "a time zone that is none": _odd(TimezoneOffsetFromUTC="+9900"),
    "a time zone in words": _odd(TimezoneOffsetFromUTC="CET"),
    "half an hour": _odd(TimezoneOffsetFromUTC="-0930"),
    "Latin-1 that nobody declared": _odd(PatientName=b"M\xfcller^J\xfcrgen"),
    "a character set of its own": _odd(
        SpecificCharacterSet="latin1", PatientName=b"M\xfcller^J\xfcrgen"
    ),
    "a character set misspelt": _odd(
        SpecificCharacterSet="ISO IR 100", PatientName=b"M\xfcller^J\xfcrgen"
    ),
    "an order": _odd(
        RequestAttributesSequence=_sequence(
            RequestedProcedureID="RP1",
            RequestedProcedureDescription="Chest PA",
            ScheduledProcedureStepID="SP1",
        )
    ),
    "an order without anything": _odd(RequestAttributesSequence=_sequence()),
    "a procedure, coded": _odd(
        ProcedureCodeSequence=_sequence(
            CodeValue="36643-5", CodingSchemeDesignator="LN", CodeMeaning="XR Chest 2V"
        )
    ),
    "a procedure, coded at home": _odd(
        ProcedureCodeSequence=_sequence(
            CodeValue="RX1", CodingSchemeDesignator="99HOME", CodeMeaning="Röntgen"
        ),
        SpecificCharacterSet="ISO_IR 100",
    ),
    "a procedure, half coded": _odd(
        ProcedureCodeSequence=_sequence(CodeValue="RX1", CodeMeaning="no scheme")
    ),
    "identity burned in": _odd(BurnedInAnnotation="YES"),
    "nothing said of what is burned in": _odd(BurnedInAnnotation=None),
    "a side in words": _odd(BodyPartExamined="HAND", Laterality="left"),
}

MENDED = frozenset(
    {
        *("a description that is too long", "backslashes", "control characters"),
        *("dates that are none", "dates of ACR-NEMA", "dates in part"),
        *("dates of ISO 8601", "a sex of its own", "Latin-1 that nobody declared"),
        *("a character set of its own", "a character set misspelt"),
        *("default + ISO 2022 IR 58", "default + ISO 2022 IR 100", "private class"),
    }
)
"""Sources with values that PS3.5 does not allow, or that dcentvfy cannot read: ours differ
from them, so that only ours are compared with each other."""
