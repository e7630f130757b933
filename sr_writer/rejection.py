"""Rejection notes: former objects of ours are withdrawn, for all who keep them.

IHE Imaging Object Change Management: a Key Object Selection whose title says why, in
the chart that the objects are in. Patient and study come from the objects themselves,
never from the result that made them void.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.domain import (
    Code,
    EncodedObject,
    ObjectKind,
    RejectionReason,
    Result,
    SeriesUid,
    SopClassUid,
    SopInstanceUid,
)
from dicom_node.domain.identity import INSTANCE_CREATOR_UID, patient_digest
from dicom_node.errors import Permanent
from sr_writer import codes
from sr_writer.document import Basis, Options, text_of
from sr_writer.selection import Selected, encode_selection

_TITLES = {
    RejectionReason.SUPERSEDED: codes.REJECTED_FOR_QUALITY,
    RejectionReason.WRONG_PATIENT: codes.REJECTED_FOR_PATIENT_SAFETY,
}


def compose_rejection(
    result: Result,
    rejected: Sequence[Dataset],
    *,
    reason: RejectionReason,
    title: Code = codes.FINDINGS_REPORT,
    purpose: Code = codes.PROCESSING_EQUIPMENT,
) -> EncodedObject:
    """Return the note that withdraws former objects of ours.

    Parameters
    ----------
    result
        What made them void; its time is the note's.
    rejected
        Their headers, at least one, all of one patient and one study.
    title, purpose
        As they are given to `sr_writer.compose.compose` for the result.

    Raises
    ------
    Permanent
        Where one of them is not ours, where they belong to several patients or
        studies, or where what supersedes them belongs to another one.
    """
    with disable_value_validation():  # what scanners wrote is copied, not judged
        former = {one.sop_instance_uid: one for one in map(_former, rejected)}
        former = dict(sorted(former.items()))
        _guard(result, rejected, reason)
        basis = Basis(
            result=result,
            source=max(rejected, key=_age),
            options=Options(title=title, purpose=purpose),
            about=f"{reason}/{'/'.join(former)}",
        )
        report = Basis(result=result, source=basis.source, options=basis.options)
        superseding = report.instance_uid(ObjectKind.REPORT)
        if reason is RejectionReason.SUPERSEDED and superseding in former:
            raise Permanent("a report does not supersede itself")
        return encode_selection(
            basis,
            ObjectKind.REJECTION,
            title=_TITLES[reason],
            description=_description(result, reason, superseding),
            selected=[
                Selected(instance=one, image=_is_image(one)) for one in former.values()
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Former:
    series_uid: SeriesUid
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid


def _former(header: Dataset) -> _Former:
    return _Former(
        series_uid=SeriesUid(text_of(header, "SeriesInstanceUID")),
        sop_class_uid=SopClassUid(text_of(header, "SOPClassUID")),
        sop_instance_uid=SopInstanceUid(text_of(header, "SOPInstanceUID")),
    )


def _guard(
    result: Result, rejected: Sequence[Dataset], reason: RejectionReason
) -> None:
    """Raise where the note would touch what is not ours, or lead into another chart."""
    if not rejected:
        raise Permanent("a rejection note needs at least one rejected object")
    if any(text_of(r, "InstanceCreatorUID") != INSTANCE_CREATOR_UID for r in rejected):
        raise Permanent("an object that is to be rejected was not written by pacsight")
    patients = {_patient(header) for header in rejected}
    studies = {text_of(header, "StudyInstanceUID") for header in rejected}
    if len(patients) > 1:
        raise Permanent("the objects to be rejected belong to several patients")
    if len(studies) > 1:
        raise Permanent("the objects to be rejected belong to several studies")
    if reason is RejectionReason.SUPERSEDED:
        if patients != {result.patient}:
            raise Permanent("a report of another patient is withdrawn, not superseded")
        if studies != {result.study_uid}:
            raise Permanent("a report of another study supersedes nothing in this one")


def _patient(header: Dataset) -> str:
    return patient_digest(
        text_of(header, "PatientID"), text_of(header, "IssuerOfPatientID")
    )


def _age(header: Dataset) -> tuple[str, str, str]:
    """Return what the latest has most of: its patient attributes are the last known."""
    keywords = ("ContentDate", "ContentTime", "SOPInstanceUID")
    date, time, uid = (text_of(header, keyword) for keyword in keywords)
    return date, time, uid


def _is_image(former: _Former) -> bool:
    return str(former.sop_class_uid) == SecondaryCaptureImageStorage


def _description(result: Result, reason: RejectionReason, superseding: str) -> str:
    """Return why; of a wrong patient nothing that leads to the right one."""
    if reason is RejectionReason.WRONG_PATIENT:
        return (
            "AI results that do not belong to this patient: filed here in error."
            " Do not use them."
        )
    return f"Superseded by AI report {superseding} of revision {result.revision}"
