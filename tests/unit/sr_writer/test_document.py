"""What report and picture share: whose, whence, when, by what."""

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from dicom_node.domain import Code
from dicom_node.domain.identity import INSTANCE_CREATOR_UID
from sr_writer.compose import compose
from sr_writer.document import series_description
from tests.builders import (
    PATIENT_ID,
    STUDY_UID,
    algorithm,
    image_ref,
    result,
    source_header,
)
from tests.composed import COMPOSED, every_object, reread

SUFFIX = " - RESEARCH, NOT FOR DIAGNOSIS"


def composed(source: Dataset | None = None, **changes: Any) -> list[Dataset]:
    """Return the report and the capture of a result, re-read."""
    header = source if source is not None else source_header()
    objects = compose(result(**changes), [header])
    return [dcmread(BytesIO(o.content)) for o in objects]


def all_composed(source: Dataset, **changes: Any) -> list[Dataset]:
    """Return every object that a result can become, re-read."""
    return [reread(obj) for obj in every_object(result(**changes), source)]


def received(**changes: Any) -> Dataset:
    """Return a source header as it comes out of a received file."""
    header = source_header(**changes)
    with BytesIO() as file:
        dcmwrite(file, header, enforce_file_format=True)
        return dcmread(BytesIO(file.getvalue()))


# ── series and equipment ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pack", "version", "expected"),
    [
        ("chest", "1.2.0", f"AI chest 1.2.0{SUFFIX}"),
        ("x" * 60, "1.2.0", f"AI {'x' * 25} 1.2.0{SUFFIX}"),
        ("back\\slash\n", "1", f"AI back slash 1{SUFFIX}"),
        ("p", "v" * 80, f"AI p {'v' * 29}{SUFFIX}"),
    ],
)
def test_the_series_description_keeps_its_warning(
    pack: str, version: str, expected: str
) -> None:
    """The pack's name is cut, never the suffix."""
    assert series_description(pack, version) == expected
    assert len(series_description(pack, version)) <= 64


def test_equipment_is_ours_and_names_the_pack() -> None:
    for obj in all_composed(source_header()):
        assert obj.Manufacturer == obj.ManufacturerModelName == "pacsight"
        assert obj.SoftwareVersions == "0.1.0"
        assert obj.DeviceSerialNumber == "Test Hospital"
        assert obj.InstanceCreatorUID == INSTANCE_CREATOR_UID
        assert obj.ContentQualification == "RESEARCH"
        (item,) = obj.ContributingEquipmentSequence
        assert item.DeviceUID == algorithm().device_uid
        assert item.ManufacturerModelName == "chest-demo"
        assert item.SoftwareVersions == "1.2.0"
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert item.ContributionDateTime == "20260115103005.123456+0100"
        assert f"encoder=sha256:{algorithm().encoder}" in item.ContributionDescription


def test_a_site_may_call_the_pack_s_part_something_else() -> None:
    """IHE AI Results wants a purpose of its own; another purpose, another object."""
    other = Code(value="AIALG", scheme="99SITE", meaning="AI algorithm")
    header = source_header()
    for plain, obj in zip(
        compose(result(), [header], kinds=COMPOSED),
        compose(result(), [header], kinds=COMPOSED, purpose=other),
        strict=True,
    ):
        written = reread(obj)
        (item,) = written.ContributingEquipmentSequence
        (purpose,) = item.PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodeMeaning) == ("AIALG", "AI algorithm")
        schemes = written.CodingSchemeIdentificationSequence
        assert "99SITE" in {i.CodingSchemeDesignator for i in schemes}
        assert obj.sop_instance_uid != plain.sop_instance_uid


def test_each_kind_has_a_series_of_its_own_behind_all_others() -> None:
    objects = all_composed(source_header())
    assert sorted(o.SeriesNumber for o in objects) == [9000, 9001, 9002, 9003, 9004]
    assert len({o.SeriesInstanceUID for o in objects}) == len(objects)
    assert len({o.SeriesDescription for o in objects}) == 1


