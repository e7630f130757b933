"""How an image was taken, of its header."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.admission import Admission
from dicom_node.domain import Exam, FrontDoor, Origin
from dicom_node.part10 import read_head
from tests.receiving import buffered, part10

FULL: dict[str, Any] = {
    "Modality": "DX",
    "BodyPartExamined": "Chest",
    "ViewPosition": "pa",
    "PatientSex": "F",
    "PatientAge": "034Y",
    "PatientOrientation": ["L", "F"],
    "Rows": 2000,
    "Columns": 1500,
    "Manufacturer": "Some Maker",
    "ManufacturerModelName": "Model 1",
}


def exam_in(syntax: str = ExplicitVRLittleEndian, **changes: Any) -> Exam:
    """Return what is kept of a file with these attributes, valid or not."""
    with disable_value_validation():
        content = part10(syntax=syntax, **changes)
    admission = Admission()
    head = read_head(buffered(content), len(content), admission.wanted)
    return admission.admit(head, origin=Origin(door=FrontDoor.FILE)).exam


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian],
)
def test_what_a_full_header_says(syntax: str) -> None:
    """Every attribute, in upper case, however the data set is encoded."""
    assert exam_in(syntax, **FULL) == Exam(
        modality="DX",
        body_part="CHEST",
        view="PA",
        sex="F",
        age_years=34.0,
        orientation="L\\F",
        rows=2000,
        columns=1500,
        manufacturer="SOME MAKER",
        model="MODEL 1",
    )


@pytest.mark.parametrize(
    ("changes", "age_years"),
    [
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "000D"}, 0.0),
        ({"PatientAge": "052W"}, 52 * (7 / 365.25)),
        ({"PatientBirthDate": "20000101", "StudyDate": "20260101"}, 9497 / 365.25),
        ({"PatientBirthDate": "20270101", "StudyDate": "20260101"}, None),
        ({"PatientBirthDate": "00000000", "StudyDate": "20260101"}, None),
        ({"PatientBirthDate": "20000101", "StudyDate": ""}, None),
        ({"PatientBirthDate": "", "StudyDate": "20260101"}, None),
    ],
)
def test_the_age(changes: dict[str, Any], age_years: float | None) -> None:
    """As it is stated, else by the dates of birth and study; unknown where they fail."""
    assert exam_in(**changes).age_years == age_years


@given(
    st.text(st.characters(codec="latin-1", exclude_characters="\\\x1b"), max_size=20)
)
def test_whatever_a_header_says_is_taken(text: str) -> None:
    """No text of its character set makes an instance refused."""
    exam = exam_in(
        SpecificCharacterSet="ISO_IR 100", Manufacturer=text, PatientOrientation="L"
    )
    assert exam.orientation == "L"
