"""What a document refers to: instances by study and series, and orders.

Hierarchical SOP Instance Reference (PS3.3 C.17.2.1), Referenced Request Sequence
(C.17.2). That nothing leads to another patient, the guard has seen to.
"""

from collections.abc import Iterable
from typing import Protocol

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from dicom_node.domain import SeriesUid, SopClassUid, SopInstanceUid
from sr_writer.document import code_of, text_of, words_of


class Instance(Protocol):
    """What can be referred to: an image of the study, a former object of ours."""

    @property
    def series_uid(self) -> SeriesUid:
        """Return its Series Instance UID."""
        ...

    @property
    def sop_class_uid(self) -> SopClassUid:
        """Return its SOP Class UID."""
        ...

    @property
    def sop_instance_uid(self) -> SopInstanceUid:
        """Return its SOP Instance UID."""
        ...


def study_reference(study_uid: str, instances: Iterable[Instance]) -> Dataset:
    """Return a study item that names the instances, series by series."""
    by_series: dict[str, list[Dataset]] = {}
    for instance in instances:
        item = instance_reference(instance)
        by_series.setdefault(instance.series_uid, []).append(item)
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = []
    for series_uid, items in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = items
        study.ReferencedSeriesSequence.append(series)
    return study


def instance_reference(instance: Instance) -> Dataset:
    """Return an item that names an instance and its class (PS3.3 Table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = instance.sop_class_uid
    item.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return item


def requests_of(source: Dataset, study_uid: str) -> list[Dataset]:
    """Return the orders: Referenced Request Sequence from Request Attributes."""
    return [
        _request(attributes, source, study_uid)
        for attributes in source.get("RequestAttributesSequence") or ()
        if isinstance(attributes, Dataset)
    ]


def _request(attributes: Dataset, source: Dataset, study_uid: str) -> Dataset:
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
    return request
