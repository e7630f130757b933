"""The report says what the result says: re-read, value by value.

highdicom's reader reads; what no tool checks (relationships, the procedure
reported, where references lead) is asserted here.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import Any, cast

import pytest
from highdicom.sr import (
    Comprehensive3DSR,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    srread,
)
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from dicom_node.domain import (
    Code,
    Completion,
    Flag,
    FrameScore,
    ObjectKind,
    Result,
    Score,
    Urgency,
)
from dicom_node.errors import PacsightError
from sr_writer.codes import IMAGING_MEASUREMENT_REPORT
from sr_writer.compose import compose
from tests.builders import (
    EFFUSION,
    LEFT,
    NODULE,
    STUDY_UID,
    algorithm,
    atlas_search,
    category,
    cine,
    ct_images,
    digest,
    estimate,
    finding,
    image_ref,
    operating_point,
    predecessor,
    result,
    source_header,
    unreadable,
)


def report(
    made_from: Result | None = None, source: Dataset | None = None, **options: Any
) -> Comprehensive3DSR:
    """Return the report of a result, as highdicom's reader sees it."""
    made_from = made_from or result()
    header = source if source is not None else source_header(made_from.images[0])
    (obj,) = compose(made_from, [header], kinds=[ObjectKind.REPORT], **options)
    return cast("Comprehensive3DSR", srread(BytesIO(obj.content)))


def groups(sr: Comprehensive3DSR) -> list[MeasurementsAndQualitativeEvaluations]:
    """Return the measurement groups, as highdicom's reader sees them."""
    return cast("MeasurementReport", sr.content).get_image_measurement_groups()


def items(node: Dataset, path: str = "") -> Iterator[tuple[str, Dataset]]:
    """Yield every content item below a node, with its path of meanings."""
    for item in node.get("ContentSequence", ()):
        here = f"{path}/{item.ConceptNameCodeSequence[0].CodeMeaning}"
        yield here, item
        yield from items(item, here)


def values(node: Dataset, path: str) -> list[str]:
    """Return the values of the items at a path, as text."""
    return [_value(item) for here, item in items(node) if here == path]


def _value(item: Dataset) -> str:
    match item.ValueType:
        case "TEXT":
            return str(item.TextValue)
        case "CODE":
            return str(item.ConceptCodeSequence[0].CodeMeaning)
        case "NUM":
            return str(item.MeasuredValueSequence[0].NumericValue)
        case "UIDREF":
            return str(item.UID)
        case "IMAGE":
            return str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        case _:
            return ""


RAW = "Classifier score (uncalibrated)"
DISCLAIMER = (
    "De-identified reference cases, not this patient. "
    "Similarity is not evidence of diagnosis."
)
GROUP = "/Imaging Measurements/Measurement Group"
RUN = "/Qualitative Evaluations"


# ── the document ────────────────────────────────────────────────────────────


def test_it_is_a_preliminary_measurement_report_in_separate_containers() -> None:
    sr = report()
    assert sr.SOPClassUID == Comprehensive3DSRStorage
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert sr.ConceptNameCodeSequence[0].CodeMeaning == "AI Findings Report"
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert sr.ReferencedPerformedProcedureStepSequence == []
    assert sr.PerformedProcedureCodeSequence == []
    containers = [sr, *(i for _, i in items(sr) if i.ValueType == "CONTAINER")]
    assert {c.ContinuityOfContent for c in containers} == {"SEPARATE"}


def test_archives_that_look_for_it_get_the_standard_title() -> None:
    sr = report(title=IMAGING_MEASUREMENT_REPORT)
    assert sr.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert sr.SOPInstanceUID != report().SOPInstanceUID


def test_the_private_scheme_is_named() -> None:
    named = {
        i.CodingSchemeDesignator for i in report().CodingSchemeIdentificationSequence
    }
    used = {
        e.value for e in report().iterall() if e.keyword == "CodingSchemeDesignator"
    }
    assert named == {s for s in used if s.startswith("99")} == {"99PACSIGHT"}


