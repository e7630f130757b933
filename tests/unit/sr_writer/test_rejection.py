"""Rejection notes: what is withdrawn, why, and in whose chart."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node.domain import ObjectKind, RejectionReason, Result
from dicom_node.domain.identity import patient_digest
from dicom_node.errors import Permanent
from sr_writer.compose import compose
from sr_writer.rejection import compose_rejection
from tests.builders import (
    ISSUER,
    STUDY_UID,
    digest,
    image_ref,
    result,
    source_header,
)
from tests.composed import COMPOSED, reread
from tests.judges import ask

SUPERSEDED = RejectionReason.SUPERSEDED
WRONG_PATIENT = RejectionReason.WRONG_PATIENT
LATER: dict[str, Any] = {
    "revision": 3,
    "images": (image_ref(1), image_ref(2)),
    "concluded_at": result().concluded_at + timedelta(hours=1),
}
OTHER: dict[str, Any] = {"patient": patient_digest("PAT-0002", ISSUER)}


def written(made_from: Result | None = None, **header: Any) -> list[Dataset]:
    """Return the objects of a former revision, as they lie in the archive."""
    source = source_header(**header)
    objects = compose(made_from or result(), [source], kinds=COMPOSED)
    return [reread(obj) for obj in objects]


def note(
    rejected: Sequence[Dataset] | None = None,
    reason: RejectionReason = SUPERSEDED,
    **changes: Any,
) -> Dataset:
    """Return the note that withdraws them, re-read."""
    new = result(**LATER | changes)
    former = written() if rejected is None else rejected
    return reread(compose_rejection(new, former, reason=reason))


def withdrawn(document: Dataset) -> set[str]:
    """Return the instances that the content tree of a note names."""
    return {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in document.ContentSequence
        if "ReferencedSOPSequence" in item
    }


def description(document: Dataset) -> str:
    """Return the Key Object Description."""
    return next(
        str(item.TextValue)
        for item in document.ContentSequence
        if item.ValueType == "TEXT" and item.RelationshipType == "CONTAINS"
    )


@pytest.mark.parametrize(
    ("reason", "code", "meaning"),
    [
        (SUPERSEDED, "113001", "Rejected for Quality Reasons"),
        (WRONG_PATIENT, "113037", "Rejected for Patient Safety Reasons"),
    ],
)
def test_it_is_a_selection_whose_title_says_why(
    reason: RejectionReason, code: str, meaning: str
) -> None:
    """IHE IOCM; every object stands in the content tree and in the evidence."""
    former = written()
    rn = note(former, reason)
    assert rn.SOPClassUID == KeyObjectSelectionDocumentStorage
    assert (rn.Modality, rn.SeriesNumber) == ("KO", 9004)
    assert rn.ContentQualification == "RESEARCH"
    (title,) = rn.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodeMeaning) == (code, meaning)
    uids = {o.SOPInstanceUID for o in former}
    assert withdrawn(rn) == uids
    (study,) = rn.CurrentRequestedProcedureEvidenceSequence
    listed = {
        (series.SeriesInstanceUID, item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert listed == {(o.SeriesInstanceUID, o.SOPInstanceUID) for o in former}
    assert study.StudyInstanceUID == STUDY_UID


def test_pictures_are_images_and_documents_are_not() -> None:
    rn = note()
    kinds = {
        item.ReferencedSOPSequence[0].ReferencedSOPClassUID.name: item.ValueType
        for item in rn.ContentSequence
        if "ReferencedSOPSequence" in item
    }
    assert kinds == {
        "Secondary Capture Image Storage": "IMAGE",
        "Comprehensive 3D SR Storage": "COMPOSITE",
        "Key Object Selection Document Storage": "COMPOSITE",
        "Encapsulated PDF Storage": "COMPOSITE",
    }


def test_a_superseded_report_is_told_what_supersedes_it() -> None:
    """The UID of the new report, and its revision."""
    new = result(**LATER)
    (report,) = compose(new, [source_header()], kinds=[ObjectKind.REPORT])
    assert description(note()) == (
        f"Superseded by AI report {report.sop_instance_uid} of revision 3"
    )


def test_the_note_is_in_the_chart_that_the_objects_are_in() -> None:
    """Patient and study are the rejected objects', though the result is another's."""
    rn = note(reason=WRONG_PATIENT, **OTHER)
    assert (rn.PatientID, rn.PatientName) == ("PAT-0001", "Doe^Jane")
    assert (rn.StudyInstanceUID, rn.AccessionNumber) == (STUDY_UID, "ACC-0001")
    assert (rn.ContentDate, rn.ContentTime) == ("20260115", "113005.123456")
    assert rn.TimezoneOffsetFromUTC == "+0100"


def test_of_a_wrong_patient_nothing_leads_to_the_right_one() -> None:
    """No UID but those of the rejected objects, the study, the pack and ourselves."""
    new = result(**LATER | OTHER)
    header = source_header(PatientID="PAT-0002", PatientName="Right^Person")
    own = {
        uid
        for obj in compose(new, [header])
        for uid in (obj.sop_instance_uid, obj.series_uid)
    }
    former = written()
    rn = reread(compose_rejection(new, former, reason=WRONG_PATIENT))
    text = str(rn)
    assert not [uid for uid in own if uid in text]
    assert "PAT-0002" not in text
    assert "Right" not in text
    assert "do not belong to this patient" in description(rn)
    uids = {str(e.value) for e in rn.iterall() if e.VR == "UI"}
    known = {str(e.value) for o in former for e in o.iterall() if e.VR == "UI"}
    assert uids - known == {rn.SOPInstanceUID, rn.SeriesInstanceUID}


def test_the_latest_of_the_objects_says_how_the_patient_is_called() -> None:
    """A name that was corrected between two revisions is the corrected one."""
    corrected = result(
        attributes=digest("corrected"),
        concluded_at=result().concluded_at + timedelta(minutes=5),
    )
    former = [*written(corrected, PatientName="Doe^Joan"), *written()]
    assert note(former).PatientName == "Doe^Joan"


# ── what is refused ─────────────────────────────────────────────────────────


def altered(**changes: Any) -> list[Dataset]:
    """Return former objects, the last of them changed."""
    former = written()
    for keyword, value in changes.items():
        setattr(former[-1], keyword, value)
    return former


@pytest.mark.parametrize("reason", RejectionReason)
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"PatientID": "PAT-0002"}, "several patients"),
        ({"IssuerOfPatientID": "Elsewhere"}, "several patients"),
        ({"StudyInstanceUID": "1.2.3"}, "several studies"),
        ({"InstanceCreatorUID": "1.2.3"}, "not written by pacsight"),
        ({"InstanceCreatorUID": ""}, "not written by pacsight"),
    ],
)
def test_what_is_not_ours_or_of_two_charts_is_never_rejected(
    changes: dict[str, Any], complaint: str, reason: RejectionReason
) -> None:
    with pytest.raises(Permanent, match=complaint):
        note(altered(**changes), reason)


def test_an_image_is_never_rejected() -> None:
    with pytest.raises(Permanent, match="not written by pacsight"):
        note([source_header()])


def test_a_note_about_nothing_is_not_written() -> None:
    with pytest.raises(Permanent, match="at least one"):
        note([])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [(OTHER, "another patient"), ({"study_uid": "1.2.3"}, "another study")],
)
def test_nobody_is_told_of_a_report_in_another_chart(
    changes: dict[str, Any], complaint: str
) -> None:
    """A report of another patient is withdrawn; it is not superseded by this one."""
    with pytest.raises(Permanent, match=complaint):
        note(**changes)


def test_a_report_does_not_supersede_itself() -> None:
    with pytest.raises(Permanent, match="supersede itself"):
        compose_rejection(result(), written(), reason=SUPERSEDED)


# ── identity ────────────────────────────────────────────────────────────────


def test_the_same_note_has_the_same_bytes_whatever_order_the_objects_come_in() -> None:
    """Once each, however often they are named."""
    new, former = result(**LATER), written()
    one, two = (
        compose_rejection(new, order, reason=SUPERSEDED)
        for order in (former, [*former[::-1], former[0]])
    )
    assert one == two


def test_another_reason_other_objects_or_another_result_make_another_note() -> None:
    new, former = result(**LATER), written()
    later = result(**LATER | {"outcome": 1})
    notes = [
        compose_rejection(new, former, reason=SUPERSEDED),
        compose_rejection(new, former, reason=WRONG_PATIENT),
        compose_rejection(new, former[:1], reason=SUPERSEDED),
        compose_rejection(later, former, reason=SUPERSEDED),
    ]
    assert len({n.sop_instance_uid for n in notes}) == len(notes)
    assert len({n.series_uid for n in notes}) == len(notes)


def test_another_vendor_renders_it(tmp_path: Path) -> None:
    path = tmp_path / "rn.dcm"
    path.write_bytes(
        compose_rejection(result(**LATER), written(), reason=SUPERSEDED).content
    )
    page = ask("dsr2html", path)
    assert "Rejected for Quality Reasons" in page
    assert "Superseded by AI report 2.25." in page
