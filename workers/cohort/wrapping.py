"""Plain images and a table made into radiographs: DICOM, and labels in our schema.

Digital X-Ray Image Storage - For Presentation (PS3.3 A.26), 8 bit, MONOCHROME2,
uncompressed; where the table leaves a view open, all of its images are Computed
Radiography (A.2), which may. What a plain image does not say is left open: its pixel size is unknown,
and the 0.5 mm that the standard demands of a detector are made up. UIDs derive
(2.25, PS3.5 B.2) from what the table says and from the image, so the same images
wrapped again are the same instances.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from dicom_node.errors import Permanent
from workers.placing import Progress

LABELS = "labels.csv"

_NAMESPACE = UUID("0d0c8f4e-56a1-5c0a-8f6e-1f1f0a4d6a11")
_HEADER = "patient,study,sop_instance_uid,finding,label,source"
_SPACING = "0.5"
_MOST_YEARS = 150
_VIEWS = {
    "PA": ("272479007", "SCT", "postero-anterior"),
    "AP": ("399348003", "SCT", "antero-posterior"),
    "LL": ("399173006", "SCT", "left lateral"),
    "RL": ("399198007", "SCT", "right lateral"),
}
_ORIENTATIONS = {"LL": ["A", "F"], "RL": ["P", "F"]}
_REGIONS = {
    "CHEST": ("51185008", "SCT", "Chest"),
    "HAND": ("85562004", "SCT", "Hand"),
    "BREAST": ("76752008", "SCT", "Breast"),
    "HEAD": ("69536005", "SCT", "Head"),
    "ABDOMEN": ("818983003", "SCT", "Abdomen"),
}
_LABELS = {"1": "1", "1.0": "1", "0": "0", "0.0": "0", "-1": "uncertain"}
_LABELS |= {"-1.0": "uncertain", "uncertain": "uncertain", "": "missing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a table are called; one that is not there is left open.

    Parameters
    ----------
    labels
        Findings of an image, joined by ``|``.
    findings
        Columns of one finding each, with 1, 0, uncertain or nothing.
    """

    file: str = "file"
    patient: str = "patient"
    study: str = "study"
    labels: str = "labels"
    sex: str = "sex"
    age: str = "age"
    view: str = "view"
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapping:
    """How a table is read.

    Parameters
    ----------
    columns
        Of the table.
    listed
        Findings that are present where the list of labels names them.
    negative
        Names in that list that say that `listed` are absent; where neither is named,
        nothing is known.
    attributes
        Value by column: the finding ``column=value`` is present where it is that.
    body_part
        Of all images.
    source
        Who said so.
    """

    columns: Columns = field(default_factory=Columns)
    listed: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    body_part: str = "CHEST"
    source: str = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """How many images of how many patients there are now."""

    images: int
    patients: int
    labels: int