def test_every_item_hangs_on_its_parent_by_the_template_s_relationship() -> None:
    """TID 1500, 1501, 300, 4019, 1204, 1004: no tool checks these."""
    full = result(
        [
            finding(Score(value=0.9, calibration_set="c", interval=(0.8, 0.95))),
            finding(0.1, key="e", concept=EFFUSION, laterality=LEFT),
            finding(None, key="n", concept=NODULE),
        ],
        cases=atlas_search(),
        unreadable=(unreadable(),),
        completion=Completion.PARTIAL,
        algorithm=algorithm(statement="s"),
    )
    observed = {
        (path.rsplit("/", 1)[-1], i.ValueType, i.RelationshipType)
        for path, i in items(report(full))
    }
    modifiers = {
        ("Language of Content Item and Descendants", "CODE"),
        ("Procedure reported", "CODE"),
        ("Finding Site", "CODE"),
        ("Laterality", "CODE"),
        ("Algorithm Name", "TEXT"),
        ("Algorithm Version", "TEXT"),
        ("Algorithm Parameters", "TEXT"),
    }
    contexts = {
        ("Observer Type", "CODE"),
        ("Device Observer UID", "UIDREF"),
        ("Device Observer Name", "TEXT"),
        ("Device Observer Manufacturer", "TEXT"),
        ("Device Observer Model Name", "TEXT"),
        ("Tracking Identifier", "TEXT"),
        ("Tracking Unique Identifier", "UIDREF"),
    }
    properties = {
        ("+, range of upper measurement uncertainty", "NUM"),
        ("-, range of lower measurement uncertainty", "NUM"),
    }
    for name, value_type, relationship in observed:
        expected = "CONTAINS"
        if (name, value_type) in modifiers:
            expected = "HAS CONCEPT MOD"
        elif (name, value_type) in contexts:
            expected = "HAS OBS CONTEXT"
        elif (name, value_type) in properties:
            expected = "HAS PROPERTIES"
        assert relationship == expected, name
    assert modifiers | contexts | properties <= {(n, v) for n, v, _ in observed}


# ── procedure, order, references ────────────────────────────────────────────


def _coded(value: str, meaning: str = "m") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "LN", meaning
    return item


def _order(**values_: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values_.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "XR unspecified body region"),
        ({"Modality": "CT"}, "CT unspecified body region"),
        ({"Modality": "US"}, "Imaging procedure"),
        ({"Modality": None}, "Imaging procedure"),
        ({"ProcedureCodeSequence": [_coded("36643-5", "XR Chest 2V")]}, "XR Chest 2V"),
        ({"ProcedureCodeSequence": [_coded("")]}, "XR unspecified body region"),
    ],
)
def test_the_procedure_reported_is_the_imaging_procedure(
    changes: dict[str, Any], expected: str
) -> None:
    sr = report(source=source_header(**changes))
    assert values(sr, "/Procedure reported") == [expected]


def test_the_order_is_carried() -> None:
    order = _order(
        RequestedProcedureID="RP1",
        RequestedProcedureDescription="Chest PA",
        RequestedProcedureCodeSequence=[_coded("36643-5")],
        FillerOrderNumberImagingServiceRequest="F7",
    )
    sr = report(source=source_header(RequestAttributesSequence=[order]))
    (request,) = sr.ReferencedRequestSequence
    assert request.StudyInstanceUID == STUDY_UID
    assert request.AccessionNumber == "ACC-0001"
    assert request.RequestedProcedureID == "RP1"
    assert request.FillerOrderNumberImagingServiceRequest == "F7"
    assert request.PlacerOrderNumberImagingServiceRequest in {"", None}
    assert request.RequestedProcedureCodeSequence[0].CodeValue == "36643-5"
    assert "ReferencedRequestSequence" not in report()


