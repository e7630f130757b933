"""Which run made an object of ours, from its header alone: whose, what of, when, by what.

All objects of a run agree in study, device and time (`sr_writer.document.finish`), so
that they can be put together again where nothing but the objects is left.
"""

from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from dicom_node.domain import (
    ObjectKind,
    SeriesUid,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
)
from dicom_node.domain.identity import INSTANCE_CREATOR_UID
from dicom_node.errors import Permanent
from sr_writer.document import SERIES_NUMBERS
from sr_writer.tree import joined

_KINDS = {number: kind for kind, number in SERIES_NUMBERS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where an object of ours comes from.

    Parameters
    ----------
    pack, device_uid
        What concluded it.
    concluded_at
        The time of its result.
    names
        The instances that it names as its evidence: all of the revision, of a report;
        what is rejected, of a note; none of pictures.
    """

    kind: ObjectKind
    study_uid: StudyUid
    series_uid: SeriesUid
    sop_class_uid: SopClassUid
    sop_instance_uid: SopInstanceUid
    pack: str
    device_uid: str
    concluded_at: datetime
    names: tuple[SopInstanceUid, ...]


def provenance(header: Dataset) -> Provenance:
    """Return where an object comes from.

    Raises
    ------
    Permanent
        If it is none of ours, or damaged.
    """
    if joined(header.get("InstanceCreatorUID")) != INSTANCE_CREATOR_UID:
        raise Permanent("an object that pacsight did not write")
    try:
        (equipment,) = header.ContributingEquipmentSequence
        stamp = joined(equipment.ContributionDateTime)
        return Provenance(
            kind=_KINDS[int(header.SeriesNumber)],
            study_uid=StudyUid(joined(header.StudyInstanceUID)),
            series_uid=SeriesUid(joined(header.SeriesInstanceUID)),
            sop_class_uid=SopClassUid(joined(header.SOPClassUID)),
            sop_instance_uid=SopInstanceUid(joined(header.SOPInstanceUID)),
            pack=joined(equipment.ManufacturerModelName),
            device_uid=joined(equipment.DeviceUID),
            concluded_at=datetime.strptime(stamp, "%Y%m%d%H%M%S.%f%z"),
            names=_named(header),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Permanent("an object of pacsight that is damaged") from error


def _named(header: Dataset) -> tuple[SopInstanceUid, ...]:
    return tuple(
        SopInstanceUid(joined(instance.ReferencedSOPInstanceUID))
        for study in header.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    )
