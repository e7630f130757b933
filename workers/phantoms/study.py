"""Phantoms as DICOM: what a radiography room or a CT scanner would have sent.

Digital X-Ray Image Storage - For Presentation (PS3.3 A.26) and CT Image Storage
(PS3.3 A.3), uncompressed. UIDs derive from kind, seed and matrix (2.25, PS3.5 B.2),
so a phantom made again is the same study.
"""

from datetime import date
from typing import Final
from uuid import UUID, uuid5

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from workers.phantoms.phantom import ChestPhantom, HeadPhantom, Patient, Phantom

CHEST_SIZE: Final = 768
HEAD_SIZE: Final = 512
HEAD_SLICES: Final = 16
_NAMESPACE = UUID("6f6a6f0e-1f0f-5d5e-9a55-7041c5164701")
_VIEWS = {
    "PA": ("272479007", "SCT", "postero-anterior"),
    "AP": ("399348003", "SCT", "antero-posterior"),
}
_FIELD_MM = {"DX": 356.0, "CT": 240.0}
_HEAD_HEIGHT_MM = 150.0


def datasets(
    phantom: Phantom, *, size: int | None = None, slices: int = HEAD_SLICES
) -> tuple[Dataset, ...]:
    """Return the study's instances, each with file meta information.

    Parameters
    ----------
    size
        Rows and columns; by default 768 for a radiograph, 512 for a slice.
    slices
        How many slices a head scan has.
    """
    if isinstance(phantom, ChestPhantom):
        return (_radiograph(phantom, size or CHEST_SIZE),)
    size = size or HEAD_SIZE
    return tuple(
        _slice(phantom, index, slices=slices, size=size) for index in range(slices)
    )


def _radiograph(phantom: ChestPhantom, size: int) -> Dataset:
    ds = _instance(phantom, f"{size}", 1, DigitalXRayImageStorageForPresentation)
    ds.SeriesDescription = f"Chest {phantom.view}"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ViewPosition = phantom.view
    ds.ViewCodeSequence = Sequence([_code(*_VIEWS[phantom.view])])
    ds.PositionerType = ""
    ds.PatientOrientation = ["L", "F"]
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = Sequence([_code("51185008", "SCT", "Chest")])
    ds.AcquisitionContextSequence = Sequence()
    ds.AnodeTargetMaterial = "TUNGSTEN"
    ds.DetectorType = "DIRECT"
    ds.KVP = "120"
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1 if phantom.inverted else 1
    ds.PresentationLUTShape = "INVERSE" if phantom.inverted else "IDENTITY"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    spacing = _decimal(_FIELD_MM["DX"] / size)
    ds.PixelSpacing = ds.ImagerPixelSpacing = [spacing, spacing]
    ds.PhotometricInterpretation = "MONOCHROME1" if phantom.inverted else "MONOCHROME2"
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
    _put_pixels(ds, phantom.pixels(size).astype("<u2").tobytes(), size)
    return ds


def _slice(phantom: HeadPhantom, index: int, *, slices: int, size: int) -> Dataset:
    ds = _instance(phantom, f"{size}/{slices}", index + 1, CTImageStorage)
    level = phantom.levels(slices)[index]
    height = level * _HEAD_HEIGHT_MM
    ds.SeriesDescription = "Head axial without contrast"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.FrameOfReferenceUID = _uid(phantom, f"{size}/{slices}", "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.AcquisitionNumber = "1"
    ds.KVP = "120"
    ds.PatientPosition = "HFS"
    thickness = _decimal(_HEAD_HEIGHT_MM * 0.92 / max(slices - 1, 1))
    ds.SliceThickness = thickness
    half = _decimal(-_FIELD_MM["CT"] / 2)
    ds.ImagePositionPatient = [half, half, _decimal(height)]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.SliceLocation = _decimal(height)
    spacing = _decimal(_FIELD_MM["CT"] / size)
    ds.PixelSpacing = [spacing, spacing]
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = "40", "80"
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
    stored = phantom.pixels(level, size) + 1024
    _put_pixels(ds, stored.astype("<u2").tobytes(), size)
    return ds


def _instance(phantom: Phantom, what: str, number: int, sop_class: UID) -> Dataset:
    """Patient, study, series and equipment, which both objects share."""
    ds = Dataset()
    patient, scanner = phantom.patient, phantom.scanner
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = _uid(phantom, what, f"instance {number}")
    ds.StudyInstanceUID = _uid(phantom, what, "study")
    ds.SeriesInstanceUID = _uid(phantom, what, "series")
    _put_patient(ds, patient)
    ds.Modality = scanner.modality
    ds.Manufacturer = scanner.manufacturer
    ds.ManufacturerModelName = scanner.model
    ds.StationName = scanner.station
    ds.DeviceSerialNumber = f"{scanner.station}-1"
    ds.SoftwareVersions = "1"
    ds.InstitutionName = "Synthetic phantoms"
    chest = isinstance(phantom, ChestPhantom)
    ds.BodyPartExamined = "CHEST" if chest else "HEAD"
    ds.StudyDescription = "Chest radiograph" if chest else "CT head"
    ds.SeriesNumber = "1"
    ds.InstanceNumber = str(number)
    ds.file_meta = _file_meta(ds)
    return ds


def _put_patient(ds: Dataset, patient: Patient) -> None:
    """Person, order and time."""
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = (
        f"{patient.examined:%Y%m%d}"
    )
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = (
        f"{patient.examined:%H%M%S}"
    )
    ds.AccessionNumber = patient.accession
    ds.StudyID = patient.accession[1:]
    ds.ReferringPhysicianName = ""
    ds.PatientName = patient.name
    ds.PatientID = patient.patient_id
    born = patient.examined.year - patient.age_years
    ds.PatientBirthDate = f"{date(born, 1, 1):%Y%m%d}"
    ds.PatientSex = patient.sex
    ds.PatientAge = f"{patient.age_years:03d}Y"


def _file_meta(ds: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _put_pixels(ds: Dataset, pixels: bytes, size: int) -> None:
    ds.SamplesPerPixel = 1
    ds.Rows = ds.Columns = size
    ds.BitsAllocated = 16
    ds.PixelData = pixels
    ds["PixelData"].VR = "OW"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def _uid(phantom: Phantom, what: str, part: str) -> UID:
    name = f"phantoms 1/{phantom.kind}/{phantom.seed}/{what}/{part}"
    return UID(f"2.25.{uuid5(_NAMESPACE, name).int}")


def _decimal(value: float) -> str:
    """At most 16 characters, as DS must be."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