def test_all_images_are_evidence_analysed_or_not() -> None:
    other = image_ref(9, series_uid=f"{STUDY_UID}.2")
    images = (*ct_images(28), other)
    sr = report(result(images=images, findings=[finding(0.2, evidence=())]))
    assert sorted(str(uid) for *_, uid, _ in sr.get_evidence()) == sorted(
        i.sop_instance_uid for i in images
    )
    (study,) = sr.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == STUDY_UID
    assert len(study.ReferencedSeriesSequence) == 2
    assert "PertinentOtherEvidenceSequence" not in sr


def test_every_reference_leads_into_the_same_study() -> None:
    images = ct_images(5)
    evidence = (FrameScore(image=images[3], frame=0, score=0.9),)
    r = result(
        [finding(0.9, evidence=evidence)],
        images=images,
        unreadable=(unreadable(image=images[0]),),
        predecessors=(predecessor(),),
    )
    sr = report(r)
    studies = {e.value for e in sr.iterall() if e.keyword == "StudyInstanceUID"}
    assert studies == {STUDY_UID}
    referenced = {_value(i) for _, i in items(sr) if i.ValueType == "IMAGE"}
    assert referenced == {images[0].sop_instance_uid, images[3].sop_instance_uid}


def test_a_new_revision_names_what_it_supersedes() -> None:
    sr = report(result(predecessors=(predecessor(1), predecessor(2)), revision=3))
    (study,) = sr.PredecessorDocumentsSequence
    named = [
        (series.SeriesInstanceUID, series.ReferencedSOPSequence[0])
        for series in study.ReferencedSeriesSequence
    ]
    assert [(s, i.ReferencedSOPInstanceUID) for s, i in named] == [
        (p.series_uid, p.sop_instance_uid) for p in (predecessor(1), predecessor(2))
    ]
    assert values(sr, f"{RUN}/Revision of the study") == ["3 (1 image)"]
    assert "PredecessorDocumentsSequence" not in report()


def test_a_private_sop_class_is_reported_on_too() -> None:
    image = image_ref(sop_class_uid="1.3.46.670589.5.0.1")
    sr = report(result([finding(0.1, evidence=())], images=(image,)))
    assert [str(c) for *_, c in sr.get_evidence()] == ["1.3.46.670589.5.0.1"]


# ── findings ────────────────────────────────────────────────────────────────


def test_each_finding_is_a_group_that_says_what_the_result_says() -> None:
    r = result(
        [
            finding(0.9130004, laterality=LEFT),
            finding(0.07, key="effusion", concept=EFFUSION, site=None),
        ]
    )
    first, second = groups(report(r))
    for group, said in zip((first, second), r.findings, strict=True):
        assert group.finding_type is not None
        assert group.finding_type.value == said.concept.value
        assert group.tracking_identifier == f"chest-demo/{said.key}"
        (measurement,) = group.get_measurements()
        assert said.score is not None
        assert measurement.value == said.score.value
        assert measurement.name.meaning == "Classifier score (uncalibrated)"
        assert measurement.unit.value == "1"
        (image,) = group.source_images
        assert str(image.referenced_sop_instance_uid) == image_ref().sop_instance_uid
        assert image.referenced_frame_numbers is None
    (site,) = first.finding_sites
    assert site.laterality is not None
    assert (site.value.meaning, site.laterality.meaning) == ("Pleura", "Left")
    assert second.finding_sites == []
    assert first.tracking_uid != second.tracking_uid


def test_the_flag_can_be_reproduced_from_the_object_alone() -> None:
    point = operating_point(0.42, name="sens>=0.90")
    r = result(
        [finding(Score(value=0.5, calibration_set="2026-cal"), operating_point=point)]
    )
    assert values(report(r), f"{GROUP}/Algorithm Parameters") == [
        "score=0.5",
        "calibration-set=2026-cal",
        "threshold=0.42",
        "operating-point=sens>=0.90",
        f"threshold-set=site-2026-01 sha256:{digest('site-2026-01')}",
        "images-scored=1",
        "evidence-scores=0.5",
    ]
    assert values(report(r), f"{GROUP}/Algorithm Name") == ["chest-demo"]
    assert values(report(r), f"{GROUP}/Algorithm Version") == ["1.2.0"]