def wrap(
    table: Path, images: Path, out: Path, wrapping: Wrapping, *, progress: Progress
) -> Wrapped:
    """Return what was written to the folder `out`: an instance an image, and labels.

    Raises
    ------
    Permanent
        If the table or an image is not what it should be; the line is named.
    """
    rows = list(_rows(table, wrapping))
    views = {row.get(wrapping.columns.view, "").strip().upper() for _, row in rows}
    digital = views <= _VIEWS.keys()
    taken: dict[str, int] = {}
    lines: list[str] = [_HEADER]
    for done, (number, row) in enumerate(rows, start=1):
        where = f"{table}, line {number}"
        source = _Source.of(row, images, wrapping.columns, where)
        instance = _instance(source, wrapping.body_part, digital=digital)
        uid = str(instance.SOPInstanceUID)
        if taken.setdefault(uid, number) != number:
            raise Permanent(f"{where}: the same image stands on line {taken[uid]}")
        instance.save_as(out / f"{uid}.dcm", enforce_file_format=True)
        start = [source.patient, str(instance.StudyInstanceUID), uid]
        for finding, label in _labels(row, wrapping, where).items():
            lines.append(_line([*start, finding, label, wrapping.source]))
        progress("wrapping images", done, len(rows))
    (out / LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    patients = {row[wrapping.columns.patient].strip() for _, row in rows}
    return Wrapped(images=len(rows), patients=len(patients), labels=len(lines) - 1)


def _rows(table: Path, wrapping: Wrapping) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield each row with its line."""
    columns = wrapping.columns
    needed = [columns.file, columns.patient, *columns.findings]
    needed += [columns.labels] if wrapping.listed else []
    needed += [column for column, _ in wrapping.attributes]
    if not (wrapping.listed or columns.findings or wrapping.attributes):
        raise Permanent("name a finding: listed in a column, a column, or column=value")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [n for n in needed if n not in (reader.fieldnames or ())]
            if missing:
                raise Permanent(f"{table}: has no column {missing[0]!r}")
            for row in reader:
                if None in row or None in row.values():
                    raise Permanent(
                        f"{table}, line {reader.line_num}: has not as many columns "
                        "as the header"
                    )
                yield reader.line_num, row
    except OSError as error:
        raise Permanent(f"{table}: {error.strerror}") from error
    except (UnicodeError, csv.Error) as error:
        raise Permanent(f"{table}: not a CSV file ({error})") from error


def _labels(
    row: Mapping[str, str], wrapping: Wrapping, where: str
) -> Mapping[str, str]:
    """Return the label of each finding that a row speaks of."""
    found = {}
    if wrapping.listed:
        named = {name.strip() for name in row[wrapping.columns.labels].split("|")}
        absent = not named.isdisjoint(wrapping.negative)
        for finding in wrapping.listed:
            if finding in named and absent:
                raise Permanent(f"{where}: says that {finding} is there, and is not")
            known = "0" if absent else "missing"
            found[finding] = "1" if finding in named else known
    for finding in wrapping.columns.findings:
        label = _LABELS.get(row[finding].strip().casefold())
        if label is None:
            raise Permanent(f"{where}: {finding} is neither 1, 0, uncertain nor empty")
        found[finding] = label
    for column, value in wrapping.attributes:
        said = row[column].strip()
        known = "1" if said.casefold() == value.casefold() else "0"
        found[f"{column}={value}"] = known if said else "missing"
    return found


def _line(values: Sequence[str]) -> str:
    return ",".join(
        '"' + value.replace('"', '""') + '"' if set(value) & {",", '"'} else value
        for value in values
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Source:
    """An image (H, W) uint8, and what its row says of it."""

    pixels: NDArray[np.uint8]
    digest: str
    lossy: bool
    patient: str
    study: str
    sex: str
    age_years: int | None
    view: str

    @classmethod
    def of(
        cls, row: Mapping[str, str], folder: Path, columns: Columns, where: str
    ) -> "_Source":
        """Return the image that a row is about."""

        def said(column: str) -> str:
            return row.get(column, "").strip()

        patient = said(columns.patient)
        if not patient or not said(columns.file):
            raise Permanent(f"{where}: needs a file and a patient")
        pixels, content, lossy = _read(folder / said(columns.file), where)
        digest = sha256(content).hexdigest()
        return cls(
            pixels=pixels,
            digest=digest,
            lossy=lossy,
            patient=patient,
            study=said(columns.study) or digest,
            sex=_sex(said(columns.sex), where),
            age_years=_age(said(columns.age), where),
            view=said(columns.view).upper(),
        )


def _read(path: Path, where: str) -> tuple[NDArray[np.uint8], bytes, bool]:
    try:
        with Image.open(path) as image:
            lossy = image.format == "JPEG"
            grey = image.convert("L") if image.mode != "L" else image
            pixels = np.asarray(grey, dtype=np.uint8).copy()
        return pixels, path.read_bytes(), lossy
    except UnidentifiedImageError as error:
        raise Permanent(f"{where}: {path} is no image") from error
    except OSError as error:
        raise Permanent(f"{where}: {path}: {error.strerror or error}") from error


def _sex(text: str, where: str) -> str:
    sex = {"MALE": "M", "FEMALE": "F", "OTHER": "O"}.get(text.upper(), text.upper())
    if sex not in ("", "M", "F", "O"):
        raise Permanent(f"{where}: a sex is M, F, O or empty")
    return sex


def _age(text: str, where: str) -> int | None:
    if not text:
        return None
    try:
        years = float(text.upper().removesuffix("Y"))
    except ValueError:
        years = math.nan
    if not 0 <= years <= _MOST_YEARS:
        raise Permanent(f"{where}: an age is a number of years up to {_MOST_YEARS}")
    return int(years)


def _instance(source: _Source, body_part: str, *, digital: bool) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.Modality, ds.BodyPartExamined = "CR", body_part
    if digital:
        ds.SOPClassUID = DigitalXRayImageStorageForPresentation
        ds.Modality = "DX"
        _put_detector(ds, source, body_part)
    ds.SOPInstanceUID = _uid(source, "instance", source.digest)
    ds.StudyInstanceUID = _uid(source, "study")
    ds.SeriesInstanceUID = _uid(source, "series", source.view, source.digest)
    _put_patient(ds, source)
    ds.Manufacturer = "wrapped plain image"
    ds.SeriesNumber = ds.InstanceNumber = "1"
    _put_acquisition(ds, source)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = source.pixels.shape
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    content = source.pixels.tobytes()
    ds.PixelData = content + b"\0" * (len(content) % 2)
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _put_patient(ds: Dataset, source: _Source) -> None:
    """Person and order: pseudonyms, and nothing that is not known."""
    ds.PatientID, ds.PatientName = source.patient, ""
    ds.PatientBirthDate, ds.PatientSex = "", source.sex
    if source.age_years is not None:
        ds.PatientAge = f"{source.age_years:03d}Y"
    for keyword in ("StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        setattr(ds, keyword, "")
    ds.ReferringPhysicianName = ""
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "made of a plain image under a pseudonym"


def _put_acquisition(ds: Dataset, source: _Source) -> None:
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.ContentDate = ds.ContentTime = ""
    ds.ViewPosition = source.view
    ds.PatientOrientation = _ORIENTATIONS.get(source.view, ["L", "F"])
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.WindowCenter, ds.WindowWidth = "128", "256"
    ds.LossyImageCompression = "01" if source.lossy else "00"
    if source.lossy:
        ds.LossyImageCompressionMethod = "ISO_10918_1"
    ds.DerivationDescription = "8-bit plain image"
    ds.BurnedInAnnotation = "NO"
    ds.ImagerPixelSpacing = [_SPACING, _SPACING]


def _put_detector(ds: Dataset, source: _Source, body_part: str) -> None:
    """What a digital detector has to say, and where the beam went."""
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ViewCodeSequence = Items([_code(*_VIEWS[source.view])])
    ds.PositionerType = ""
    ds.ImageLaterality = "U"
    region = _REGIONS.get(body_part)
    ds.AnatomicRegionSequence = Items([_code(*region)] if region else [])
    ds.AcquisitionContextSequence = Items()
    ds.DetectorType = "DIRECT"
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1
    ds.PresentationLUTShape = "IDENTITY"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def _uid(source: _Source, kind: str, *parts: str) -> UID:
    name = "/".join((kind, source.patient, source.study, *parts))
    return UID(f"2.25.{uuid5(_NAMESPACE, name).int}")
