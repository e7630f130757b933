"""compose(): results times sources, before every judge; the guard; the same bytes."""

import os
from datetime import timedelta, timezone
from io import BytesIO
from pathlib import Path
from subprocess import run
from sys import executable
from typing import Any

import numpy as np
import pytest
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from dicom_node.domain import (
    Completion,
    Flag,
    FrameScore,
    ImageRef,
    ObjectKind,
    Result,
    Score,
    Urgency,
)
from dicom_node.domain.identity import patient_digest
from dicom_node.errors import Permanent
from sr_writer.codes import FINDINGS_REPORT, IMAGING_MEASUREMENT_REPORT
from sr_writer.compose import compose
from sr_writer.page import Picture
from tests.builders import (
    BRAIN,
    EFFUSION,
    HEMORRHAGE,
    LEFT,
    LUNG,
    NODULE,
    algorithm,
    atlas_search,
    category,
    cine,
    ct_images,
    estimate,
    finding,
    image_ref,
    predecessor,
    result,
    source_header,
    unreadable,
)
from tests.composed import COMPOSED, every_object, reread
from tests.judges import ask, complaints

REPORT_ONLY = (ObjectKind.REPORT,)


def head_ct(slices: int) -> Result:
    """Return the result of a head CT, its evidence the top six slices."""
    images = ct_images(slices)
    score = Score(value=0.93, calibration_set="cal-2026", interval=(0.88, 0.97))
    evidence = tuple(
        FrameScore(image=images[i], frame=0, score=0.93 - i / 100) for i in range(6)
    )
    one = finding(
        score,
        key="haemorrhage",
        concept=HEMORRHAGE,
        site=BRAIN,
        evidence=evidence,
        images_scored=slices,
    )
    return result([one], images=images, algorithm=algorithm(name="head-demo"))


def everything_at_once() -> Result:
    """Return a result in which nothing is left out."""
    return result(
        [
            finding(Score(value=0.9, calibration_set="c", interval=(0.8, 0.95))),
            finding(0.2, key="effusion", concept=EFFUSION, laterality=LEFT),
            finding(
                0.48, key="nodule", concept=NODULE, site=LUNG, flag=Flag.INDETERMINATE
            ),
            finding(None, key="other", site=None, laterality=LEFT),
        ],
        images=(image_ref(1), image_ref(2), image_ref(3)),
        completion=Completion.PARTIAL,
        unreadable=(unreadable(2), unreadable(3, reason="truncated")),
        predecessors=(predecessor(1), predecessor(2)),
        cases=atlas_search(5),
        categories=(category(), category(None, key="part")),
        estimates=(estimate(), estimate(None, key="other-age")),
        algorithm=algorithm(statement="Synthetic demonstration. Not for patients."),
        revision=4,
        outcome=1,
    )


CINE = cine()
RESULTS: dict[str, Result] = {
    "positive": result(),
    "negative": result([finding(0.03)]),
    "indeterminate": result([finding(0.49, flag=Flag.INDETERMINATE)]),
    "finding not evaluated": result([finding(None), finding(0.2, key="b")]),
    "out of scope": result([], reason="body part ABDOMEN is not validated"),
    "unreadable": result(
        [],
        reason="no image could be read",
        completion=Completion.PARTIAL,
        unreadable=(unreadable(),),
    ),
    "twenty findings": result(
        [
            finding(0.05 * i, key=f"k{i}", urgency=list(Urgency)[i % 3])
            for i in range(20)
        ]
    ),
    "raw scores": result([finding(-3.25, key="a"), finding(17.5, key="b")]),
    "CT of 28": head_ct(28),
    "CT of 300": head_ct(300),
    "multi-frame": result(
        [finding(0.8, evidence=(FrameScore(image=CINE, frame=29, score=0.8),))],
        images=(CINE,),
    ),
    "cases": result(cases=atlas_search()),
    "predecessor": result(predecessors=(predecessor(),), revision=2),
    "categories": result([], categories=(category(), category(0.4, key="part"))),
    "category out of scope": result(
        [], categories=(category(None),), reason="body part ABDOMEN is not validated"
    ),
    "estimate": result([], estimates=(estimate(),)),
    "no references": result(
        [], estimates=(estimate(None),), reason="there are no references"
    ),
    "everything": everything_at_once(),
}

