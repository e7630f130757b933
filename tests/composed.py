"""Everything that a result can become: all five kinds of object, composed and re-read."""

from collections.abc import Sequence
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.domain import EncodedObject, ObjectKind, RejectionReason, Result
from sr_writer.compose import compose
from sr_writer.page import Picture
from sr_writer.rejection import compose_rejection

COMPOSED = tuple(kind for kind in ObjectKind if kind is not ObjectKind.REJECTION)


def every_object(
    made_from: Result, header: Dataset, pictures: Sequence[Picture] = ()
) -> tuple[EncodedObject, ...]:
    """Return the objects of a result, and the note that withdraws them all."""
    objects = compose(made_from, [header], pictures, kinds=COMPOSED)
    former = [reread(obj) for obj in objects]
    note = compose_rejection(made_from, former, reason=RejectionReason.WRONG_PATIENT)
    return (*objects, note)


def reread(obj: EncodedObject) -> Dataset:
    """Return an object as a reader gets it."""
    return dcmread(BytesIO(obj.content))
