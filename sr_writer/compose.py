"""Results as DICOM objects: the one verb of this package, and the guard before it.

Composing is a pure function: the same result, headers and pictures give the same
bytes, at any time, on any machine.
"""

from collections.abc import Collection, Iterator, Sequence

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from dicom_node.domain import (
    ALWAYS_COMPOSED,
    Code,
    EncodedObject,
    ImageRef,
    ObjectKind,
    Result,
)
from dicom_node.domain.identity import patient_digest
from dicom_node.errors import Permanent
from sr_writer.capture import encode_capture
from sr_writer.codes import FINDINGS_REPORT, PROCESSING_EQUIPMENT
from sr_writer.document import Basis, Options, text_of
from sr_writer.keyobjects import encode_key_objects
from sr_writer.page import PICTURES_SHOWN, Picture, draw_page
from sr_writer.pdf import encode_pdf
from sr_writer.report import encode_report


def compose(
    result: Result,
    sources: Sequence[Dataset],
    pictures: Sequence[Picture] = (),
    *,
    kinds: Collection[ObjectKind] = ALWAYS_COMPOSED,
    title: Code = FINDINGS_REPORT,
    purpose: Code = PROCESSING_EQUIPMENT,
) -> tuple[EncodedObject, ...]:
    """Return the DICOM objects of a result, the report first.

    Parameters
    ----------
    sources
        Headers of images of the study, without pixels; at least that of the most
        relevant image. Patient, study and order are copied from it.
    pictures
        What to show, the most relevant first.
    kinds
        Which objects the destinations want. Key objects are composed only where
        something is flagged; a rejection note is another verb:
        `sr_writer.rejection.compose_rejection`.
    title
        The report's title.
    purpose
        Purpose of Reference of the contributing equipment.

    Raises
    ------
    Permanent
        Where a source, a reference or a predecessor belongs to another patient or
        study.
    """
    with disable_value_validation():  # what scanners wrote is copied, not judged
        _guard(result, sources, pictures)
        basis = Basis(
            result=result,
            source=_representative(result, sources),
            options=Options(title=title, purpose=purpose),
        )
        objects = _composed(basis, sources, pictures, kinds)
        return tuple(one for one in objects if one is not None)


def _composed(
    basis: Basis,
    sources: Sequence[Dataset],
    pictures: Sequence[Picture],
    kinds: Collection[ObjectKind],
) -> Iterator[EncodedObject | None]:
    if ObjectKind.REPORT in kinds:
        yield encode_report(basis)
    if ObjectKind.KEY_OBJECTS in kinds:
        yield encode_key_objects(basis)
    if not {ObjectKind.CAPTURE, ObjectKind.DOCUMENT} & set(kinds):
        return
    page = draw_page(basis.result, pictures, concluded_at=basis.concluded_at)
    rests_on = _rests_on(basis.result, pictures)
    if ObjectKind.CAPTURE in kinds:
        yield encode_capture(basis, page.pixels, rests_on, sources)
    if ObjectKind.DOCUMENT in kinds:
        yield encode_pdf(basis, page, [image for image, _ in rests_on], sources)


def _rests_on(
    result: Result, pictures: Sequence[Picture]
) -> list[tuple[ImageRef, int]]:
    """Return the frames that the page shows or speaks of; at least one."""
    shown = [(p.image, p.frame) for p in pictures[:PICTURES_SHOWN]]
    return [*shown, *_evidence(result)] or [(result.images[0], 0)]


def _guard(
    result: Result, sources: Sequence[Dataset], pictures: Sequence[Picture]
) -> None:
    """Raise where anything would leave the patient or the study.

    highdicom takes another patient's instance without an error.
    """
    if not sources:
        raise Permanent("composing needs the header of at least one source image")
    images = {image.sop_instance_uid for image in result.images}
    for source in sources:
        patient = patient_digest(
            text_of(source, "PatientID"), text_of(source, "IssuerOfPatientID")
        )
        if patient != result.patient:
            raise Permanent("a source image belongs to another patient")
        if text_of(source, "StudyInstanceUID") != result.study_uid:
            raise Permanent("a source image belongs to another study")
        if text_of(source, "SOPInstanceUID") not in images:
            raise Permanent("a source image is not among the result's images")
    references = [
        *(picture.image for picture in pictures),
        *(image for image, _ in _evidence(result)),
        *(unreadable.image for unreadable in result.unreadable),
    ]
    if not set(references) <= set(result.images):
        raise Permanent("a referenced image is not among the result's images")
    if any(former.patient != result.patient for former in result.predecessors):
        raise Permanent("a predecessor belongs to another patient")


def _representative(result: Result, sources: Sequence[Dataset]) -> Dataset:
    """Return the header of the most relevant image, else of the study's first."""
    by_uid = {text_of(source, "SOPInstanceUID"): source for source in sources}
    preferred = [*(image for image, _ in _evidence(result)), *result.images]
    uids = (image.sop_instance_uid for image in preferred)
    return next(by_uid[uid] for uid in uids if uid in by_uid)


def _evidence(result: Result) -> Iterator[tuple[ImageRef, int]]:
    """Yield the frames that the scores rest on, flagged findings' first."""
    yield from ((e.image, e.frame) for e in result.evidence)
