"""The Structured Report: what a result says, coded, for machines and text viewers.

Comprehensive 3D SR (PS3.3 A.35.13) through highdicom: the document around the content
tree, its evidence, its order and its predecessors.
"""

from highdicom.sr import Comprehensive3DSR, ContentSequence
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from dicom_node.domain import (
    Completion,
    EncodedObject,
    ObjectKind,
    Result,
)
from sr_writer.content import content_tree
from sr_writer.document import (
    MANUFACTURER,
    SERIES_NUMBERS,
    Basis,
    finish,
)
from sr_writer.references import requests_of, stand_in, study_reference


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
        requested_procedures=requests_of(basis.source, result.study_uid) or None,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=None,
    )
    report.ContentSequence = content
    report.CurrentRequestedProcedureEvidenceSequence = [
        study_reference(result.study_uid, result.images)
    ]
    if result.predecessors:
        report.PredecessorDocumentsSequence = [
            study_reference(result.study_uid, result.predecessors)
        ]
    if result.completion is Completion.PARTIAL:
        report.CompletionFlagDescription = "Some images could not be read"
    return finish(report, basis, ObjectKind.REPORT)


def _stand_in(result: Result) -> Dataset:
    """Return an instance of the study that highdicom can copy from.

    Its class is one that highdicom knows: images of private classes are reported on,
    too. The evidence that is written names the true ones.
    """
    header = stand_in(result.study_uid, result.images[0])
    header.SOPClassUID = SecondaryCaptureImageStorage
    return header
