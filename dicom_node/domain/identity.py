"""Who wrote an object, and whose it is: the identities that all parts agree on.

Own objects are recognised by their Instance Creator UID (0008,0014), patients by
a digest, so that identifiers stay out of the ledger. Pure; knows no DICOM file.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from uuid import NAMESPACE_URL, uuid5

from dicom_node.domain.arrival import Sha256

NAMESPACE = uuid5(NAMESPACE_URL, "pacsight")
"""Namespace of every UUIDv5 of pacsight. Changing it renames every object."""

INSTANCE_CREATOR_UID = f"2.25.{NAMESPACE.int}"
"""Instance Creator UID (0008,0014) of every object that pacsight writes."""

COPIED_KEYWORDS = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Keywords of the patient and study attributes that reports copy as they are."""


def patient_digest(patient_id: str, issuer: str) -> Sha256:
    """Return the digest that stands for a patient.

    Parameters
    ----------
    patient_id, issuer
        PatientID (0010,0020) and IssuerOfPatientID (0010,0021); empty where
        absent. Leading and trailing spaces are not significant (PS3.5 6.2, LO).
    """
    return _digest([patient_id.strip(), issuer.strip()])


def study_attributes_digest(attributes: Mapping[str, str | Sequence[str]]) -> Sha256:
    """Return the digest of the attributes that reports copy.

    Parameters
    ----------
    attributes
        Value by DICOM keyword; several values as a sequence. Keywords outside
        `COPIED_KEYWORDS` are left out, absent and empty values are the same.
    """
    values = {
        keyword: value if isinstance(value, str) else "\\".join(value)
        for keyword, value in attributes.items()
        if keyword in COPIED_KEYWORDS
    }
    trimmed = {keyword: value.strip() for keyword, value in values.items()}
    return _digest({keyword: value for keyword, value in trimmed.items() if value})


def _digest(value: object) -> Sha256:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return Sha256(sha256(text.encode()).hexdigest())
