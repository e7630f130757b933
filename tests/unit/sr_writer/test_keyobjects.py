"""Key objects: the frames that raised a flag, and nothing where none was raised."""

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node.domain import Flag, FrameScore, ObjectKind, Result, Score, Urgency
from sr_writer.compose import compose
from tests.builders import (
    EFFUSION,
    LEFT,
    NODULE,
    STUDY_UID,
    algorithm,
    category,
    cine,
    ct_images,
    finding,
    image_ref,
    operating_point,
    result,
    source_header,
)
from tests.composed import reread
from tests.judges import ask

KEY_OBJECTS = (ObjectKind.KEY_OBJECTS,)


def selection(made_from: Result | None = None, **header: Any) -> Dataset:
    """Return the key objects of a result, re-read."""
    made_from = made_from or result()
    source = source_header(made_from.images[0], **header)
    (obj,) = compose(made_from, [source], kinds=KEY_OBJECTS)
    return reread(obj)


def named(document: Dataset) -> list[tuple[str, list[int] | None]]:
    """Return the images that a document selects, each with its frames."""
    found = []
    for item in document.ContentSequence:
        if item.ValueType in {"IMAGE", "COMPOSITE"}:
            (sop,) = item.ReferencedSOPSequence
            frames = sop.get("ReferencedFrameNumber")
            numbers = None if frames is None else [int(n) for n in frames]
            found.append((str(sop.ReferencedSOPInstanceUID), numbers))
    return found


def named_as(item: Dataset) -> str:
    """Return the Code Value of an item's concept name, empty where it has none."""
    (name,) = item.get("ConceptNameCodeSequence") or (Dataset(),)
    return str(name.get("CodeValue", ""))


def words(document: Dataset) -> str:
    """Return the Key Object Description."""
    (text,) = (i.TextValue for i in document.ContentSequence if named_as(i) == "113012")
    return str(text)


def test_it_is_a_selection_of_interest_by_a_device() -> None:
    """TID 2010; PS3.3 has no Content Qualification for it, we say RESEARCH all the same."""
    ko = selection()
    assert ko.SOPClassUID == KeyObjectSelectionDocumentStorage
    assert (ko.Modality, ko.SeriesNumber) == ("KO", 9002)
    assert ko.ContentQualification == "RESEARCH"
    assert ko.ContentTemplateSequence[0].TemplateIdentifier == "2010"
    (title,) = ko.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113000", "DCM")
    relations = [(i.RelationshipType, i.ValueType) for i in ko.ContentSequence]
    assert relations == [
        ("HAS CONCEPT MOD", "CODE"),
        ("HAS OBS CONTEXT", "CODE"),
        ("HAS OBS CONTEXT", "UIDREF"),
        *[("HAS OBS CONTEXT", "TEXT")] * 3,
        ("CONTAINS", "TEXT"),
        ("CONTAINS", "IMAGE"),
    ]
    assert algorithm().device_uid == ko.ContentSequence[2].UID


def test_what_is_not_flagged_has_no_key_objects() -> None:
    """The other objects come all the same; a category or a label flags nothing."""
    for made_from in (
        result([finding(0.1)]),
        result([finding(0.49, flag=Flag.INDETERMINATE)]),
        result([finding(None)]),
        result([], categories=(category(),)),
        result([finding(0.9, evidence=())]),
    ):
        header = source_header(made_from.images[0])
        objects = compose(made_from, [header], kinds=(ObjectKind.REPORT, *KEY_OBJECTS))
        assert [o.kind for o in objects] == [ObjectKind.REPORT]


def test_only_flagged_findings_select_the_most_urgent_first() -> None:
    """Frames at or above the threshold, and the highest in any case; each image once."""
    images = ct_images(6)

    def at(number: int, score: float) -> FrameScore:
        return FrameScore(image=images[number], frame=0, score=score)

    findings = [
        finding(0.2, key="a", evidence=(at(5, 0.2),)),
        finding(
            0.7,
            key="b",
            evidence=(at(0, 0.7), at(1, 0.6), at(2, 0.3)),
            urgency=Urgency.ROUTINE,
        ),
        finding(0.6, key="c", evidence=(at(3, 0.4), at(1, 0.3))),
    ]
    ko = selection(result(findings, images=images))
    expected = [(images[n].sop_instance_uid, None) for n in (3, 0, 1)]
    assert named(ko) == expected
    (study,) = ko.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == STUDY_UID
    (series,) = study.ReferencedSeriesSequence
    assert {i.ReferencedSOPInstanceUID for i in series.ReferencedSOPSequence} == {
        uid for uid, _ in expected
    }


def test_frames_of_a_multi_frame_image_are_named_counted_from_one() -> None:
    image = cine()
    evidence = tuple(
        FrameScore(image=image, frame=f, score=s) for f, s in ((11, 0.9), (4, 0.8))
    )
    ko = selection(result([finding(0.9, evidence=evidence)], images=(image,)))
    assert named(ko) == [(image.sop_instance_uid, [5, 12])]


def test_the_description_says_which_pack_found_what() -> None:
    """In words, with the warning first and what readers must know of the pack last."""
    probable = Score(value=0.75, calibration_set="cal")
    made_from = result(
        [
            finding(0.2, key="n", concept=NODULE),
            finding(
                probable,
                key="e",
                concept=EFFUSION,
                laterality=LEFT,
                urgency=Urgency.ROUTINE,
                operating_point=operating_point(name="p"),
            ),
            finding(0.913, operating_point=operating_point(0.25)),
        ],
        algorithm=algorithm(statement="Synthetic demonstration"),
    )
    assert words(selection(made_from)).splitlines() == [
        "RESEARCH, NOT FOR DIAGNOSIS",
        "Images that chest-demo 1.2.0 scored highest; 2 of 3 at or above threshold:",
        "Pneumothorax, critical: score 0.913, threshold 0.25 (sens>=0.95)",
        "Pleural effusion (left), routine: probability 0.75, threshold 0.5 (p)",
        "Synthetic demonstration",
    ]


def test_the_order_is_named_where_the_source_names_one() -> None:
    order = Dataset()
    order.RequestedProcedureID = "RP1"
    ko = selection(RequestAttributesSequence=[order])
    (request,) = ko.ReferencedRequestSequence
    assert (request.RequestedProcedureID, request.AccessionNumber) == (
        "RP1",
        "ACC-0001",
    )


@pytest.mark.parametrize("private", ["1.3.46.670589.5.0.1"])
def test_an_image_of_a_private_class_can_be_a_key_object(private: str) -> None:
    """As a composite object: readers take only the Standard's classes for images."""
    image = image_ref(sop_class_uid=private)
    evidence = (FrameScore(image=image, frame=0, score=0.9),)
    ko = selection(result([finding(0.9, evidence=evidence)], images=(image,)))
    assert named(ko) == [(image.sop_instance_uid, None)]
    assert ko.ContentSequence[-1].ValueType == "COMPOSITE"


def test_another_vendor_renders_it(tmp_path: Path) -> None:
    (obj,) = compose(result(), [source_header()], kinds=KEY_OBJECTS)
    path = tmp_path / "ko.dcm"
    path.write_bytes(obj.content)
    page = ask("dsr2html", path)
    for part in (
        "Of Interest",
        "RESEARCH, NOT FOR DIAGNOSIS",
        "Pneumothorax, critical",
    ):
        assert part in page