def test_what_was_not_scored_is_said() -> None:
    words = "20 of 300 slices, evenly selected; 2 localiser images left out"
    parameters = values(
        report(result([finding(selection=words)])), f"{GROUP}/Algorithm Parameters"
    )
    assert f"selection={words}" in parameters


def test_only_a_calibrated_score_is_called_a_probability() -> None:
    """TID 310: half-widths of the interval."""
    calibrated = finding(Score(value=0.8, calibration_set="c", interval=(0.7, 0.85)))
    sr = report(result([calibrated, finding(0.8, key="raw")]))
    calls = [values(sr, f"{GROUP}/{name}") for name in ("Probability", RAW)]
    assert calls == [["0.8"], ["0.8"]]
    probability = f"{GROUP}/Probability"
    upper, lower = (
        item.MeasuredValueSequence[0].FloatingPointValue
        for path, item in items(sr)
        if path.startswith(f"{probability}/") and item.ValueType == "NUM"
    )
    assert (upper, lower) == pytest.approx((0.05, 0.1))
    half_widths = f"{probability}/+, range of upper measurement uncertainty"
    assert values(sr, half_widths) == ["0.05"]


@pytest.mark.parametrize("score", [0.0, 1.0, 1e-12, -0.123456789, 0.30000000000000004])
def test_scores_survive_exactly(score: float) -> None:
    (group,) = groups(report(result([finding(score)])))
    assert group.get_measurements()[0].value == score


@pytest.mark.parametrize(
    ("flag", "urgency", "expected"),
    [
        (Flag.ABOVE, Urgency.CRITICAL, ["ACR Category 1 Actionable Finding"]),
        (Flag.ABOVE, Urgency.URGENT, ["ACR Category 2 Actionable Finding"]),
        (Flag.ABOVE, Urgency.ROUTINE, ["ACR Category 3 Actionable Finding"]),
        (Flag.BELOW, Urgency.CRITICAL, []),
        (Flag.INDETERMINATE, Urgency.CRITICAL, []),
    ],
)
def test_urgency_stands_only_beside_a_raised_flag(
    flag: Flag, urgency: Urgency, expected: list[str]
) -> None:
    sr = report(result([finding(0.5, flag=flag, urgency=urgency)]))
    assert [v.lower() for v in values(sr, f"{GROUP}/Flag")] == [flag.value]
    assert values(sr, f"{GROUP}/Actionable finding classification") == expected


def test_slices_are_named_highest_score_first_frames_count_from_one() -> None:
    image = cine()
    evidence = tuple(
        FrameScore(image=image, frame=f, score=s) for f, s in ((11, 0.9), (4, 0.8))
    )
    sr = report(result([finding(0.9, evidence=evidence)], images=(image,)))
    (group,) = groups(sr)
    assert [i.referenced_frame_numbers for i in group.source_images] == [[12], [5]]
    parameters = values(sr, f"{GROUP}/Algorithm Parameters")
    assert "evidence-scores=0.9,0.8" in parameters


def test_a_class_of_one_frame_is_referred_to_as_a_whole() -> None:
    """Some files hold more frames than their class allows."""
    image = image_ref(frames=2)
    evidence = (FrameScore(image=image, frame=1, score=0.9),)
    sr = report(result([finding(0.9, evidence=evidence)], images=(image,)))
    (referred,) = groups(sr)[0].source_images
    assert referred.referenced_frame_numbers is None


def test_a_finding_that_was_not_evaluated_has_a_reason_and_no_score() -> None:
    sr = report(result([finding(None), finding(0.1, key="other")]))
    first, _ = groups(sr)
    assert first.get_measurements() == []
    assert values(sr, f"{GROUP}/Flag")[0] == "Not evaluated"
    assert values(sr, f"{GROUP}/Obstacle to evaluation") == [
        "Input outside validated range"
    ]
    assert values(sr, f"{GROUP}/Reason") == ["body part ABDOMEN is not validated"]


