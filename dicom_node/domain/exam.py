"""How an image was taken, as far as its header says: what packs accept images by.

No identity is among it: who the patient is stays in the spool.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """What the header of an image says of the exam; text in upper case.

    Parameters
    ----------
    modality, body_part, view, sex
        Modality (0008,0060), BodyPartExamined (0018,0015), ViewPosition (0018,5101)
        and PatientSex (0010,0040); empty where absent or unknown.
    age_years
        PatientAge (0010,1010), else from PatientBirthDate to StudyDate; None where
        neither is there.
    orientation
        PatientOrientation (0020,0020), its values joined by a backslash.
    rows, columns
        Rows (0028,0010) and Columns (0028,0011) in pixels; 0 where unknown.
    manufacturer, model
        Manufacturer (0008,0070) and ManufacturerModelName (0008,1090).
    """

    modality: str = ""
    body_part: str = ""
    view: str = ""
    sex: str = ""
    age_years: float | None = None
    orientation: str = ""
    rows: int = 0
    columns: int = 0
    manufacturer: str = ""
    model: str = ""
