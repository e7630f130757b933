"""The Structured Report: what a result says, coded, for machines and text viewers.

Comprehensive 3D SR (PS3.3 A.35.13) through highdicom: the document around the content
tree, its evidence, its order and its predecessors.
"""

from collections.abc import Iterable

from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    ContentSequence,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from dicom_node.domain import (
    Completion,
    EncodedObject,
    ImageRef,
    ObjectKind,
    Predecessor,
    Result,
)
from sr_writer import codes
from sr_writer.content import content_tree
from sr_writer.document import (
    MANUFACTURER,
    SERIES_NUMBERS,
    Basis,
    code_of,
    finish,
    nameless_header,
    text_of,
    words_of,
)


def encode_report(basis: Basis) -> EncodedObject:
    """Return the Structured Report of a result."""
    result = basis.result
    root = content_tree(basis)
    # highdicom copies the tree that it is given, node by node: it gets the root alone
    content = root.ContentSequence
    root.ContentSequence = ContentSequence()
    report = Comprehensive3DSR(
        evidence=[_stand_in(result)],
        content=root,
        series_instance_uid=basis.series_uid(ObjectKind.REPORT),
        series_number=SERIES_NUMBERS[ObjectKind.REPORT],
        sop_instance_uid=basis.instance_uid(ObjectKind.REPORT),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=result.completion is Completion.COMPLETE,
        is_final=False,
        requested_procedures=_requests(basis.source, result.study_uid) or None,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=None,
    )
    report.ContentSequence = content
    report.CurrentRequestedProcedureEvidenceSequence = [
        _references(result.study_uid, result.images)
    ]
    if result.predecessors:
        report.PredecessorDocumentsSequence = [
            _references(result.study_uid, result.predecessors)
        ]
    if result.completion is Completion.PARTIAL:
        report.CompletionFlagDescription = "Some images could not be read"
    report.CodingSchemeIdentificationSequence = codes.coding_scheme_identification(
        _schemes(report)
    )
    return finish(report, basis, ObjectKind.REPORT)


# ── references ──────────────────────────────────────────────────────────────


def _references(study_uid: str, objects: Iterable[ImageRef | Predecessor]) -> Dataset:
    """Return a study item of a Hierarchical SOP Instance Reference (C.17.2.1)."""
    by_series: dict[str, list[Dataset]] = {}
    for obj in objects:
        instance = Dataset()
        instance.ReferencedSOPClassUID = obj.sop_class_uid
        instance.ReferencedSOPInstanceUID = obj.sop_instance_uid
        by_series.setdefault(obj.series_uid, []).append(instance)
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = []
    for series_uid, instances in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = instances
        study.ReferencedSeriesSequence.append(series)
    return study


def _stand_in(result: Result) -> Dataset:
    """Return an instance of the study that highdicom can copy from.

    Its class is one that highdicom knows: images of private classes are reported on,
    too. The evidence that is written names the true ones.
    """
    header = nameless_header(result.study_uid)
    header.SOPClassUID = SecondaryCaptureImageStorage
    header.SeriesInstanceUID = result.images[0].series_uid
    header.SOPInstanceUID = result.images[0].sop_instance_uid
    return header


def _requests(source: Dataset, study_uid: str) -> list[Dataset]:
    """Return the orders: Referenced Request Sequence from Request Attributes."""
    requests = []
    for attributes in source.get("RequestAttributesSequence") or ():
        if not isinstance(attributes, Dataset):
            continue
        request = Dataset()
        request.StudyInstanceUID = text_of(attributes, "StudyInstanceUID") or study_uid
        request.ReferencedStudySequence = []
        for keyword in (
            "AccessionNumber",
            "PlacerOrderNumberImagingServiceRequest",
            "FillerOrderNumberImagingServiceRequest",
            "RequestedProcedureID",
            "RequestedProcedureDescription",
        ):
            setattr(request, keyword, words_of(attributes, keyword))
        if not request.AccessionNumber:
            request.AccessionNumber = words_of(source, "AccessionNumber")
        request.RequestedProcedureCodeSequence = [
            CodedConcept.from_code(code)
            for item in attributes.get("RequestedProcedureCodeSequence") or ()
            if (code := code_of(item)) is not None
        ]
        requests.append(request)
    return requests


def _schemes(dataset: Dataset) -> set[str]:
    return {
        str(element.value)
        for element in dataset.iterall()
        if element.keyword == "CodingSchemeDesignator"
    }
