"""Builders for the domain's values and for source headers: defaults, keyword overrides.

Each returns a valid value; a test names only what it is about.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
)

from dicom_node.domain import (
    Algorithm,
    AtlasSearch,
    Category,
    Choice,
    Code,
    Completion,
    Estimate,
    Finding,
    Flag,
    FrameScore,
    ImageRef,
    OperatingPoint,
    Predecessor,
    ReferenceCase,
    Result,
    Score,
    SeriesUid,
    Sha256,
    SopClassUid,
    SopInstanceUid,
    StudyUid,
    Unreadable,
    Urgency,
)
from dicom_node.domain.identity import patient_digest

STUDY_UID = StudyUid("1.2.826.0.1.3680043.8.498.1001")
PATIENT_ID = "PAT-0001"
ISSUER = "Hospital"

PNEUMOTHORAX = Code(value="36118008", scheme="SCT", meaning="Pneumothorax")
EFFUSION = Code(value="60046008", scheme="SCT", meaning="Pleural effusion")
NODULE = Code(value="427359005", scheme="SCT", meaning="Solitary nodule of lung")
HEMORRHAGE = Code(value="1386000", scheme="SCT", meaning="Intracranial hemorrhage")
PLEURA = Code(value="3120008", scheme="SCT", meaning="Pleura")
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
BRAIN = Code(value="12738006", scheme="SCT", meaning="Brain")
VIEW = Code(value="111031", scheme="DCM", meaning="Image View")
FRONTAL = Code(value="272479007", scheme="SCT", meaning="postero-anterior")
LATERAL = Code(value="399067008", scheme="SCT", meaning="lateral")
BONE_AGE = Code(value="BONE_AGE", scheme="99PACSIGHT", meaning="Bone age")
MONTH = Code(value="mo", scheme="UCUM", meaning="month")
LEFT = Code(value="7771000", scheme="SCT", meaning="Left")


def digest(text: str) -> Sha256:
    """Return a digest that differs from text to text."""
    return Sha256(sha256(text.encode()).hexdigest())


def image_ref(number: int = 1, **changes: Any) -> ImageRef:
    """Return the reference of a study's image with this number."""
    values: dict[str, Any] = {
        "series_uid": SeriesUid(f"{STUDY_UID}.1"),
        "sop_class_uid": SopClassUid(str(DigitalXRayImageStorageForPresentation)),
        "sop_instance_uid": SopInstanceUid(f"{STUDY_UID}.1.{number}"),
        "sha256": digest(f"image {number}"),
    }
    return ImageRef(**values | changes)


def ct_images(count: int = 28) -> tuple[ImageRef, ...]:
    """Return the references of a CT series."""
    uid = SopClassUid(str(CTImageStorage))
    return tuple(image_ref(n, sop_class_uid=uid) for n in range(1, count + 1))


def cine(frames: int = 30) -> ImageRef:
    """Return the reference of a multi-frame ultrasound image."""
    uid = SopClassUid(str(UltrasoundMultiFrameImageStorage))
    return image_ref(sop_class_uid=uid, frames=frames)


def operating_point(threshold: float = 0.5, **changes: Any) -> OperatingPoint:
    """Return an operating point at this threshold."""
    values: dict[str, Any] = {
        "name": "sens>=0.95",
        "threshold": threshold,
        "threshold_set": "site-2026-01",
        "threshold_set_digest": digest("site-2026-01"),
    }
    return OperatingPoint(**values | changes)


def finding(score: float | Score | None = 0.913, **changes: Any) -> Finding:
    """Return a finding whose flag follows from its score; None: not evaluated."""
    given = Score(value=score) if isinstance(score, float) else score
    point: OperatingPoint = changes.get("operating_point", operating_point())
    values: dict[str, Any] = {
        "key": "pneumothorax",
        "concept": PNEUMOTHORAX,
        "site": PLEURA,
        "score": given,
        "urgency": Urgency.CRITICAL,
    }
    if given is None:
        values |= {
            "operating_point": None,
            "flag": Flag.NOT_EVALUATED,
            "evidence": (),
            "images_scored": 0,
            "reason": "body part ABDOMEN is not validated",
        }
    else:
        values |= {
            "operating_point": point,
            "flag": Flag.ABOVE if given.value >= point.threshold else Flag.BELOW,
            "evidence": (FrameScore(image=image_ref(), frame=0, score=given.value),),
            "images_scored": 1,
        }
    return Finding(**values | changes)


def category(score: float | None = 0.97, **changes: Any) -> Category:
    """Return the view of the chest X-ray; None: not evaluated."""
    values: dict[str, Any] = {
        "key": "view",
        "concept": VIEW,
        "chosen": None,
        "runner_up": None,
        "labels": 4,
        "evidence": (),
        "images_scored": 0,
        "reason": "body part ABDOMEN is not validated",
    }
    if score is not None:
        values |= {
            "chosen": Choice(label=FRONTAL, score=Score(value=score)),
            "runner_up": Choice(label=LATERAL, score=Score(value=1 - score)),
            "evidence": (FrameScore(image=image_ref(), frame=0, score=score),),
            "images_scored": 1,
            "reason": "",
        }
    return Category(**values | changes)