TYPE_2 = (
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
SOURCES: dict[str, dict[str, Any]] = {
    "chest X-ray": {},
    "CT": {"Modality": "CT", "BodyPartExamined": "HEAD", "TimezoneOffsetFromUTC": None},
    "knee": {"BodyPartExamined": "KNEE", "Laterality": "L"},
    "lossy": {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "12.5",
        "LossyImageCompressionMethod": "ISO_10918_1",
    },
    "lossy, nothing said": {"LossyImageCompression": "01"},
    "bare": dict.fromkeys(
        (
            *TYPE_2,
            "StudyDescription",
            "Modality",
            "BodyPartExamined",
            "BurnedInAnnotation",
            "Manufacturer",
            "TimezoneOffsetFromUTC",
        )
    ),
    "UTF-8": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "王^小東=王^小東"},
    "Latin-1": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"},
    "Japanese": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    },
    "GB18030": {
        "SpecificCharacterSet": "GB18030",
        "PatientName": "Wang^XiaoDong=王^小东",
    },
}


def header_for(made_from: Result, source: str) -> Dataset:
    """Return the header of the result's first image, as a source has it."""
    return source_header(made_from.images[0], **SOURCES[source])


def pictures_for(made_from: Result) -> list[Picture]:
    """Return pictures of the result's first images."""
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    return [
        Picture(pixels=ramp, image=image, label=f"slice {n} of {len(made_from.images)}")
        for n, image in enumerate(made_from.images[:6], start=1)
    ]


# ── the judges ──────────────────────────────────────────────────────────────


EVERY_RESULT = ("chest X-ray", "bare", "Japanese", "Latin-1")
MATRIX = [
    *((name, source) for name in RESULTS for source in EVERY_RESULT),
    *(
        (name, source)
        for name in ("positive", "everything")
        for source in SOURCES
        if source not in EVERY_RESULT
    ),
]


@pytest.mark.parametrize(("made_from", "source"), MATRIX)
def test_every_report_passes_every_judge(
    made_from: str, source: str, tmp_path: Path
) -> None:
    """dciodvfy finds nothing, dsrdump reads it, highdicom finds all evidence."""
    r = RESULTS[made_from]
    (report,) = compose(r, [header_for(r, source)], kinds=REPORT_ONLY)
    path = tmp_path / "report.dcm"
    path.write_bytes(report.content)
    assert complaints(ask("dciodvfy", "-new", path)) == []
    dump = ask("dsrdump", "-Ec", path)
    assert complaints(dump) == []
    assert "Comprehensive 3D SR Document" in dump
    assert dump.count('"Tracking Identifier"') == len(
        [*r.findings, *r.categories, *r.estimates]
    )
    found = srread(BytesIO(report.content)).get_evidence()
    assert len(found) == len(r.images)


OTHERS = [
    *((name, "chest X-ray") for name in RESULTS),
    *(("positive", source) for source in SOURCES if source != "chest X-ray"),
]


@pytest.mark.parametrize(("made_from", "source"), OTHERS)
def test_every_other_object_passes_every_judge(
    made_from: str, source: str, tmp_path: Path
) -> None:
    """Capture, key objects, PDF and rejection note; dsrdump reads the selections."""
    r = RESULTS[made_from]
    objects = every_object(r, header_for(r, source), pictures_for(r))
    for obj in objects[1:]:
        path = tmp_path / f"{obj.kind}.dcm"
        path.write_bytes(obj.content)
        assert complaints(ask("dciodvfy", "-new", path)) == [], obj.kind
        if obj.kind in {ObjectKind.KEY_OBJECTS, ObjectKind.REJECTION}:
            dump = ask("dsrdump", "-Ec", path)
            assert complaints(dump) == [], obj.kind
            assert "Key Object Selection Document" in dump
    flagged = ObjectKind.KEY_OBJECTS in {o.kind for o in objects}
    assert flagged == bool(r.flagged)