# ── the run ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("made_from", "expected"),
    [
        (result(), "All algorithms succeeded; with findings"),
        (result([finding(0.1)]), "All algorithms succeeded; without findings"),
        (
            result([finding(0.9), finding(None, key="n")]),
            "Not all algorithms succeeded; with findings",
        ),
        (
            result([finding(0.1)], completion=Completion.PARTIAL),
            "Not all algorithms succeeded; without findings",
        ),
        (result([finding(None)]), "No algorithms succeeded; without findings"),
        (
            result([], reason="out of scope"),
            "No algorithms succeeded; without findings",
        ),
    ],
)
def test_the_whole_run_is_summed_up(made_from: Result, expected: str) -> None:
    sr = report(made_from)
    assert values(sr, f"{RUN}/CAD Processing and Findings Summary") == [expected]


def test_a_category_is_a_coded_evaluation_with_its_score_and_the_next_best() -> None:
    """The label under the code of the question; the score is no probability."""
    sr = report(result([], categories=(category(0.97),)))
    assert values(sr, f"{GROUP}/Image View") == ["postero-anterior"]
    assert values(sr, f"{GROUP}/{RAW}") == ["0.97"]
    assert [image_ref().sop_instance_uid] == values(
        sr, f"{GROUP}/Source of Measurement"
    )
    parameters = values(sr, f"{GROUP}/Algorithm Parameters")
    assert "runner-up=SCT:399067008 lateral" in parameters
    assert f"runner-up-score={1 - 0.97!r}" in parameters
    assert "labels=4" in parameters
    assert values(sr, f"{GROUP}/Flag") == []
    assert values(sr, f"{GROUP}/Tracking Identifier") == ["chest-demo/view"]


def test_an_estimate_is_a_number_in_its_unit_and_says_whether_it_was_validated() -> (
    None
):
    """Exact, in UCUM; the spread is a parameter and no confidence interval."""
    sr = report(result([], estimates=(estimate(131.25, validated=True),)))
    (item,) = [item for path, item in items(sr) if path == f"{GROUP}/Bone age"]
    measured = item.MeasuredValueSequence[0]
    assert measured.FloatingPointValue == 131.25
    assert measured.MeasurementUnitsCodeSequence[0].CodeValue == "mo"
    parameters = values(sr, f"{GROUP}/Algorithm Parameters")
    assert {"spread=4.5", "references=500", "validated=yes"} <= set(parameters)


def test_without_references_nothing_is_estimated_and_the_obstacle_is_named() -> None:
    """Not the input is at fault: nobody has supplied labelled images."""
    sr = report(result([], estimates=(estimate(None),), reason="no references"))
    assert values(sr, f"{GROUP}/Bone age") == ["Not evaluated"]
    assert values(sr, f"{GROUP}/Obstacle to evaluation") == [
        "No labelled reference images"
    ]
    assert values(sr, f"{RUN}/Obstacle to evaluation") == [
        "No labelled reference images"
    ]
    assert values(sr, f"{GROUP}/Reason") == ["there are no references"]
    assert values(sr, f"{RUN}/CAD Processing and Findings Summary") == [
        "No algorithms succeeded; without findings"
    ]


def test_a_category_that_was_not_evaluated_makes_the_run_a_partial_one() -> None:
    """A finding below its threshold succeeded; the category beside it did not."""
    sr = report(result([finding(0.1)], categories=(category(None),)))
    assert values(sr, f"{GROUP}/Image View") == ["Not evaluated"]
    assert values(sr, f"{RUN}/CAD Processing and Findings Summary") == [
        "Not all algorithms succeeded; without findings"
    ]


def test_a_run_that_evaluated_nothing_says_why_and_claims_no_measurement() -> None:
    sr = report(result([], reason="body part ABDOMEN is not validated"))
    assert values(sr, f"{RUN}/Obstacle to evaluation") == [
        "Input outside validated range"
    ]
    assert values(sr, f"{RUN}/Reason") == ["body part ABDOMEN is not validated"]
    assert values(sr, "/Imaging Measurements") == []


