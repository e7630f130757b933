"""A Key Object Selection Document: some objects of a study, and why they were chosen.

PS3.3 A.35.4 (Key Object Document, C.17.6.2), TID 2010 of PS3.16. Which objects, under which title,
the callers know: `sr_writer.keyobjects`, `sr_writer.rejection`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from highdicom.sr import ContainerContentItem
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as PydicomCode
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node.domain import EncodedObject, ObjectKind
from sr_writer import codes
from sr_writer.context import context_items
from sr_writer.document import Basis, begin, finish
from sr_writer.items import text_item
from sr_writer.references import (
    Instance,
    instance_reference,
    requests_of,
    study_reference,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """An object that is selected.

    Parameters
    ----------
    image
        Whether it is one: the Value Type of what refers to it.
    frames
        Counted from 1; None for all there are.
    """

    instance: Instance
    image: bool = True
    frames: Sequence[int] | None = None


def encode_selection(
    basis: Basis,
    kind: ObjectKind,
    *,
    title: PydicomCode,
    description: str,
    selected: Sequence[Selected],
) -> EncodedObject:
    """Return the document that names what is selected.

    Parameters
    ----------
    title
        Of CID 7010.
    description
        Why it was selected, in words.
    selected
        Objects of the source's study, each once; at least one.
    """
    document = begin(
        basis, kind, sop_class=KeyObjectSelectionDocumentStorage, modality="KO"
    )
    document.update(
        ContainerContentItem(
            name=title, is_content_continuous=False, template_id="2010"
        )
    )
    document.ContentSequence = [
        *context_items(basis.result.algorithm),
        text_item(codes.KEY_OBJECT_DESCRIPTION, description),
        *(_reference(one) for one in selected),
    ]
    document.ReferencedPerformedProcedureStepSequence = []
    if requests := requests_of(basis.source, basis.study_uid):
        document.ReferencedRequestSequence = requests
    document.CurrentRequestedProcedureEvidenceSequence = [
        study_reference(basis.study_uid, [one.instance for one in selected])
    ]
    return finish(document, basis, kind)


def _reference(selected: Selected) -> Dataset:
    """Return the item that names it: TID 2010, which forbids it a concept name."""
    referred = instance_reference(selected.instance)
    if selected.frames:
        referred.ReferencedFrameNumber = list(selected.frames)
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "IMAGE" if selected.image else "COMPOSITE"
    item.ReferencedSOPSequence = [referred]
    return item