def test_another_vendor_renders_the_report(tmp_path: Path) -> None:
    r = everything_at_once()
    (report,) = compose(r, [source_header()], kinds=REPORT_ONLY)
    path = tmp_path / "report.dcm"
    path.write_bytes(report.content)
    page = ask("dsr2html", path)
    for words in (
        "AI Findings Report",
        "Pneumothorax",
        "Synthetic demonstration",
        "threshold=0.5",
        "ATL-7QK2M9",
        "Not all algorithms succeeded; with findings",
    ):
        assert words in page


def test_script_in_a_name_is_text(tmp_path: Path) -> None:
    """The report has the name as it came; another vendor's page of it runs nothing."""
    name, spelled = "<script>alert(1)</script>^X", "&lt;script&gt;alert(1)"
    header = source_header(PatientName=name, StudyDescription="<img src=x>")
    (report,) = compose(everything_at_once(), [header], kinds=REPORT_ONLY)
    assert reread(report).PatientName == name
    path = tmp_path / "report.dcm"
    path.write_bytes(report.content)
    page = ask("dsr2html", path)
    assert spelled in page
    assert "<script" not in page
    assert "<img" not in page


@pytest.mark.parametrize("source", ["chest X-ray", "CT", "bare", "Japanese"])
def test_all_objects_of_a_study_agree(source: str, tmp_path: Path) -> None:
    """dcentvfy: source, all objects of the first revision, and those of the next."""
    images = ct_images(2)
    evidence = (FrameScore(image=images[0], frame=0, score=0.9),)
    first = result([finding(0.9, evidence=evidence)], images=images[:1])
    second = result(
        [finding(0.9, evidence=evidence)],
        images=images,
        revision=2,
        concluded_at=first.concluded_at + timedelta(minutes=5),
        predecessors=(predecessor(),),
        software="0.2.0",
    )
    header = source_header(images[0], **SOURCES[source])
    files = [tmp_path / "source.dcm"]
    dcmwrite(files[0], header, enforce_file_format=True)
    for r in (first, second):
        for obj in every_object(r, header, pictures_for(r)):
            files.append(tmp_path / f"{obj.kind.value}{r.revision}.dcm")
            files[-1].write_bytes(obj.content)
    assert complaints(ask("dcentvfy", *files)) == []


# ── the guard ───────────────────────────────────────────────────────────────

STRANGER = image_ref(99)


@pytest.mark.parametrize("kind", COMPOSED)
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"PatientID": "PAT-0002"}, "another patient"),
        ({"PatientID": None}, "another patient"),
        ({"IssuerOfPatientID": "Elsewhere"}, "another patient"),
        ({"StudyInstanceUID": "1.2.3"}, "another study"),
        ({"SOPInstanceUID": "1.2.3"}, "not among"),
    ],
)
def test_a_source_of_somebody_else_is_never_composed(
    changes: dict[str, Any], complaint: str, kind: ObjectKind
) -> None:
    """Whether it is the only source or stands behind the right one."""
    wrong = source_header(**changes)
    for sources in ([wrong], [source_header(), wrong]):
        with pytest.raises(Permanent, match=complaint):
            compose(result(), sources, kinds=[kind])


@pytest.mark.parametrize("kind", COMPOSED)
@pytest.mark.parametrize(
    "made_from",
    [
        result(
            [finding(0.9, evidence=(FrameScore(image=STRANGER, frame=0, score=1.0),))]
        ),
        result(unreadable=(unreadable(image=STRANGER),)),
        result(
            [
                finding(
                    0.9,
                    evidence=(
                        FrameScore(
                            image=image_ref(sha256="0" * 64), frame=0, score=1.0
                        ),
                    ),
                )
            ]
        ),
    ],
    ids=["evidence", "unreadable", "another version"],
)
def test_no_reference_leaves_the_revision(made_from: Result, kind: ObjectKind) -> None:
    with pytest.raises(Permanent, match="not among"):
        compose(made_from, [source_header()], kinds=[kind])


