"""The identifier of a query for a study, as bytes: PS3.4 C.2.2, PS3.5 7.1.

An audit message holds the query's data set (PS3.15 A.5.3.10). What is written here is
the level and the study that was asked for, not the keys whose values were wanted.
"""

from io import BytesIO

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ImplicitVRLittleEndian

TRANSFER_SYNTAX = str(ImplicitVRLittleEndian)

QUERY_RETRIEVE_LEVEL, STUDY_INSTANCE_UID = 0x00080052, 0x0020000D


def study_identifier(study_uid: str) -> bytes:
    """Return the data set of a query for a study; for all of them where it is empty."""
    uid = study_uid.encode("ascii", "replace").decode().replace("\\", "?")
    identifier = Dataset()
    for tag, vr, value in (
        (QUERY_RETRIEVE_LEVEL, "CS", "STUDY"),
        (STUDY_INSTANCE_UID, "UI", uid),
    ):
        element = DataElement(tag, vr, value, validation_mode=config.IGNORE)
        identifier.add(element)
    buffer = BytesIO()
    dcmwrite(
        buffer,
        identifier,
        implicit_vr=True,
        little_endian=True,
        enforce_file_format=False,
    )
    return buffer.getvalue()