def test_no_library_signs_the_file() -> None:
    """Another version of pydicom or highdicom writes the same bytes."""
    for obj in all_composed(source_header()):
        assert obj.file_meta.ImplementationVersionName == "PACSIGHT_1"
        assert "highdicom" not in str(obj)


# ── times ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("stated", "site_min", "date", "time", "offset"),
    [
        ("+0100", -300, "20260115", "103005.123456", "+0100"),
        ("-0930", 0, "20260115", "000005.123456", "-0930"),
        (None, -600, "20260114", "233005.123456", "-1000"),
        (None, 0, "20260115", "093005.123456", "+0000"),
        ("noon", 60, "20260115", "103005.123456", "+0100"),
        ("+9900", 60, "20260115", "103005.123456", "+0100"),
    ],
)
def test_every_time_is_the_result_s_in_the_source_s_zone_else_the_site_s(
    stated: str | None, site_min: int, date: str, time: str, offset: str
) -> None:
    source = source_header(TimezoneOffsetFromUTC=stated)
    report, capture = composed(source, utc_offset_min=site_min)
    for obj in (report, capture):
        assert obj.TimezoneOffsetFromUTC == offset
        for prefix in ("InstanceCreation", "Content", "Series"):
            assert obj[f"{prefix}Date"].value == date
            assert obj[f"{prefix}Time"].value == time
    assert (capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture) == (
        date,
        time,
    )


def test_no_time_but_the_result_s_is_written() -> None:
    year = datetime.now(UTC).year
    objects = all_composed(
        source_header(StudyDate="20010101"),
        concluded_at=datetime(1999, 1, 1, tzinfo=UTC),
    )
    for obj in objects:
        dates = {e.value[:4] for e in obj.iterall() if e.VR in {"DA", "DT"} and e.value}
        assert dates == {"1999", "2001", "1970"}
        assert str(year) not in dates


# ── patient and study ───────────────────────────────────────────────────────


def test_patient_and_study_are_the_source_s() -> None:
    for obj in all_composed(source_header()):
        assert obj.PatientName == "Doe^Jane"
        assert obj.PatientID == PATIENT_ID
        assert obj.IssuerOfPatientID == "Hospital"
        assert obj.PatientBirthDate == "19700101"
        assert obj.PatientSex == "F"
        assert obj.StudyInstanceUID == STUDY_UID
        assert (obj.StudyDate, obj.StudyTime) == ("20260115", "091500")
        assert (obj.StudyID, obj.AccessionNumber) == ("S1", "ACC-0001")
        assert obj.StudyDescription == "Chest PA"
        assert obj.ReferringPhysicianName == "Refer^Rita"


@pytest.mark.parametrize(
    ("keyword", "written", "expected"),
    [
        ("PatientBirthDate", "unknown", ""),
        ("PatientBirthDate", "1970.01.31", "19700131"),
        ("StudyDate", "20261399", ""),
        ("StudyTime", "25:00", ""),
        ("StudyTime", "09:15:00", "091500"),
        ("PatientSex", "f", "F"),
        ("PatientSex", "X", ""),
        ("StudyDescription", "d" * 80, "d" * 64),
        ("StudyDescription", ["CT", "Head"], "CT Head"),
        ("AccessionNumber", None, ""),
        ("ReferringPhysicianName", None, ""),
    ],
)
def test_what_ps3_5_does_not_allow_is_made_good_or_left_empty(
    keyword: str, written: Any, expected: str
) -> None:
    header = source_header()
    if written is None:
        delattr(header, keyword)
    else:
        header[keyword]._value = written
    for obj in all_composed(header):
        assert str(obj[keyword].value or "") == expected


def test_absent_optional_attributes_stay_absent() -> None:
    for obj in composed(source_header(StudyDescription=None)):
        assert "StudyDescription" not in obj


# ── character sets ──────────────────────────────────────────────────────────