@pytest.mark.parametrize("kind", COMPOSED)
def test_no_picture_comes_from_elsewhere(kind: ObjectKind) -> None:
    stranger = Picture(pixels=np.zeros((8, 8), np.uint8), image=STRANGER)
    with pytest.raises(Permanent, match="not among"):
        compose(result(), [source_header()], [stranger], kinds=[kind])


@pytest.mark.parametrize("kind", COMPOSED)
@pytest.mark.parametrize("patient", [patient_digest("PAT-0002", "Hospital"), ""])
def test_no_report_of_another_patient_is_superseded(
    patient: str, kind: ObjectKind
) -> None:
    """Nor one of whom nobody knows: it would lead out of this chart."""
    former = predecessor(patient=patient)
    with pytest.raises(Permanent, match="predecessor belongs to another patient"):
        compose(result(predecessors=(former,)), [source_header()], kinds=[kind])


def test_without_a_source_nothing_is_composed() -> None:
    with pytest.raises(Permanent, match="at least one source"):
        compose(result(), [])


def test_a_patient_without_an_id_is_still_a_patient() -> None:
    nobody = source_header(PatientID=None, IssuerOfPatientID=None)
    objects = compose(result(patient=patient_digest("", "")), [nobody])
    assert [dcmread(BytesIO(o.content)).PatientID or "" for o in objects] == ["", ""]


# ── the same bytes ──────────────────────────────────────────────────────────


SCRIPT = """
import time
from tests.unit.sr_writer.test_compose import *
time.time = lambda: 4e9
r = everything_at_once()
for o in every_object(r, source_header(), pictures_for(r)):
    print(o.sop_instance_uid, o.sha256)
"""


def test_another_process_at_another_time_and_place_gives_the_same_bytes() -> None:
    """All five kinds: neither time zone nor clock nor order of hashes matters."""
    r = everything_at_once()
    here = every_object(r, source_header(), pictures_for(r))
    environment = os.environ | {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}  # noqa: TID251
    there = run(
        [executable, "-W", "ignore", "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
    ).stdout
    assert len(here) == len(ObjectKind)
    assert there.splitlines() == [f"{o.sop_instance_uid} {o.sha256}" for o in here]


def test_a_result_s_time_zone_does_not_matter() -> None:
    """The same moment, however the ledger gives it back."""
    r = result()
    zone = timezone(timedelta(hours=9))
    same = result(concluded_at=r.concluded_at.astimezone(zone))
    one, two = (compose(x, [source_header()]) for x in (r, same))
    assert [o.content for o in one] == [o.content for o in two]


def test_the_order_of_the_sources_does_not_matter() -> None:
    images: tuple[ImageRef, ...] = (image_ref(1), image_ref(2))
    headers = [
        source_header(image, StudyDescription=f"{n}") for n, image in enumerate(images)
    ]
    evidence = (FrameScore(image=images[1], frame=0, score=0.9),)
    r = result([finding(0.9, evidence=evidence)], images=images)
    one, two = (
        compose(r, order, kinds=REPORT_ONLY) for order in (headers, headers[::-1])
    )
    assert one == two
    assert dcmread(BytesIO(one[0].content)).StudyDescription == "1"


# ── what the caller gets ────────────────────────────────────────────────────


def test_each_kind_comes_once_with_what_the_outbox_needs() -> None:
    for obj in every_object(result(), source_header()):
        dataset: Any = reread(obj)
        assert dataset.SOPInstanceUID == obj.sop_instance_uid
        assert dataset.SeriesInstanceUID == obj.series_uid
        assert dataset.SOPClassUID == obj.sop_class_uid
        assert dataset.file_meta.MediaStorageSOPInstanceUID == obj.sop_instance_uid
    assert [o.kind for o in compose(result(), [source_header()])] == ["SR", "SC"]
    assert compose(result(), [source_header()], kinds=()) == ()


def test_another_title_is_another_object() -> None:
    """The same UID means the same bytes."""
    default, other = (
        compose(result(), [source_header()], kinds=REPORT_ONLY, title=title)[0]
        for title in (FINDINGS_REPORT, IMAGING_MEASUREMENT_REPORT)
    )
    assert default.sop_instance_uid != other.sop_instance_uid
