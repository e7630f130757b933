"""The matrix in short, and that its rules notice what they are there for.

``make conformance`` runs all of it, with every checker and a real archive.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from dicom_node.domain import EncodedObject, ObjectKind
from tests.builders import image_ref, source_header
from tests.composed import every_object, reread
from tests.conformance.cases import GROUPS, Case, objects_of
from tests.conformance.rules import breaches
from tests.unit.sr_writer.test_compose import everything_at_once

SOURCES = [
    (group, source)
    for group, sources in GROUPS.items()
    for source in list(sources)[::9]
]


@pytest.mark.parametrize(("group", "source"), SOURCES)
def test_no_object_breaks_a_rule(group: str, source: str) -> None:
    """What no checker sees, of every kind of object."""
    case = Case(group=group, source=source, result="everything")
    made_from, header = case.build()
    objects = objects_of(made_from, header)
    ours = {obj.sop_instance_uid for obj in objects}
    assert {obj.kind for obj in objects} == set(ObjectKind)
    for obj in objects:
        assert list(breaches(obj, made_from, header, ours)) == [], obj.kind


def _first_item(report: Dataset, name: str) -> Dataset:
    items: Iterator[Dataset] = (
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == name
    )
    return next(items)


def _relate_wrongly(report: Dataset) -> None:
    _first_item(report, "Procedure reported").RelationshipType = "CONTAINS"


def _lose_the_procedure(report: Dataset) -> None:
    report.ContentSequence.remove(_first_item(report, "Procedure reported"))


def _join(report: Dataset) -> None:
    _first_item(report, "Imaging Measurements").ContinuityOfContent = "CONTINUOUS"


def _lead_away(report: Dataset) -> None:
    group = _first_item(report, "Imaging Measurements").ContentSequence[0]
    image = next(i for i in group.ContentSequence if i.ValueType == "IMAGE")
    image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = image_ref(
        77
    ).sop_instance_uid


def _read_a_clock(report: Dataset) -> None:
    report.ContentTime = "120000"


def _rename(report: Dataset) -> None:
    report.PatientName = "Somebody^Else"


def _forget_the_schemes(report: Dataset) -> None:
    del report.CodingSchemeIdentificationSequence


def _forget_type_2(report: Dataset) -> None:
    del report.AccessionNumber


def _qualify(report: Dataset) -> None:
    report.ContentQualification = "PRODUCT"


def _verify(report: Dataset) -> None:
    report.VerificationFlag = "VERIFIED"


def _change_a_score(report: Dataset) -> None:
    group = _first_item(report, "Imaging Measurements").ContentSequence[0]
    number = next(i for i in group.ContentSequence if i.ValueType == "NUM")
    number.MeasuredValueSequence[0].FloatingPointValue = 0.1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (_relate_wrongly, "Procedure reported: CONTAINS, not HAS CONCEPT MOD"),
        (_lose_the_procedure, "the procedure reported is missing"),
        (_join, "Imaging Measurements is not SEPARATE"),
        (_lead_away, "a reference leaves the revision"),
        (_read_a_clock, "ContentTime is not the result's time"),
        (_rename, "PatientName is not the source's"),
        (_forget_the_schemes, "coding scheme 99PACSIGHT is not identified"),
        (_forget_type_2, "Type 2 attribute AccessionNumber is absent"),
        (_qualify, "Content Qualification is not RESEARCH"),
        (_verify, "the document's flags are not as they have to be"),
        (_change_a_score, "what it says is not what the result says"),
    ],
)
def test_every_rule_notices_its_fault(
    fault: Callable[[Dataset], None], expected: str
) -> None:
    """A report that was right is made wrong in one place."""
    made_from, header = everything_at_once(), source_header()
    report: EncodedObject = every_object(made_from, header)[0]
    dataset = reread(report)
    fault(dataset)
    with BytesIO() as file:
        dcmwrite(file, dataset, enforce_file_format=True)
        wrong = replace(report, content=file.getvalue())
    found = list(breaches(wrong, made_from, header, set()))
    assert any(breach.startswith(expected) for breach in found), found