def test_images_that_could_not_be_read_are_named() -> None:
    images = ct_images(3)
    r = result(
        [],
        images=images,
        reason="no image could be read",
        completion=Completion.PARTIAL,
        unreadable=tuple(unreadable(image=i) for i in images),
    )
    sr = report(r)
    assert sr.CompletionFlag == "PARTIAL"
    assert values(sr, f"{RUN}/Obstacle to evaluation") == ["Images could not be read"]
    below = f"{RUN}/Images that could not be read"
    assert values(sr, f"{below}/Reason") == ["3 x no decoder for its transfer syntax"]
    assert values(sr, f"{below}/Image that could not be read") == [
        i.sop_instance_uid for i in images
    ]


def test_what_readers_must_know_of_the_pack_is_stated() -> None:
    sr = report(result(algorithm=algorithm(statement="Synthetic demonstration")))
    assert values(sr, f"{RUN}/Statement") == ["Synthetic demonstration"]
    assert values(sr, "/Device Observer UID") == [algorithm().device_uid]


# ── similar cases ───────────────────────────────────────────────────────────


def test_reference_cases_are_opaque_and_disclaimed() -> None:
    search = atlas_search(2)
    sr = report(result(cases=search))
    top = "/Similar reference cases"
    assert values(sr, f"{top}/Reference atlas") == [
        f"CXR-ATLAS v2026.1 sha256:{search.digest}; metric=cosine; k=2"
    ]
    assert values(sr, f"{top}/Disclaimer") == [
        DISCLAIMER,
    ]
    case = f"{top}/Reference case"
    assert values(sr, f"{case}/Reference case identifier") == [
        "ATL-7QK2M9",
        "ATL-3XW8P4",
    ]
    assert values(sr, f"{case}/Cosine similarity") == ["0.95", "0.92"]
    assert values(sr, f"{case}/Finding") == [
        "Pneumothorax",
        "Pneumothorax",
        "Pleural effusion",
    ]


def test_reference_cases_carry_no_reference_and_no_person() -> None:
    """No age, sex, date, site, UID, image or vector of somebody else."""
    sr = report(result(cases=atlas_search(5)))
    below = [
        (path, i)
        for path, i in items(sr)
        if path.startswith("/Similar reference cases")
    ]
    assert {i.ValueType for _, i in below} == {"CONTAINER", "TEXT", "NUM", "CODE"}
    names = {path.rsplit("/", 1)[-1] for path, _ in below}
    assert names == {
        "Similar reference cases",
        "Reference atlas",
        "Disclaimer",
        "Reference case",
        "Reference case identifier",
        "Cosine similarity",
        "Finding",
        "Labels established by",
    }


# ── size ────────────────────────────────────────────────────────────────────


def test_a_report_on_300_images_stays_small() -> None:
    images = ct_images(300)
    evidence = tuple(
        FrameScore(image=images[i], frame=0, score=0.9 - i / 100) for i in range(6)
    )
    findings = [finding(0.9, key=f"k{i}", evidence=evidence) for i in range(3)]
    (obj,) = compose(
        result(findings, images=images),
        [source_header(images[0])],
        kinds=[ObjectKind.REPORT],
    )
    assert len(obj.content) < 60_000


def test_errors_hold_no_patient_data() -> None:
    with pytest.raises(PacsightError) as caught:
        report(source=source_header(PatientID="SECRET", PatientName="Nobody^Knows"))
    assert "SECRET" not in str(caught.value)
    assert "Nobody" not in str(caught.value)


def test_a_code_longer_than_its_element_is_cut() -> None:
    long = Code(value="1", scheme="99X", meaning="m" * 80)
    sr = report(result([finding(0.9, concept=long)]))
    assert values(sr, f"{GROUP}/Finding") == ["m" * 64]
    schemes = [i.CodingSchemeDesignator for i in sr.CodingSchemeIdentificationSequence]
    assert schemes == ["99PACSIGHT", "99X"]