CHARACTER_SETS = [
    (None, "Doe^Jane", None),
    ("ISO_IR 100", "Doe^Jane", "ISO_IR 100"),
    ("ISO_IR 100", "Müller^Jürgen", "ISO_IR 100"),
    ("ISO_IR 101", "Wałęsa^Lech", "ISO_IR 101"),
    ("ISO_IR 109", "Ġorġ^Ħafna", "ISO_IR 109"),
    ("ISO_IR 110", "Šķēle^Jānis", "ISO_IR 110"),
    ("ISO_IR 126", "Διονυσιος", "ISO_IR 126"),
    ("ISO_IR 127", "قباني^لنزار", "ISO_IR 127"),
    ("ISO_IR 138", "שרון^דבורה", "ISO_IR 138"),
    ("ISO_IR 144", "Иванов^Юрий", "ISO_IR 144"),
    ("ISO_IR 148", "Çavuşoğlu^Ayşe", "ISO_IR 148"),
    ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ", ["ISO 2022 IR 13", "ISO 2022 IR 87"]),
    ("ISO_IR 166", "สมชาย", "ISO_IR 166"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小東", "ISO_IR 192"),
    ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
    ("GBK", "Wang^XiaoDong=王^小东", "GB18030"),
    ("ISO_IR 6", "Doe^Jane", None),
    (
        ["", "ISO 2022 IR 87"],
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ["", "ISO 2022 IR 87"],
    ),
    (
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
    ),
    (
        ["", "ISO 2022 IR 149"],
        "Hong^Gildong=洪^吉洞=홍^길동",
        ["", "ISO 2022 IR 149"],
    ),
]


@pytest.mark.parametrize(("declared", "name", "expected"), CHARACTER_SETS)
def test_names_survive_in_the_source_s_character_set(
    declared: Any, name: str, expected: Any
) -> None:
    """In every object, the note that withdraws the others included."""
    source = received(SpecificCharacterSet=declared, PatientName=name)
    for obj in all_composed(source):
        assert obj.PatientName == source.PatientName == name
        assert obj.get("SpecificCharacterSet") == expected


def test_a_character_set_that_pydicom_cannot_write_becomes_utf_8() -> None:
    """ISO 2022 IR 58 is read, with its escapes, but not written with them."""
    source = received(
        SpecificCharacterSet=["", "ISO 2022 IR 58"],
        PatientName=b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
    )
    for obj in all_composed(source):
        assert obj.PatientName == "Zhang^XiaoDong=张^小东"
        assert obj.SpecificCharacterSet == "ISO_IR 192"


def test_latin_1_that_nobody_declared_is_written_as_utf_8() -> None:
    """Common on old scanners: the bytes are there, the declaration is not."""
    source = received(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    with BytesIO() as file:
        dcmwrite(file, source, enforce_file_format=True)
        content = file.getvalue()
    element = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
    assert element in content
    undeclared = dcmread(BytesIO(content.replace(element, b"")))
    for obj in all_composed(undeclared):
        assert obj.PatientName == "Müller^Jürgen"
        assert obj.SpecificCharacterSet == "ISO_IR 192"


def test_a_character_set_that_the_standard_does_not_define_is_not_carried() -> None:
    """The bytes were read somehow; they are written so that everybody can."""
    with disable_value_validation():
        source = received(SpecificCharacterSet="latin1", PatientName="Müller^Jürgen")
        expected = str(source.PatientName)
        for obj in composed(source):
            assert obj.PatientName == expected
            assert obj.SpecificCharacterSet == "ISO_IR 192"


def test_latin_1_that_pydicom_would_write_without_an_escape_becomes_utf_8() -> None:
    """Behind an empty first value, that is no character of the default repertoire."""
    source = received(
        SpecificCharacterSet=["", "ISO 2022 IR 100"],
        PatientName=b"Buc^Jerome=\x1b-ABuc^\x1b-AJ\xe9r\xf4me",
    )
    for obj in composed(source):
        assert obj.PatientName == "Buc^Jerome=Buc^Jérôme"
        assert obj.SpecificCharacterSet == "ISO_IR 192"


def test_our_own_words_fall_back_to_utf_8() -> None:
    source = received(SpecificCharacterSet="ISO_IR 144", PatientName="Иванов^Юрий")
    report, _ = composed(source, algorithm=algorithm(title="Röntgen — Thorax"))
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert report.PatientName == "Иванов^Юрий"


def test_the_builder_s_image_is_the_source() -> None:
    assert source_header().SOPInstanceUID == image_ref().sop_instance_uid