def estimate(value: float | None = 131.25, **changes: Any) -> Estimate:
    """Return the bone age of a hand; None: not evaluated for lack of references."""
    values: dict[str, Any] = {
        "key": "bone-age",
        "concept": BONE_AGE,
        "value": value,
        "spread": None,
        "unit": MONTH,
        "references": 0,
        "validated": False,
        "evidence": (),
        "images_scored": 0,
        "reason": "there are no references",
        "unequipped": value is None,
    }
    if value is not None:
        values |= {
            "spread": 4.5,
            "references": 500,
            "evidence": (FrameScore(image=image_ref(), frame=0, score=value),),
            "images_scored": 1,
            "reason": "",
        }
    return Estimate(**values | changes)


def algorithm(**changes: Any) -> Algorithm:
    """Return a pack's identity."""
    values: dict[str, Any] = {
        "name": "chest-demo",
        "version": "1.2.0",
        "title": "Chest X-ray findings",
        "statement": "",
        "device_uid": "2.25.329800735698586629295641978511506172918",
        "encoder": digest("encoder"),
        "preprocessing": digest("preprocessing"),
        "profile": "float32",
    }
    return Algorithm(**values | changes)


def result(findings: Sequence[Finding] | None = None, **changes: Any) -> Result:
    """Return the result of a chest X-ray with one flagged finding."""
    values: dict[str, Any] = {
        "site": "Test Hospital",
        "study_uid": STUDY_UID,
        "patient": patient_digest(PATIENT_ID, ISSUER),
        "attributes": digest("attributes"),
        "revision": 1,
        "images": (image_ref(),),
        "algorithm": algorithm(),
        "findings": (finding(),) if findings is None else tuple(findings),
        "completion": Completion.COMPLETE,
        "concluded_at": datetime(2026, 1, 15, 9, 30, 5, 123456, tzinfo=UTC),
        "software": "0.1.0",
    }
    return Result(**values | changes)


def predecessor(number: int = 1, **changes: Any) -> Predecessor:
    """Return a former report of ours, of the same patient."""
    values: dict[str, Any] = {
        "series_uid": SeriesUid(f"2.25.{1000 + number}"),
        "sop_class_uid": SopClassUid("1.2.840.10008.5.1.4.1.1.88.34"),
        "sop_instance_uid": SopInstanceUid(f"2.25.{2000 + number}"),
        "patient": patient_digest(PATIENT_ID, ISSUER),
    }
    return Predecessor(**values | changes)


def atlas_search(count: int = 3) -> AtlasSearch:
    """Return the nearest cases of an atlas."""
    names = ("ATL-7QK2M9", "ATL-3XW8P4", "ATL-9BN5T1", "ATL-2HC6R7", "ATL-5LD1V8")
    return AtlasSearch(
        atlas="CXR-ATLAS",
        version="2026.1",
        digest=digest("atlas"),
        metric="cosine",
        cases=tuple(
            ReferenceCase(
                identifier=name,
                similarity=0.95 - 0.03 * i,
                labels=(PNEUMOTHORAX,) if i % 2 == 0 else (PNEUMOTHORAX, EFFUSION),
                established_by="consensus of two readers",
            )
            for i, name in enumerate(names[:count])
        ),
    )


def unreadable(number: int = 1, **changes: Any) -> Unreadable:
    """Return an image that could not be looked at."""
    values: dict[str, Any] = {
        "image": image_ref(number),
        "frame": 0,
        "reason": "no decoder for its transfer syntax",
    }
    return Unreadable(**values | changes)


def source_header(image: ImageRef | None = None, **changes: Any) -> Dataset:
    """Return the header of a chest X-ray, without pixels.

    A keyword set to None leaves the attribute out.
    """
    ref = image or image_ref()
    values: dict[str, Any] = {
        "SOPClassUID": ref.sop_class_uid,
        "SOPInstanceUID": ref.sop_instance_uid,
        "SeriesInstanceUID": ref.series_uid,
        "StudyInstanceUID": STUDY_UID,
        "Modality": "DX",
        "PatientName": "Doe^Jane",
        "PatientID": PATIENT_ID,
        "IssuerOfPatientID": ISSUER,
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "StudyDate": "20260115",
        "StudyTime": "091500",
        "StudyID": "S1",
        "StudyDescription": "Chest PA",
        "AccessionNumber": "ACC-0001",
        "ReferringPhysicianName": "Refer^Rita",
        "BodyPartExamined": "CHEST",
        "BurnedInAnnotation": "NO",
        "Manufacturer": "Scanner Maker",
        "TimezoneOffsetFromUTC": "+0100",
    }
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in (values | changes).items():
        if value is not None:
            setattr(header, keyword, value)
    return header
