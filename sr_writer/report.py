"""The Structured Report: what a result says, coded, for machines and text viewers.

Comprehensive 3D SR (PS3.3 A.35.13): the document around the content tree, its evidence,
its order and its predecessors (SR Document General, C.17.2).
"""

from pydicom.uid import Comprehensive3DSRStorage

from dicom_node.domain import Completion, EncodedObject, ObjectKind
from sr_writer.content import content_tree
from sr_writer.document import Basis, begin, finish
from sr_writer.references import requests_of, study_reference


def encode_report(basis: Basis) -> EncodedObject:
    """Return the Structured Report of a result."""
    result, kind = basis.result, ObjectKind.REPORT
    report = begin(basis, kind, sop_class=Comprehensive3DSRStorage, modality="SR")
    report.update(content_tree(basis))
    report.CompletionFlag = result.completion.value
    if result.completion is Completion.PARTIAL:
        report.CompletionFlagDescription = "Some images could not be read"
    report.VerificationFlag = "UNVERIFIED"
    report.PreliminaryFlag = "PRELIMINARY"
    report.ReferencedPerformedProcedureStepSequence = []
    report.PerformedProcedureCodeSequence = []
    if requests := requests_of(basis.source, result.study_uid):
        report.ReferencedRequestSequence = requests
    report.CurrentRequestedProcedureEvidenceSequence = [
        study_reference(result.study_uid, result.images)
    ]
    if result.predecessors:
        report.PredecessorDocumentsSequence = [
            study_reference(result.study_uid, result.predecessors)
        ]
    return finish(report, basis, kind)
